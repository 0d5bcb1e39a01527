"""Small backbones of KerasHub with random weights, and what they are called on.

Importing this module does not import KerasHub: each backbone does as it is built.
"""

import keras
import numpy as np
from networks import randomize

IMAGE = (32, 32, 3)
TEXT = dict(
    vocabulary_size=50,
    num_layers=2,
    num_heads=2,
    hidden_dim=8,
    intermediate_dim=16,
    max_sequence_length=12,
)
GEMMA = dict(
    vocabulary_size=50,
    num_layers=2,
    num_query_heads=8,
    num_key_value_heads=4,
    hidden_dim=8,
    intermediate_dim=24,
    head_dim=6,
)
VIT = dict(patch_size=(8, 8), num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16)
MIT = dict(
    layerwise_depths=[1, 1],
    num_layers=2,
    layerwise_num_heads=[1, 2],
    layerwise_sr_ratios=[2, 1],
    max_drop_path_rate=0.1,
    layerwise_patch_sizes=[7, 3],
    layerwise_strides=[4, 2],
    hidden_dims=[8, 16],
)
VIT_DET = dict(
    hidden_size=8,
    num_layers=2,
    intermediate_dim=16,
    num_heads=2,
    global_attention_layer_indices=[1],
    patch_size=4,
    num_output_channels=12,
    window_size=3,
)
ARGUMENTS = {
    "ResNet": dict(
        input_conv_filters=[8],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
    ),
    "VGG": dict(stackwise_num_repeats=[2, 2], stackwise_num_filters=[8, 16]),
    "DenseNet": dict(stackwise_num_repeats=[2, 3], growth_rate=8),
    "Xception": dict(
        stackwise_conv_filters=[[8, 16], [16, 24], [32, 32]],
        stackwise_pooling=[True, True, False],
    ),
    "CSPNet": dict(
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
    "MobileNet": dict(
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
    "EfficientNet": dict(
        stackwise_width_coefficients=[1.0] * 4,
        stackwise_depth_coefficients=[1.0] * 4,
        stackwise_kernel_sizes=[3, 3, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 1],
        stackwise_input_filters=[8, 8, 16, 24],
        stackwise_output_filters=[8, 16, 24, 24],
        stackwise_expansion_ratios=[1, 4, 4, 1],
        stackwise_squeeze_and_excite_ratios=[0.25] * 4,
        stackwise_strides=[1, 2, 2, 1],
        stackwise_block_types=["fused", "unfused", "v1", "cba"],
        num_features=32,
    ),
    "HGNetV2": dict(
        depths=[1, 2],
        embedding_size=8,
        hidden_sizes=[16, 32],
        stem_channels=[3, 8, 8],
        hidden_act="relu",
        use_learnable_affine_block=True,
        stackwise_stage_filters=[(8, 8, 16, 1, 1, 3), (16, 8, 32, 2, 1, 3)],
        apply_downsample=[False, True],
        use_lightweight_conv_block=[False, True],
    ),
    "MiT": MIT,
    "ViT": VIT,
    "DeiT": dict(patch_size=8, num_layers=2, num_heads=2, hidden_dim=8, intermediate_dim=16),
    "ViTDet": VIT_DET,
    "Bert": TEXT,
    "DistilBert": TEXT,
    "Roberta": TEXT,
    "GPT2": TEXT,
    "Gemma": GEMMA,
    "Llama": {**{k: v for k, v in GEMMA.items() if k != "head_dim"}, "hidden_dim": 32},
}


def _segformer(hub):
    encoder = hub.models.MiTBackbone(image_shape=IMAGE, **MIT)
    return hub.models.SegFormerBackbone(image_encoder=encoder, projection_filters=12)


def _gemma2(hub):
    return hub.models.GemmaBackbone(
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        attention_logit_soft_cap=50.0,
        use_sliding_window_attention=True,
        sliding_window_size=3,
        **GEMMA,
    )


def _feature_pyramid(hub):
    """The neck of RetinaNet over a ResNet; KerasHub fixes its width at 256 but for the layer."""
    from keras_hub.src.models.retinanet.feature_pyramid import FeaturePyramid

    encoder = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 16, 16, 24],
        stackwise_num_blocks=[1, 1, 1, 1],
        stackwise_num_strides=[1, 2, 2, 2],
        block_type="basic_block",
        image_shape=(64, 64, 3),
    )
    levels = {f"P{level}": encoder.pyramid_outputs[f"P{level}"] for level in (3, 4, 5)}
    options = dict(num_filters=16, use_batch_norm=True, data_format="channels_last")
    neck = FeaturePyramid(3, 7, False, name="neck", **options)
    return keras.Model(encoder.input, neck(levels))


OTHERS = {"SegFormer": _segformer, "Gemma 2": _gemma2, "RetinaNet neck": _feature_pyramid}
NAMES = (*ARGUMENTS, *OTHERS)
OF_TEXT = ("Bert", "DistilBert", "Roberta", "GPT2", "Gemma", "Gemma 2", "Llama")


def backbone(name: str):
    """Return a small backbone as KerasHub initializes it."""
    import keras_hub as hub

    if name in OTHERS:
        return OTHERS[name](hub)
    given = dict(ARGUMENTS[name])
    if name not in OF_TEXT:
        given["input_shape" if name == "EfficientNet" else "image_shape"] = IMAGE
    return getattr(hub.models, f"{name}Backbone")(**given)


def with_head(name: str):
    """Return a functional model of a backbone's layers with random weights, and three scores."""
    keras.utils.clear_session(free_memory=False)
    inner = backbone(name)
    features = inner.output
    if isinstance(features, dict):
        pooled = features.get("pooled_output")
        features = [*features.values()] if pooled is None else [pooled]
    features = [_pooled(x) for x in keras.tree.flatten(features)]
    x = keras.layers.Concatenate()(features) if len(features) > 1 else features[0]
    model = keras.Model(inner.input, keras.layers.Dense(3, name="scores")(x))
    randomize(model)
    return model


def _pooled(x):
    layers = {4: keras.layers.GlobalAveragePooling2D, 3: keras.layers.GlobalAveragePooling1D}
    return layers[len(x.shape)]()(x) if len(x.shape) in layers else x


def samples(name: str):
    """Return two samples: images, or numbers of words of which some are padding."""
    rng = np.random.default_rng(0)
    if name in OF_TEXT:
        words = rng.integers(1, 50, (2, 10)).astype("int32")
        mask = np.ones((2, 10), "int32")
        mask[1, 7:] = 0
        found = {"token_ids": words, "padding_mask": mask}
        return {**found, "segment_ids": np.zeros_like(words)} if name == "Bert" else found
    size = 64 if name == "RetinaNet neck" else IMAGE[0]
    return rng.normal(size=(2, size, size, 3)).astype("float32")
