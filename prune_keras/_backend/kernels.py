"""Backends, kernels: what a backend can run on this machine."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from prune_keras._backend.compiling import eagerly


def optimizer_types() -> tuple[type, ...]:
    """Return the types of optimizers that have state of their own for variables."""
    if keras.backend.backend() == "torch":
        import torch

        return keras.optimizers.Optimizer, torch.optim.Optimizer
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return keras.optimizers.Optimizer, tf.compat.v1.train.Optimizer
    return (keras.optimizers.Optimizer,)


@functools.cache
def has_kernel(
    operation: str, rank: int, data_format: str, dtype: str, dilated: bool, grouped: bool
) -> bool:
    """Tell whether this machine computes an operation; it is tried once, and the answer kept.

    TensorFlow has no kernels for channels in front on processors where it runs without oneDNN,
    and none for some types. Other backends compile what they are asked for.

    Args:
        operation: name of the operation in `keras.ops`.
        rank: number of spatial axes.
        data_format: `"channels_last"` or `"channels_first"`.
        dtype: type it is computed in.
        dilated: whether the kernel is spread.
        grouped: whether channels are convolved in groups.
    """
    if keras.backend.backend() != "tensorflow":
        return True
    import tensorflow as tf

    channels, spatial = 2, [4] * rank
    first = data_format == "channels_first"
    with eagerly():
        x = ops.ones((1, channels, *spatial) if first else (1, *spatial, channels), dtype)
        try:
            _tried(operation, x, [2] * rank, data_format, 2 if dilated else 1, grouped)
        except (tf.errors.OpError, NotImplementedError):
            return False
    return True


def _tried(
    operation: str, x: Any, size: list[int], data_format: str, dilation: int, grouped: bool
) -> None:
    kernel = ops.ones((*size, 1 if grouped else 2, 2), x.dtype)
    options = {"data_format": data_format}
    if operation.endswith("pool"):
        getattr(ops, operation)(x, tuple(size), **options)
    elif operation == "separable_conv":
        pointwise = ops.ones((*[1] * len(size), 4, 2), x.dtype)
        ops.separable_conv(x, kernel, pointwise, dilation_rate=dilation, **options)
    else:
        getattr(ops, operation)(x, kernel, dilation_rate=dilation, **options)
