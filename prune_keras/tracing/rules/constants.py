"""Constant arrays among the arguments of a raw operation, which lose entries with their channels.

An array that a call was given lies in the graph's node, not in the operation: it becomes a slice of
itself there. What a variable holds is not the call's own, and stays whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, count, varying_axes
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.registry import named
from prune_keras.tracing.visit import Visit

OF_LISTS = named(raw, "Select")  # they take lists of tensors, which may all be constants


@dataclass(frozen=True)
class Constant:
    """A constant array that a call was given.

    Args:
        path: where it lies: a position among the arguments or a keyword, and places in lists.
        value: the array, a list of numbers, a tensor, or a variable.
    """

    path: tuple
    value: Any

    @property
    def shape(self) -> tuple:
        held = self.value
        return tuple(held.shape) if hasattr(held, "shape") else np.shape(held)

    def along(self, axis: int, made: Labels) -> bool:
        """Tell whether it has an entry for each one along an axis of what it is joined into."""
        place = axis - made.rank
        return -place <= len(self.shape) and self.shape[place] > 1

    def slicer(self, axis: int) -> Callable[[np.ndarray], Any]:
        """Return a function of what is kept along an axis that returns what is left."""
        return lambda kept: _sliced(self.value, axis, kept)

    @property
    def is_own(self) -> bool:
        return not isinstance(self.value, keras.Variable)


def constants_of(visit: Visit) -> list[Constant]:
    """Return all constant arrays of one axis or more among the arguments of a call, in order."""
    arguments = [*enumerate(visit.args), *visit.kwargs.items()]
    lists = isinstance(visit.operation, OF_LISTS)
    found = (each for place, value in arguments for each in _constants((place,), value, lists))
    return [constant for constant in found if constant.shape]


def _constants(path: tuple, value: Any, lists: bool) -> Iterable[Constant]:
    if isinstance(value, Labels | str | dict) or value is None:
        return
    if isinstance(value, list | tuple) and (lists or not _is_array(value)):
        for place, part in enumerate(value):
            yield from _constants((*path, place), part, False)
    else:
        yield Constant(path, value)


def _is_array(value: list | tuple) -> bool:
    """Tell whether nested lists hold numbers only, as an array."""
    return all(isinstance(each, int | float | complex) for each in keras.tree.flatten(value))


def labelled(visit: Visit, trace: Trace, value: Any) -> Labels:
    """Return labels for what a layer takes for a tensor; a constant stays whole."""
    if isinstance(value, Labels):
        return value
    shape = Constant((), value).shape[1:]
    reason = f"{visit.path} is given a constant for one of its tensors"
    return Labels(trace.nothing(len(shape), reason), shape)


def slice_along(visit: Visit, trace: Trace, cuts: list[tuple[Constant, int, np.ndarray]]) -> None:
    """Let constants lose entries: `(constant, axis, ids along it)` for each of them."""
    for constant, _, ids in cuts:
        if not constant.is_own:
            trace.fix(ids, f"{visit.path} joins them with a variable, {constant.value.path}")
    cuts = [cut for cut in cuts if cut[0].is_own]
    if not cuts:
        return
    ends = np.cumsum([len(ids) for *_, ids in cuts])[:-1]

    def arguments(kept: np.ndarray) -> Any:
        parts = zip(cuts, np.split(kept, ends), strict=True)
        changes = {each.path: each.slicer(axis)(part) for (each, axis, _), part in parts}
        return _keras.with_arguments(visit.node, changes)

    trace.setting(visit.node, "arguments", np.concatenate([ids for *_, ids in cuts]), arguments)


def join_constants(visit: Visit, trace: Trace, made: Labels) -> None:
    """Let constant arrays with an entry for each channel lose those of the ones that go."""
    axes, cuts = varying_axes(made.ids), []
    for constant in constants_of(visit):
        for axis in (each for each in axes if constant.along(each, made)):
            ids = trace.along(made, axis, visit.path)
            cuts.append((constant, axis - made.rank, ids))
    slice_along(visit, trace, cuts)


def _sliced(value: Any, axis: int, kept: np.ndarray) -> Any:
    """Return the entries of an array that are kept along an axis, as what it was."""
    if count(kept) == kept.size:
        return value
    if isinstance(value, np.ndarray):
        return np.compress(kept, value, axis)
    if isinstance(value, list | tuple):
        return np.compress(kept, np.asarray(value), axis).tolist()
    numbers = np.compress(kept, ops.convert_to_numpy(value), axis)
    return ops.convert_to_tensor(numbers, dtype=keras.backend.standardize_dtype(value.dtype))
