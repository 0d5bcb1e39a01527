"""Every network of keras.applications: built with random weights, cut, exported and trained.

`measured` runs one network through everything and returns a row of numbers; `shortcomings` says
which promises they break. `benchmarks/conformance.py` writes the rows of all networks as a table,
`test_applications.py` runs the small ones.
"""

import inspect
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops
from networks import outputs_of, randomize
from silenced import Silenced

import prune_keras
from prune_keras import _keras

NAMES = (
    *(f"ConvNeXt{size}" for size in ("Base", "Large", "Small", "Tiny", "XLarge")),
    *(f"DenseNet{depth}" for depth in (121, 169, 201)),
    *(f"EfficientNetB{number}" for number in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "L", "M", "S")),
    *("InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Large", "MobileNetV3Small"),
    *("NASNetLarge", "NASNetMobile"),
    *(f"ResNet{depth}{version}" for depth in (50, 101, 152) for version in ("", "V2")),
    *("VGG16", "VGG19", "Xception"),
)
PIXELS = dict.fromkeys(NAMES, 32) | {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
CUTS = {"half at random": 0.5, "30 % by l2": 0.3, "70 % by l2": 0.7}
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
SAMPLES = 4
SUFFIXES = (".keras", ".h5")
WEIGHTED = (layers.Dense, layers.Conv2D, layers.DepthwiseConv2D, layers.SeparableConv2D)


def constructors() -> set[str]:
    """Return the names of all functions in keras.applications that build a network."""
    return {name for name, _ in inspect.getmembers(keras.applications, inspect.isfunction)}


# Networks whose activations stay of the size of one.


def build(name: str, floatx: str = "float32"):
    """Return a network without its classifier's softmax, as Keras initializes it."""
    keras.utils.clear_session()
    keras.config.set_floatx(floatx)
    constructor = getattr(keras.applications, name)
    shape = (PIXELS[name], PIXELS[name], 3)
    return constructor(weights=None, classifier_activation=None, input_shape=shape)


def images(model, count: int, seed: int) -> np.ndarray:
    """Return a batch of noise in the range of pixels."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 255, (count, *model.input_shape[1:])).astype(model.inputs[0].dtype)


def settle(model, seed: int = 3) -> None:
    """Give every weight a random value, such that no depth lets activations vanish or explode.

    Units of a layer differ in norm, as trained ones do. Each kernel is scaled to outputs of a
    deviation of one, and statistics of batch normalization are those of a batch, with noise.
    """
    randomize(model)
    rng = np.random.default_rng(seed)

    def call(visited):
        layer = visited.operation
        if isinstance(layer, layers.Normalization):
            layer.finalize_state()
        if isinstance(layer, layers.BatchNormalization):
            _assign_statistics(layer, visited.args[0], rng)
        if isinstance(layer, WEIGHTED):
            scaled = layer.weights[-1 - layer.use_bias :]
            scaled[0].assign(scaled[0] * rng.uniform(0.4, 1.6, scaled[0].shape[-1]))
            deviation = ops.std(_keras.run(visited))
            for variable in scaled:
                variable.assign(variable / deviation)
        return _keras.run(visited)

    _keras.walk(model, [ops.convert_to_tensor(images(model, 8, seed))], call)


def _assign_statistics(layer, x, rng) -> None:
    mean, variance = ops.moments(x, list(range(len(x.shape) - 1)))
    noise = rng.uniform(0.8, 1.25, (2, x.shape[-1]))
    layer.moving_mean.assign(mean * noise[0])
    layer.moving_variance.assign(variance * noise[1] + 0.1 * ops.mean(variance))


# What is measured of a network.


def measured(name: str) -> dict:
    """Return a row of all that is measured of one network."""
    begun, before = time.perf_counter(), keras.config.floatx()
    try:
        row = {"network": name, "pixels": PIXELS[name], **_measured(name)}
    finally:
        keras.config.set_floatx(before)
    return row | {"seconds": time.perf_counter() - begun}


def _measured(name: str) -> dict:
    model = build(name, "float64")
    settle(model)
    begun = time.perf_counter()
    graph = prune_keras.trace(model)
    row = {"params": model.count_params(), "trace seconds": time.perf_counter() - begun}
    row |= reach(model, graph)
    plans = {cut: planned(model, graph, cut) for cut in CUTS}
    found, thin, wide = exactness(model, plans)
    row |= found | _in_float32(name, model, plans, wide)
    keras.config.set_floatx("float64")
    return row | one_step(model, thin)


def _in_float32(name: str, model, plans, wide: list) -> dict:
    """Return how exact the same network is in float32, by itself and beside float64."""
    narrow = build(name, "float32")
    for old, new in zip(model.variables, narrow.variables, strict=True):
        new.assign(ops.cast(old.value, new.dtype))
    _keras.settle(narrow)
    row, thin, close = exactness(narrow, plans)
    row["float32 rounding"] = max(map(difference, close, wide))
    return row | exported(thin)


def reach(model, graph) -> dict:
    """Return which share of units and parameters can be pruned, and why the rest cannot."""
    units = sum(len(made.neurons) for made in graph.producers.values())
    left = sum(fixed.units for fixed in graph.fixed)
    prunable = np.concatenate([family.neurons for family in graph.families])
    params = model.count_params() - sum(np.prod(v.shape, dtype=int) for v in _known(graph))
    for weight in graph.weights:
        sizes = list(weight.variable.shape)
        for axis, neurons in weight.axes.items():
            sizes[axis] = int((~np.isin(neurons, prunable)).sum())
        params += int(np.prod(sizes))
    reasons = sorted({f"{fixed.path}: {fixed.reason}" for fixed in graph.fixed})
    return {
        "units": units,
        "units reached": 1 - left / units,
        "params reached": 1 - params / model.count_params(),
        "fixed": "; ".join(reasons),
    }


def _known(graph) -> list:
    return [weight.variable for weight in graph.weights]


def planned(model, graph, cut: str):
    """Return the plan of one of `CUTS`."""
    criterion = "l2" if "l2" in cut else "random"
    scores = prune_keras.score(model, criterion, seed=0)
    return prune_keras.select(graph, scores, fraction=CUTS[cut])


def exactness(model, plans) -> tuple:
    """Compare thin models with the silenced original, relative to the largest output.

    Returns:
        What was found, the thin model of the first plan, and the silenced outputs of all plans.
    """
    floatx, x = keras.config.floatx(), images(model, SAMPLES, seed=1)
    (whole,) = outputs_of(model, [x])
    row, silenced = {f"{floatx} largest output": float(np.abs(whole).max())}, []
    row[f"{floatx} deviation"] = float(whole.std(axis=0).mean())
    first = None
    for cut, plan in plans.items():
        (expected,) = Silenced(model, plan).outputs([x])
        thin = prune_keras.shrink(model, plan)
        first = first or thin
        row[f"{floatx} {cut}"] = difference(outputs_of(thin, [x])[0], expected)
        silenced.append(expected)
    row[f"{floatx} least change"] = min(difference(whole, each) for each in silenced)
    return row, first, silenced


def difference(found, expected) -> float:
    """Return how far outputs are apart, relative to the largest one."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


class Observed(keras.optimizers.SGD):
    """Plain gradient descent that keeps the largest entry of every gradient it is given."""

    def apply(self, grads, trainable_variables=None):
        self.seen = [None if g is None else float(ops.max(ops.abs(g))) for g in grads]
        super().apply(grads, trainable_variables)


def one_step(model, thin) -> dict:
    """Train the thin model for one step, and the original for comparison."""
    loss, seen, idle = fitted(thin)
    _, _, idle_before = fitted(model)
    return {
        "loss": loss,
        "gradients": len(seen),
        "gradients not finite": sum(g is None or not np.isfinite(g) for g in seen),
        "gradients of zero": len(idle),
        "of shifts": sum(path.endswith(("/bias", "/beta")) for path in idle),
        "of zero in the original too": len(idle & idle_before),
    }


def fitted(model) -> tuple[float, list, set[str]]:
    """Return the loss of a step, the largest entry of each gradient, and weights without one.

    What shifts a channel ahead of a normalization, which cancels it, has a gradient of rounding
    errors, tiny beside that of the other weights of its layer.
    """
    rng, x = np.random.default_rng(2), images(model, 2 * SAMPLES, seed=2)
    y = rng.normal(size=(len(x), *model.output_shape[1:]))
    model.compile(Observed(1e-3), loss="mse", run_eagerly=True)
    loss = model.fit(x, y, batch_size=len(x), verbose=0).history["loss"][0]
    seen, of_layer = model.optimizer.seen, defaultdict(float)
    paths = [variable.path for variable in model.trainable_variables]
    for path, size in zip(paths, seen, strict=True):
        of_layer[path.rpartition("/")[0]] = max(of_layer[path.rpartition("/")[0]], size or 0)
    idle = {
        path
        for path, size in zip(paths, seen, strict=True)
        if not size or size <= 1e-9 * of_layer[path.rpartition("/")[0]]
    }
    return loss, seen, idle


def exported(model) -> dict:
    """Write a model in both formats; `export` compares all weights and the outputs read back."""
    with tempfile.TemporaryDirectory() as folder:
        return {suffix: _exported(model, Path(folder) / f"model{suffix}") for suffix in SUFFIXES}


def _exported(model, path: Path) -> str:
    try:
        prune_keras.export(model, path)
    except ValueError as error:
        named = [op.name for op in _keras.operations_in(model) if f"'{op.name}'" in str(error)]
        return f"refused: {named[0]}" if named and ".keras" in str(error) else f"failed: {error}"
    return "equal"


def shortcomings(row: dict) -> list[str]:
    """Return the promises that the numbers of a row break."""
    holds = {
        "all outputs are of a sensible size": 1e-2 < row["float64 largest output"] < 1e4,
        "samples have outputs of their own": row["float64 deviation"] > 1e-3,
        "a cut changes outputs": row["float64 least change"] > 1e-3,
        "all but the classifier can be pruned": row["fixed"].count(": ") == 1
        and row["fixed"].endswith("they are an output of the model"),
        "the loss is finite": np.isfinite(row["loss"]),
        "all gradients are finite": row["gradients not finite"] == 0,
        "no gradient is zero that was not": row["gradients of zero"]
        == row["of zero in the original too"],
        "only shifts have no gradient": row["gradients of zero"] == row["of shifts"],
        ".keras is read back": row[".keras"] == "equal",
        ".h5 is read back or refused": row[".h5"].startswith(("equal", "refused: ")),
    }
    for cut in CUTS:
        holds[f"float64, {cut}"] = row[f"float64 {cut}"] <= TOLERANCE["float64"]
        bound = max(TOLERANCE["float32"], row["float32 rounding"])
        holds[f"float32, {cut}"] = row[f"float32 {cut}"] <= bound
    return [promise for promise, held in holds.items() if not held]
