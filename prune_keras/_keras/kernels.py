"""Private Keras, kernels: what layers compute with, and whether this machine has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from prune_keras import _backend
from prune_keras._keras.graphs import all_layers

_OPERATIONS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("conv", (layers.Conv1D, layers.Conv2D, layers.Conv3D, ConvLSTMCell)),
    (
        "conv_transpose",
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose),
    ),
    ("depthwise_conv", (layers.DepthwiseConv1D, layers.DepthwiseConv2D)),
    ("separable_conv", (layers.SeparableConv1D, layers.SeparableConv2D)),
    ("max_pool", (layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D)),
    (
        "average_pool",
        (layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    ),
)


@dataclass(frozen=True)
class Missing:
    """A layer that this machine has no kernel for."""

    layer: Any

    def __str__(self) -> str:
        layer = self.layer
        return (
            f"layer {layer.name!r} ({type(layer).__name__}, {layer.data_format}, "
            f"{layer.compute_dtype})"
        )


def missing_kernel(model: Any) -> Missing | None:
    """Return the first layer of a model that this machine has no kernel for, or None."""
    return next((Missing(layer) for layer in all_layers(model) if not _runs(layer)), None)


def check_runs(model: Any) -> None:
    """Raise a ValueError if this machine has no kernel for a layer of the model."""
    missing = missing_kernel(model)
    if missing is not None:
        raise ValueError(
            "A model that is run must have layers that this machine has kernels for. Received: "
            f"{missing} of {model.name!r}, for which {keras.backend.backend()} has none here. "
            "Run it on a GPU, set TF_ENABLE_ONEDNN_OPTS=1 before Python starts, or build it with "
            "data_format='channels_last' in float32."
        )


def _runs(layer: Any) -> bool:
    for operation, kinds in _OPERATIONS:
        if isinstance(layer, kinds):
            return _backend.has_kernel(operation, *_key(layer))
    return True


def _key(layer: Any) -> tuple:
    """Return what a kernel depends on; pooling has a window in place of a kernel."""
    size = getattr(layer, "kernel_size", None) or layer.pool_size
    rank = len(size) if isinstance(size, tuple | list) else layer.rank
    dilation = getattr(layer, "dilation_rate", 1)
    dilated = max(dilation) > 1 if isinstance(dilation, tuple | list) else dilation > 1
    grouped = getattr(layer, "groups", 1) > 1
    return rank, layer.data_format, layer.compute_dtype, dilated, grouped


def batch_scales(model: Any) -> set[int]:
    """Return the ids of the scales of all batch normalizations that have one."""
    found = [each for each in all_layers(model) if isinstance(each, layers.BatchNormalization)]
    return {id(each.gamma) for each in found if each.scale}


def normalizes_units(norm: Any, layer: Any, rank: int) -> bool:
    """Tell whether a batch normalization has a scale for each unit of the layer right before it.

    Args:
        norm: an operation behind the layer.
        layer: what gives its units along its axis of channels.
        rank: of the tensor between them, the batch counted.
    """
    if not isinstance(norm, layers.BatchNormalization):
        return False
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1
    return norm.axis % rank == axis
