"""Sized: constraints and regularizers of users that work for one size of a tensor only.

They are tried on a tensor that is one neuron thinner, and on one that is a neuron wider: an array
of the present size fits neither, but broadcasts where one entry is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from prune_keras.initial_values import fits_every_size
from prune_keras.tracing.labels import varying_axes
from prune_keras.tracing.record import Record


@dataclass(frozen=True)
class Trial:
    """A function that Keras calls on a weight or an output.

    Args:
        text: what it is, as reasons name it.
        function: the constraint or regularizer.
        shape: the present shape, with 1 for sizes that are open.
        dtype: of the tensor.
        axes: axis -> `(size,)` neurons along it.
        keeps_shape: whether it must return a tensor of the same shape.
    """

    text: str
    function: Callable[[Any], Any]
    shape: tuple[int, ...]
    dtype: str
    axes: dict[int, np.ndarray]
    keeps_shape: bool = False

    def reason(self, neuron: int) -> str | None:
        """Return why a neuron cannot be removed, None if the function works without it."""
        whole = np.random.default_rng(0).standard_normal(self.shape, np.float32)
        thinner = wider = whole
        for axis, ids in self.axes.items():
            entries = np.flatnonzero(ids == neuron)
            thinner = np.delete(thinner, entries, axis)
            wider = np.concatenate([wider, wider.take(entries, axis)], axis)
        if not self._takes(whole):
            return f"{self.text} cannot be tried on other values"
        return (
            None
            if self._takes(thinner) and self._takes(wider)
            else f"{self.text} works for its present size only"
        )

    def _takes(self, value: np.ndarray) -> bool:
        # What it assigns to variables of its own is forgotten with the scope.
        try:
            with keras.StatelessScope():
                given = keras.Variable(lambda *_, **__: value, value.shape, self.dtype)
                found = self.function(given)
        except Exception:  # whatever a user's own function raises
            return False
        return not self.keeps_shape or tuple(found.shape) == value.shape


def size_bound(record: Record, roots: np.ndarray, fixed: Iterable[int]) -> dict[int, str]:
    """Return root -> reason of neurons that no function of a user works without.

    Args:
        record: what was recorded.
        roots: the root of each id.
        fixed: roots that stay anyway.
    """
    found: dict[int, str] = {}
    known = set(fixed)
    for trial in _trials(record, roots):
        for ids in trial.axes.values():
            neurons, counts = np.unique(ids, return_counts=True)
            for count in np.unique(counts):
                free = [n for n in neurons[counts == count].tolist() if n not in known]
                reason = trial.reason(free[0]) if free and len(neurons) > 1 else None
                if reason is not None:
                    found |= dict.fromkeys(free, reason)
                    known |= set(free)
    return found


def _trials(record: Record, roots: np.ndarray) -> Iterator[Trial]:
    for used in record.used.values():
        variable, axes = used.variable, {axis: roots[ids] for axis, ids in used.axes.items()}
        for kind in ("constraint", "regularizer"):
            function = getattr(variable, kind, None)
            if axes and function is not None and not fits_every_size(function):
                text = f"the {kind} {_name(function)} of {used.path}"
                shape, keeps = tuple(variable.shape), kind == "constraint"
                yield Trial(text, function, shape, variable.dtype, axes, keeps)
    for path, layer, labels in record.regularized:
        function = layer.activity_regularizer
        if not fits_every_size(function):
            ids = roots[labels.ids]
            axes = {1 + axis: _along(ids, axis) for axis in varying_axes(ids)}
            text = f"the activity regularizer {_name(function)} of {path}"
            shape = (1, *(1 if size is None else size for size in labels.shape))
            yield Trial(text, function, shape, layer.compute_dtype, axes)


def _along(ids: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])[0]


def _name(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
