"""Steps: what a recorded call does for every size of a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.tracing.opening.recording import Closed, Recordings, is_symbolic
from prune_keras.tracing.rules.masked import MaskedCall


@dataclass(frozen=True)
class PerSample:
    """A number that grows with the batch: so many, or such a part, for each of its entries."""

    factor: Fraction


@dataclass(frozen=True)
class Stretched:
    """A constant array that is as long as the batch, and the same for each sample: one of them."""

    sample: np.ndarray


@dataclass(frozen=True)
class Step:
    """One operation that a recorded call runs.

    Args:
        operation: the layer or raw operation.
        args, kwargs: what it is given: symbolic tensors of the recording, constants, `PerSample`.
        settings: what a raw operation is made with; empty for layers.
        outputs: symbolic tensors of the recording.
        batch: the axis along which these are longer for a larger batch, None where there is none.
    """

    operation: Any
    args: tuple
    kwargs: dict
    settings: dict
    outputs: tuple[Any, ...]
    batch: int | None


class Noise(np.ndarray):
    """Numbers that are others each time, in the graph of a call."""


@dataclass(frozen=True)
class Drawn:
    """An array that holds other numbers each time.

    Args:
        array: what it held once.
        grows: whether it is longer for a larger batch, along its first axis.
    """

    array: np.ndarray
    grows: bool

    @property
    def sample(self) -> np.ndarray:
        return (self.array[:1] if self.grows else self.array).view(Noise)


def steps_of(made: Recordings, drawing: bool = False) -> list[Step]:
    """Return what both recordings of a call have in common.

    Args:
        made: the recordings.
        drawing: whether arrays may hold other numbers each time.

    Raises:
        Closed: where they differ by more than the batch.
    """
    merging = _Merging(made, drawing)
    if len(made.first.nodes) != len(made.other.nodes):
        raise Closed("it does something else for a larger batch, or each time")
    return [merging.step(*pair) for pair in zip(made.first.nodes, made.other.nodes, strict=True)]


class _Merging:
    """Makes one of what was recorded for two sizes of a batch."""

    def __init__(self, made: Recordings, drawing: bool) -> None:
        first, other = made.first, made.other
        self._batches, self._drawing = made.batches, drawing
        self._same: dict[int, int] = {}
        self._meet(first.inputs, other.inputs)
        by_variable = {id(variable): tensor for variable, tensor in other.weights}
        for variable, tensor in first.weights:
            self._meet([tensor], [by_variable.get(id(variable))])

    def step(self, first: Any, other: Any) -> Step:
        if type(first.operation) is not type(other.operation):
            raise Closed("it does something else for a larger batch, or each time")
        settings = {}
        if _keras.is_layer(first.operation):
            if not is_made_alike(first.operation, other.operation):
                raise Closed(f"it makes a new {type(first.operation).__name__} each time")
        else:
            settings = self._merged(*(_keras.settings_of(n.operation) for n in (first, other)))
        args = self._merged(first.arguments.args, other.arguments.args)
        kwargs = self._merged(first.arguments.kwargs, other.arguments.kwargs)
        self._meet(first.outputs, other.outputs)
        grown = {self._grown(*pair) for pair in zip(first.outputs, other.outputs, strict=True)}
        if len(grown) > 1:
            raise Closed(f"{first.operation.name} mixes samples")
        (batch,) = grown
        return Step(first.operation, args, kwargs, settings, tuple(first.outputs), batch)

    def _meet(self, first: Sequence, other: Sequence) -> None:
        self._same |= {id(b): id(a) for a, b in zip(first, other, strict=True)}

    def _merged(self, first: Any, other: Any) -> Any:
        """Return what stands for a value that is known for two sizes of a batch."""
        if is_symbolic(first) and is_symbolic(other):
            if self._same.get(id(other)) != id(first):
                raise Closed("it does something else for a larger batch, or each time")
            return first
        if isinstance(first, keras.Variable):
            raise Closed(f"it reads {first.path} in another way than by an attribute of its own")
        if type(first) is type(other) and isinstance(first, list | tuple | dict | slice):
            return self._merged_parts(first, other)
        if is_array(first) and is_array(other):
            return self._merged_arrays(first, other)
        if first is other or equal(first, other):
            return first
        if all(isinstance(each, int | np.integer) for each in (first, other)):
            factors = {
                Fraction(int(n), b) for n, b in zip((first, other), self._batches, strict=True)
            }
            if len(factors) == 1:
                return PerSample(*factors)
        raise Closed("it draws numbers, or computes some from the size of the batch")

    def _merged_parts(self, first: Any, other: Any) -> Any:
        if isinstance(first, slice):
            return slice(
                *(self._merged(*pair) for pair in zip(_of(first), _of(other), strict=True))
            )
        if len(first) != len(other) or (isinstance(first, dict) and first.keys() != other.keys()):
            raise Closed("it does something else for a larger batch, or each time")
        if isinstance(first, dict):
            return {name: self._merged(value, other[name]) for name, value in first.items()}
        parts = [self._merged(*pair) for pair in zip(first, other, strict=True)]
        return tuple(parts) if isinstance(first, tuple) else parts

    def _grown(self, first: Any, other: Any) -> int | None:
        """Return the axis along which a tensor is longer for a larger batch, or None."""
        a, b = tuple(first.shape), tuple(other.shape)
        axes = [axis for axis in range(min(len(a), len(b))) if a[axis] != b[axis]]
        if len(a) == len(b) and not axes:
            return None
        if len(a) == len(b) and len(axes) == 1:
            (axis,) = axes
            if a[axis] * self._batches[1] == b[axis] * self._batches[0]:
                return axis
        raise Closed("it moves the batch")

    def _merged_arrays(self, first: Any, other: Any) -> Any:
        if first is other:
            return first
        a, b = (np.asarray(ops.convert_to_numpy(each)) for each in (first, other))
        if a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
            return first
        long = a.ndim > 0 and a.shape[1:] == b.shape[1:] and (len(a), len(b)) == self._batches
        if long and np.array_equal(a, a[:1].repeat(len(a), 0)) and np.array_equal(a[:1], b[:1]):
            return Stretched(a[:1])
        if self._drawing and (long or a.shape == b.shape):
            return Drawn(a, long)
        raise Closed("it draws numbers, or computes some from the size of the batch")


def is_made_alike(first: Any, other: Any) -> bool:
    """Tell whether two layers are one, or were made by the same call without anything to learn."""
    if first is other or type(first) is not type(other):
        return first is other
    if isinstance(first, MaskedCall):
        return first.layer is other.layer and np.array_equal(first.mask, other.mask)
    configs = [each.get_config() | {"name": None} for each in (first, other)]
    return not first.variables and not other.variables and equal(*configs)


def _of(part: slice) -> tuple:
    return part.start, part.stop, part.step


def is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not is_symbolic(value)


def equal(first: Any, other: Any) -> bool:
    try:
        return bool(first == other)
    except Exception:  # of what cannot be compared, such as tensors of a backend
        return False


def symbolic(step: Step) -> list:
    """Return the symbolic tensors that a step is given."""
    return [each for each in leaves((step.args, step.kwargs)) if is_symbolic(each)]


def leaves(given: Any) -> Iterable[Any]:
    """Yield all that lies in lists, dictionaries and slices."""
    if isinstance(given, slice):
        given = (given.start, given.stop, given.step)
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for part in given:
            yield from leaves(part)
    else:
        yield given


def grows(given: Any) -> bool:
    """Tell whether a number among these grows with the batch."""
    return any(isinstance(each, PerSample) for each in leaves(given))
