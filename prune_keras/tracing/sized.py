"""Sized: constraints and regularizers of users that work for one size of a tensor only.

They are tried on a tensor that is one neuron thinner, along each axis and along all of them, and
on one that is a neuron wider: an array of the present size fits neither, but broadcasts where one
entry is left. What works for one less may need some, as a sum of the largest three does; how many
is searched for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
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
        kind: one of `{"constraint", "regularizer", "activity regularizer"}`.
        path: path of the weight, or of the layer whose output it is called on.
        function: the constraint or regularizer.
        shape: the present shape, with 1 for sizes that are open.
        dtype: of the tensor.
        axes: axis -> `(size,)` neurons along it.
    """

    kind: str
    path: str
    function: Callable[[Any], Any]
    shape: tuple[int, ...]
    dtype: str
    axes: dict[int, np.ndarray]

    def reason(self, *neurons: int) -> str | None:
        """Return why neurons cannot be removed at once, None if the function works without them."""
        thinner = wider = self._whole
        for axis, ids in self.axes.items():
            entries = np.flatnonzero(np.isin(ids, neurons))
            thinner = np.delete(thinner, entries, axis)
            wider = np.concatenate([wider, wider.take(entries, axis)], axis)
        name = getattr(self.function, "__name__", type(self.function).__name__)
        text = f"the {self.kind} {name} of {self.path}"
        if not self._takes_whole:
            return f"{text} cannot be tried on other values"
        if self._takes(thinner) and self._takes(wider):
            return None
        return f"{text} works for its present size only"

    def least(self, axis: int) -> int:
        """Return how many entries must be left along an axis, where any one of them may go."""
        fewer = range(1, self.shape[axis])
        # Most work for one, which is tried first, since large weights take their time.
        if fewer and self._takes(self._whole.take([0], axis)):
            return 1
        return 1 + bisect_left(
            fewer, True, key=lambda count: self._takes(self._whole.take(range(count), axis))
        )

    @cached_property
    def _whole(self) -> np.ndarray:
        # Repeated, since large weights would take their time to draw.
        return np.resize(np.random.default_rng(0).standard_normal(9973, np.float32), self.shape)

    @cached_property
    def _takes_whole(self) -> bool:
        return self._takes(self._whole)

    def _takes(self, value: np.ndarray) -> bool:
        # What it assigns to variables of its own is forgotten with the scope.
        try:
            with keras.StatelessScope():
                found = self.function(self._given(value))
        except Exception:  # whatever a user's own function raises
            return False
        return self.kind != "constraint" or tuple(found.shape) == value.shape

    def _given(self, value: np.ndarray) -> Any:
        """Return what Keras calls the function on: a tensor of outputs, a variable of weights."""
        tensor = keras.ops.convert_to_tensor(value, self.dtype)
        if self.kind == "activity regularizer":
            return tensor
        return keras.Variable(lambda *_, **__: tensor, value.shape, self.dtype, name="trial")


def size_bound(record: Record, roots: np.ndarray, reasons: dict[int, str]) -> list[tuple]:
    """Add reasons of neurons that no function of a user works without, one by one or at once.

    Args:
        record: what was recorded.
        roots: the root of each id.
        reasons: root -> why it stays; grows.

    Returns:
        `(roots along an axis, entries that must be left of them)` of what functions need.
    """
    least = []
    for trial in _trials(record, roots):
        for ids in trial.axes.values():
            neurons, counts = np.unique(ids, return_counts=True)
            for count in np.unique(counts) if len(neurons) > 1 else ():
                alike = neurons[counts == count].tolist()
                _fix(reasons, trial, [alike])
        _fix(reasons, trial, [np.unique(ids).tolist() for ids in trial.axes.values()])
        least += [(ids, trial.least(axis)) for axis, ids in trial.axes.items()]
    return least


def _fix(reasons: dict[int, str], trial: Trial, sets: list[list[int]]) -> None:
    """Fix neurons that are free, if a function does not work without the first of each set."""
    free = [[n for n in each if n not in reasons] for each in sets]
    firsts = [each[0] for each in free if each]
    reason = trial.reason(*firsts) if firsts else None
    if reason is not None:
        reasons |= dict.fromkeys((n for each in free for n in each), reason)


def _trials(record: Record, roots: np.ndarray) -> Iterator[Trial]:
    for used in record.used.values():
        variable, axes = used.variable, {axis: roots[ids] for axis, ids in used.axes.items()}
        for kind in ("constraint", "regularizer"):
            function = getattr(variable, kind, None)
            if axes and function is not None and not fits_every_size(function):
                shape = tuple(variable.shape)
                yield Trial(kind, used.path, function, shape, variable.dtype, axes)
    for path, layer, labels in record.regularized:
        function = layer.activity_regularizer
        if not fits_every_size(function):
            ids = roots[labels.ids]
            axes = {1 + axis: _along(ids, axis) for axis in varying_axes(ids)}
            shape = (1, *(1 if size is None else size for size in labels.shape))
            kind, dtype = "activity regularizer", layer.compute_dtype
            yield Trial(kind, path, function, shape, dtype, axes)


def _along(ids: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])[0]
