"""Rules of what treats the channels of a map apart: pooling, cropping, zero padding, resizing."""

from __future__ import annotations

import numpy as np
from keras import layers
from keras.src.ops import image, nn

from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.axes import channel_axis
from prune_keras.tracing.rules.elementwise import pointwise
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    *named(layers, "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D"),
    *named(layers, "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D"),
    *named(nn, "AveragePool MaxPool AdaptiveAveragePool AdaptiveMaxPool"),
    *named(image, "CropImages ElasticTransform GaussianBlur PadImages Resize"),
)
def spatial(visit: Visit, trace: Trace) -> np.ndarray:
    return _along_channels_only(visit, trace)


@register_rule(
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
def global_pooling(visit: Visit, trace: Trace) -> np.ndarray:
    ids = _along_channels_only(visit, trace)
    return ids if visit.operation.keepdims else ids.reshape(-1)


def _along_channels_only(visit: Visit, trace: Trace) -> np.ndarray:
    """Return the ids along the channel axis; what the layer mixes must not differ elsewhere."""
    axis = channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    shape = [1] * visit.input.rank
    shape[axis] = -1
    return channels.reshape(shape)


# In inference these are the identity, or move positions; in training they do to all channels
# alike what they do.
register_rule(
    *named(
        layers,
        "AutoContrast CenterCrop CutMix RandomContrast RandomCrop RandomElasticTransform "
        "RandomErasing RandomFlip RandomGaussianBlur RandomPerspective RandomRotation "
        "RandomSharpness RandomShear RandomTranslation RandomZoom Resizing",
    )
)(spatial)
register_rule(
    *named(layers, "MixUp RandomBrightness RandomInvert RandomPosterization Solarization")
)(pointwise)
