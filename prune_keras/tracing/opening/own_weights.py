"""Own weights: plain layers of Keras that hold a variable which a `call` reads by an attribute."""

from __future__ import annotations

import string
from typing import Any

from keras import layers

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
