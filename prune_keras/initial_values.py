"""Initial values: initializers that hold an array of the old size are given one of the new size.

A layer writes its initializers to its config, and calls them when it is read back. By then the
weights come from the file, so that an initializer need only make the shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from prune_keras import _keras

Cuts = Mapping[int, tuple[tuple[int, np.ndarray], ...]]
"""From the id of a variable to (axis, kept indices) pairs."""


def thin_initializers(model: Any, cuts: Cuts) -> Iterator[tuple[Any, str, Any]]:
    """Yield every initializer that may know a size, as (layer, name, one that makes the new size).

    Those that make the new size yield themselves. Others become the slice of their array, or where
    they hold none, or one that serves weights of several sizes, `GlorotUniform`.
    """
    for layer in _keras.all_layers(model):
        for name, held in list(vars(layer).items()):
            if _is_initializer(name, held) and not fits_every_size(held):
                yield layer, name, _thinner(held, _made_by(name, layer.weights), cuts)


def fits_every_size(function: Any) -> bool:
    """Tell whether an initializer, constraint or regularizer is Keras' own, without an array."""
    own = _keras.module_of(type(function)).startswith("keras.src.")
    return own and not _holds_array(function)


def _holds_array(function: Any) -> bool:
    held = getattr(function, "__dict__", {}).items()
    # PyTorch's tensors have a method where arrays have their size.
    return any(math.prod(np.shape(value)) > 1 for name, value in held if name != "axis")


def _is_initializer(name: str, value: Any) -> bool:
    named = name.endswith("initializer") and callable(value)
    return named or isinstance(value, keras.initializers.Initializer)


def _made_by(name: str, variables: list) -> list:
    """Return the variables that an initializer of this name makes, all where none is called so."""
    begin = name.strip("_").removesuffix("_initializer")
    return [v for v in variables if v.name.startswith(begin)] or variables


def _thinner(initializer: Any, variables: list, cuts: Cuts) -> Any:
    slices = []
    for variable in variables:
        axes = cuts.get(id(variable), ())
        whole = _made(initializer, variable.shape, variable.dtype) if axes else None
        if whole is not None:
            for axis, indices in axes:
                whole = whole.take(indices, axis)
            slices.append(whole)
    if all(_made(initializer, each.shape, each.dtype) is not None for each in slices):
        return initializer
    if _holds_array(initializer):
        thin = keras.initializers.Constant(slices[0])
        if all(_made(thin, each.shape, each.dtype) is not None for each in slices):
            return thin
    return keras.initializers.GlorotUniform()


def _made(initializer: Any, shape: Any, dtype: Any) -> np.ndarray | None:
    """Return what an initializer makes; None if it cannot make this shape."""
    try:
        made = keras.ops.convert_to_numpy(initializer(tuple(shape), dtype=str(dtype)))
    except Exception:  # whatever a user's own function raises
        return None
    return made if made.shape == tuple(shape) else None
