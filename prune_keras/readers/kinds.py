"""Kinds of readers: the layers that are linear in a kernel, and what of them may change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from keras import layers

from prune_keras import _keras
from prune_keras.readers.products import Axes

PRODUCTS = (layers.Dense, layers.EinsumDense)
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
LINEAR = (*PRODUCTS, *CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)
ATTENTION = tuple(
    getattr(layers, name)
    for name in ("MultiHeadAttention", "GroupQueryAttention")
    if hasattr(layers, name)
)


def is_linear(layer: Any) -> bool:
    """Tell whether a layer's responses are products of a kernel and of rows of what it reads."""
    plain = not isinstance(layer, layers.EinsumDense) or Axes.of(layer).is_of_matrices
    return plain and isinstance(layer, LINEAR)


def linear_in(operation: Any) -> list:
    """Return the linear layers of an operation, in the order in which they are made.

    That is a layer itself, or the projections of an attention.
    """
    if is_linear(operation):
        return [operation]
    if isinstance(operation, ATTENTION):
        return [each for each in _keras.all_layers(operation)[1:] if is_linear(each)]
    return []


def linear_layers(model: Any) -> Iterator[Any]:
    """Yield each linear layer of a model once, those in layers that were looked into included."""
    seen: set[int] = set()
    for operation in _keras.operations_seen_in(model):
        for layer in linear_in(operation):
            if id(layer) not in seen:
                seen.add(id(layer))
                yield layer


def kernel_of(layer: Any) -> Any:
    """Return the variable that is multiplied by what a layer reads, or by what it made of that.

    With LoRA, responses are of more than that.
    """
    if isinstance(layer, SEPARABLE):
        return layer.pointwise_kernel
    return layer.kernel if isinstance(layer, TRANSPOSED + DEPTHWISE) else _keras.kernel_of(layer)


def learns_kernel(layer: Any) -> bool:
    """Tell whether the kernel is not frozen."""
    return layer.trainable and kernel_of(layer).trainable


def learns_bias(layer: Any) -> bool:
    """Tell whether there is a bias that is not frozen."""
    return layer.bias is not None and layer.trainable and layer.bias.trainable
