"""Own weights: plain layers of Keras that hold a variable which a `call` reads by an attribute."""

from __future__ import annotations

import string
from typing import Any

import keras
from keras import layers, ops

from prune_keras import _keras
from prune_keras.tracing.opening.closed import Closed

HALF = ("float16", "bfloat16")


def table(variable: Any, name: str, dtype: Any) -> Any:
    """Return a layer that gives the whole variable to each sample, for an input of ones.

    Args:
        variable: of shape `(...)`.
        name: name of the layer.
        dtype: in which it is read, or the policy of the layer.

    Returns:
        A layer from `(batch,)` to `(batch, ...)`.
    """
    letters = string.ascii_lowercase[: len(variable.shape)]
    equation = f"z,{letters}->z{letters}"
    return product(variable, name, dtype, equation, tuple(variable.shape), (None,))


def scalar(variable: Any, name: str, dtype: Any) -> Any:
    """Return a layer that gives a variable of no axis, a copy of it, to each sample as `(1,)`."""
    value = ops.reshape(variable.value, (1,))
    copy = keras.Variable(value, trainable=variable.trainable, name=variable.name)
    return table(copy, name, dtype)


def ones(tensor: Any, dtype: Any) -> Any:
    """Return a one for each sample of a tensor."""
    zeros = ops.zeros_like(tensor)
    if len(tensor.shape) > 1:
        zeros = ops.sum(zeros, axis=tuple(range(1, len(tensor.shape))))
    return ops.cast(ops.ones_like(zeros), dtype)


def product(variable: Any, name: str, dtype: Any, equation: str, shape: tuple, taken: tuple) -> Any:
    """Return a layer that multiplies what it reads with a variable.

    Args:
        equation: as `keras.layers.EinsumDense` takes it.
        shape: of the output, without the batch and what an ellipsis stands for.
    """
    layer = layers.EinsumDense(
        equation,
        shape,
        kernel_initializer="zeros",
        kernel_regularizer=variable.regularizer,
        kernel_constraint=variable.constraint,
        dtype=_policy(variable, dtype),
        name=name,
    )
    return _keras.adopt(layer, {"_kernel": variable, "bias": None}, taken)


def lookup(variable: Any, name: str, dtype: Any, taken: tuple) -> Any:
    """Return a layer that looks rows of a variable up."""
    layer = layers.Embedding(
        *variable.shape,
        embeddings_initializer="zeros",
        embeddings_regularizer=variable.regularizer,
        embeddings_constraint=variable.constraint,
        dtype=_policy(variable, dtype),
        name=name,
    )
    return _keras.adopt(layer, {"_embeddings": variable}, taken)


def convolution(variable: Any, name: str, dtype: Any, settings: dict, taken: tuple) -> Any:
    """Return a layer that convolves what it reads with a variable, `(..., channels, filters)`."""
    *size, channels, filters = variable.shape
    kind = (layers.Conv1D, layers.Conv2D, layers.Conv3D)[len(size) - 1]
    first = settings.get("data_format") == "channels_first"
    groups = taken[1 if first else -1] // channels
    layer = kind(
        filters, size, groups=groups, **_options(variable, "kernel", settings, name, dtype)
    )
    return _keras.adopt(layer, {"_kernel": variable, "bias": None}, taken)


def depthwise(variable: Any, name: str, dtype: Any, settings: dict, taken: tuple) -> Any:
    """Return a layer that convolves each channel by itself, `(..., channels, multiplier)`."""
    *size, _, multiplier = variable.shape
    kind = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)[len(size) - 1]
    options = _options(variable, "depthwise", settings, name, dtype)
    layer = kind(size, depth_multiplier=multiplier, **options)
    return _keras.adopt(layer, {"kernel": variable, "bias": None}, taken)


def _options(variable: Any, kind: str, settings: dict, name: str, dtype: Any) -> dict:
    return settings | {
        "use_bias": False,
        f"{kind}_initializer": "zeros",
        f"{kind}_regularizer": variable.regularizer,
        f"{kind}_constraint": variable.constraint,
        "dtype": _policy(variable, dtype),
        "name": name,
    }


def _policy(variable: Any, read: Any) -> Any:
    """Return the policy of a layer that holds a variable in its dtype, and computes in another."""
    if isinstance(read, keras.DTypePolicy) or variable.dtype == read:
        return read
    if variable.dtype == "float32" and read in HALF:
        return f"mixed_{read}"
    raise Closed(f"it reads {variable.path}, which is {variable.dtype}, as {read}")
