"""Cut half of the neurons of KerasHub's backbones at random; compare with the silenced original.

KerasHub brings the full TensorFlow, so it needs an environment of its own, from the checkout:

    python3 -m venv .venv-hub
    .venv-hub/bin/pip install keras-hub -e ".[tests]"
    .venv-hub/bin/python benchmarks/hub.py results/keras_hub

Differences are relative to the largest output: from the original with every removed unit silenced,
which must be rounding errors only; from the untouched original, which must not; and from the thin
model saved and read back, which must be zero.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

import hub_rules
import keras
import numpy as np
from keras_hub import models as hub

import prune_keras
from prune_keras.tracing import rule_for

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "conformance"))
from networks import outputs_of, randomize  # noqa: E402
from silenced import Silenced  # noqa: E402

SEED, FRACTION, SIZE = 0, 0.5, 32
IMAGE = (SIZE, SIZE, 3)
TEXT = dict(
    vocabulary_size=50,
    num_layers=2,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=16,
    max_sequence_length=12,
)

BACKBONES = {
    "ResNetBackbone": dict(
        input_conv_filters=[8],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
    ),
    "VGGBackbone": dict(stackwise_num_repeats=[2, 2], stackwise_num_filters=[8, 16]),
    "DenseNetBackbone": dict(stackwise_num_repeats=[2, 3], growth_rate=8),
    "XceptionBackbone": dict(
        stackwise_conv_filters=[[8, 16], [16, 24], [32, 32]],
        stackwise_pooling=[True, True, False],
    ),
    "CSPNetBackbone": dict(
        stem_filters=8,
        stem_kernel_size=3,
        stem_strides=1,
        stackwise_depth=[1, 2, 2],
        stackwise_strides=[1, 2, 2],
        stackwise_num_filters=[8, 16, 32],
        block_type="dark_block",
        stage_type="csp",
        block_ratio=[0.5],
    ),
    "MobileNetBackbone": dict(
        stackwise_expansion=[[16, 24], [32, 48]],
        stackwise_num_blocks=[2, 2],
        stackwise_num_filters=[[8, 8], [16, 16]],
        stackwise_kernel_size=[[3, 3], [5, 5]],
        stackwise_num_strides=[[2, 1], [2, 1]],
        stackwise_se_ratio=[[None, None], [0.25, 0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2, 2]],
        output_num_filters=24,
        input_num_filters=8,
        depthwise_filters=8,
        depthwise_stride=2,
        depthwise_residual=False,
        squeeze_and_excite=0.5,
        last_layer_filter=32,
    ),
    "EfficientNetBackbone": dict(
        stackwise_width_coefficients=[1.0] * 3,
        stackwise_depth_coefficients=[1.0] * 3,
        stackwise_kernel_sizes=[3, 3, 5],
        stackwise_num_repeats=[1, 2, 2],
        stackwise_input_filters=[8, 8, 16],
        stackwise_output_filters=[8, 16, 24],
        stackwise_expansion_ratios=[1, 4, 4],
        stackwise_squeeze_and_excite_ratios=[0.25, 0.25, 0.25],
        stackwise_strides=[1, 2, 2],
        stackwise_block_types=["fused", "unfused", "v1"],
        num_features=32,
    ),
    "HGNetV2Backbone": dict(
        depths=[1, 2],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=False,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, False],
    ),
    "MiTBackbone": dict(
        layerwise_depths=[1, 1],
        num_layers=2,
        layerwise_num_heads=[1, 2],
        layerwise_sr_ratios=[2, 1],
        max_drop_path_rate=0.1,
        layerwise_patch_sizes=[7, 3],
        layerwise_strides=[4, 2],
        hidden_dims=[8, 16],
    ),
    "ViTBackbone": dict(patch_size=(8, 8), num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16),
    "DeiTBackbone": dict(
        patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16
    ),
    "BertBackbone": TEXT,
    "DistilBertBackbone": TEXT,
    "RobertaBackbone": TEXT,
}


def main(folder):
    rows = [row_of(name, arguments) for name, arguments in BACKBONES.items()]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "backbones.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def row_of(name, arguments):
    """Build a backbone with a head, cut it, and say what came of it."""
    keras.utils.clear_session(free_memory=False)
    model = with_head(name, arguments)
    randomize(model)
    graph = prune_keras.trace(model)
    made = graph.producers.values()
    units, free = (sum(map(count, made)) for count in (_units, _prunable))
    without = {type(layer).__name__ for layer in model.layers if rule_for(layer) is None}
    row = {"backbone": name, "units": units, "prunable": free, "share": f"{free / units:.3f}"}
    row |= {"params": graph.cost.params, **(halved(model, graph) if free else NOTHING)}
    row["fixed"] = "; ".join(sorted({fixed.reason for fixed in graph.fixed}))
    row["without a rule"] = " ".join(sorted(without - {"InputLayer"}))
    print(row, flush=True)
    return row


def _units(producer):
    return len(producer.neurons)


def _prunable(producer):
    return int(producer.prunable.sum())


def with_head(name, arguments):
    """Return a plain functional model: the backbone's layers, and scores of three classes."""
    text = arguments is TEXT
    given = arguments if text else {"image_shape": IMAGE, **arguments}
    if name == "EfficientNetBackbone":
        given["input_shape"] = given.pop("image_shape")
    backbone = getattr(hub, name)(**given)
    x = backbone.output
    if isinstance(x, dict):
        x = x.get("pooled_output", [*x.values()][-1])
    x = keras.layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    x = keras.layers.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else x
    inputs = backbone.inputs if len(backbone.inputs) > 1 else backbone.inputs[0]
    return keras.Model(inputs, keras.layers.Dense(3, name="scores")(x))


