"""Own weights: plain layers of Keras that hold a variable which a `call` reads by an attribute."""

from __future__ import annotations

import string
from typing import Any

import keras
from keras import layers, ops

from prune_keras import _keras


def table(variable: Any, name: str, dtype: Any) -> Any:
    """Return a layer that gives the whole variable to each sample, for an input of ones.

    Args:
        variable: of shape `(...)`.
        name: name of the layer.
        dtype: policy of the layer.

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
        dtype=dtype,
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
        dtype=dtype,
        name=name,
    )
    return _keras.adopt(layer, {"_embeddings": variable}, taken)
