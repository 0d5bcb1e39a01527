"""Drops: a tensor that a recorded call multiplies with zeros and one other number, as it drew."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from keras import layers, ops
from keras.src.ops import numpy as raw

from prune_keras.tracing.opening.recording import is_symbolic
from prune_keras.tracing.opening.steps import Drawn, Step, equal, is_array

_FEWEST = 4  # numbers that were drawn which tell a rate


def dropout_of(factor: np.ndarray, path: str, name: str, dtype: Any) -> Any:
    """Return the Dropout that multiplies by zero or by one other number, as was drawn, or None.

    Args:
        factor: what a tensor was multiplied with, of its rank.
        path: of the layer whose call does; it tells the seed.
        name: name of the Dropout.
        dtype: of the tensor.
    """
    values = factor[factor != 0]
    if factor.size < _FEWEST or not 0 < values.size < factor.size:
        return None
    scale = float(values.mean())
    if scale <= 1 or not np.allclose(values, scale, rtol=1e-3):
        return None
    shape = tuple(1 if size == 1 else None for size in factor.shape)
    seed = zlib.crc32(f"{path}/{name}".encode())
    rate = round(1 - 1 / scale, 6)
    return layers.Dropout(rate, shape if 1 in shape else None, seed, dtype=dtype, name=name)


def multiple_of(step: Step) -> tuple[Any, np.ndarray] | None:
    """Return the tensor that a step multiplies with numbers, and these, of its rank; or None."""
    kind, args = type(step.operation), step.args
    if kind is raw.Where and len(args) == 3 and is_symbolic(args[1]) and not is_symbolic(args[2]):
        tensor, numbers = args[1], args[0]
        if not equal(args[2], 0):
            return None
    elif kind is raw.Multiply and len(args) == 2:
        tensor, numbers = args if is_symbolic(args[0]) else args[::-1]
    elif kind in (raw.Divide, raw.TrueDivide) and len(args) == 2:
        tensor, numbers = args
    else:
        return None
    if not is_symbolic(tensor) or is_symbolic(numbers):
        return None
    factor = _array(numbers, len(tensor.shape))
    if factor is None:
        return None
    with np.errstate(divide="ignore"):
        return tensor, 1 / factor if kind in (raw.Divide, raw.TrueDivide) else factor


def _array(numbers: Any, rank: int) -> np.ndarray | None:
    grows = isinstance(numbers, Drawn) and numbers.grows
    held = getattr(numbers, "array", getattr(numbers, "sample", numbers))
    if not is_array(held) and not isinstance(held, int | float):
        return None
    array = np.asarray(ops.convert_to_numpy(held), np.float64)
    if array.ndim > rank or (grows and array.ndim < rank):
        return None
    return array.reshape((1,) * (rank - array.ndim) + array.shape)