NOTHING = dict.fromkeys(("params of half", "from silenced", "from original", "read back"), "")


def halved(model, graph):
    """Cut half of the neurons; return how far the outputs are from what they are compared with."""
    rng = np.random.default_rng(SEED)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    plan = prune_keras.select(graph, scores, fraction=FRACTION)
    x = batch_of(model)
    original, silenced = outputs_of(model, x), silenced_outputs(model, graph.producers, plan, x)
    prune_keras.shrink_in_place(model, plan)
    found = outputs_of(model, x)
    values = [model.count_params(), difference(found, silenced), difference(found, original)]
    return dict(zip(NOTHING, [*values, read_back(model, x, found)], strict=True))


def difference(found, expected):
    """Return the largest difference of outputs, relative to the largest output."""
    pairs = zip(found, expected, strict=True)
    return f"{max(np.abs(a - b).max() / np.abs(b).max() for a, b in pairs):.1e}"


def read_back(thin, x, found):
    """Return the difference of the model read back, or which layer Keras cannot make anew."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thin.keras"
        thin.save(path)
        try:
            return difference(outputs_of(keras.models.load_model(path), x), found)
        except TypeError as error:
            return str(error).strip().rsplit("Exception encountered: ", 1)[-1]


def silenced_outputs(model, producers, plan, x):
    """Return the outputs of the model with every removed unit silenced where it is read.

    The reference of the tests does not know KerasHub's encoders: there, the rows that read removed
    units are set to zero by hand.
    """
    if not any(path.endswith(":intermediate") for path in plan.kept):
        return Silenced(model, plan).outputs(x)
    for path, kept in plan.kept.items():
        inside = path.endswith(":intermediate")
        kernel = hub_rules.reader_of(producers[path].layer) if inside else READERS[path](model)
        left = np.isin(range(kernel.shape[0]), kept)
        kernel.assign(keras.ops.convert_to_numpy(kernel) * left[:, None])
    return outputs_of(model, x)


READERS = {"pooled_dense": lambda model: model.get_layer("scores").kernel}


def batch_of(model):
    """Return two samples: images, token ids, or padding masks of ones."""
    rng = np.random.default_rng(SEED)
    return [
        rng.normal(size=(2, *IMAGE)).astype("float32")
        if len(tensor.shape) == 4
        else np.ones((2, 10), "int32")
        if "mask" in tensor.name
        else rng.integers(0, 2, (2, 10)).astype("int32")
        for tensor in model.inputs
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where backbones.csv is written")
    main(parser.parse_args().folder)
