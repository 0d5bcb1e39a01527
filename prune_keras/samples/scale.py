"""The scale of a loss, for gradients that float16 would round to zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.samples.moments import exact

FIRST, STRIDE, MOST, LEAST = 15, 4, 63, -33  # powers of two


class Scaled:
    """A step whose loss is multiplied by the largest power of two that float16 bears.

    The first batch is taken again and again to find it, and a later one with a smaller scale where
    something overflows. The step divides its gradients by the scale, in float32. A model that
    computes nothing in float16 is taken at 1.

    Args:
        step: a compiled step that takes the scale, a float32 tensor, as its last argument, and
            returns a dict of tensors.
        model: the model.
    """

    def __init__(self, step: Callable, model: Any) -> None:
        layers = _keras.all_layers(model)
        self._is_needed = any(layer.compute_dtype == "float16" for layer in layers)
        self._step = step
        self._power = FIRST if self._is_needed else 0
        self._rises = self._is_needed

    def __call__(self, *arguments: Any) -> dict[str, Any]:
        found = self._at(self._power, arguments)
        if not self._is_needed:
            return found
        while not _is_finite(found) and self._power > LEAST:
            self._power, self._rises = self._power - STRIDE, False
            found = self._at(self._power, arguments)
        while self._rises and self._power < MOST:
            higher = self._at(self._power + STRIDE, arguments)
            self._rises = _is_finite(higher)
            if self._rises:
                self._power, found = self._power + STRIDE, higher
        self._rises = False
        return found

    def _at(self, power: int, arguments: tuple) -> dict[str, Any]:
        scale = keras.ops.convert_to_tensor(2.0**power, dtype="float32")
        return self._step(*arguments, scale)


def unscaled(slope: Any, scale: Any) -> Any:
    """Return a slope of the scaled loss as it is of the loss, in float32 or with more digits."""
    slope = exact(slope)
    return slope / keras.ops.cast(scale, slope.dtype)


def _is_finite(found: dict[str, Any]) -> bool:
    numbers = [keras.ops.convert_to_numpy(value) for value in found.values()]
    return all(np.isfinite(each).all() for each in numbers)
