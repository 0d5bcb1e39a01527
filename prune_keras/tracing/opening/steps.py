"""Steps: what a recorded call does for every size of a batch, in training and in inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.tracing.opening.recording import (
    BATCHES,
    Closed,
    Recording,
    Recordings,
    is_symbolic,
)


@dataclass(frozen=True)
class PerSample:
    """A number that grows with the batch: so many for each sample."""

    factor: int


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
        grows: whether these are longer for a larger batch, along their first axis.
    """

    operation: Any
    args: tuple
    kwargs: dict
    settings: dict
    outputs: tuple[Any, ...]
    grows: bool


def steps_of(made: Recordings) -> list[Step]:
    """Return what all recordings of a call have in common.

    Raises:
        Closed: where they differ by more than the batch, and flags that are handed on.
    """
    merging = _Merging(made.first, made.other)
    if len(made.first.nodes) != len(made.other.nodes):
        raise Closed("it does something else for a larger batch, or each time")
    steps = [merging.step(*pair) for pair in zip(made.first.nodes, made.other.nodes, strict=True)]
    if made.training is made.first:
        return steps
    return [_as_in_training(*pair) for pair in _paired(steps, made.training)]


class _Merging:
    """Makes one of what was recorded for two sizes of a batch."""

    def __init__(self, first: Recording, other: Recording) -> None:
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
            if not _same_layer(first.operation, other.operation):
                raise Closed(f"it makes a new {type(first.operation).__name__} each time")
        else:
            settings = self._merged(*(_keras.settings_of(n.operation) for n in (first, other)))
        args = self._merged(first.arguments.args, other.arguments.args)
        kwargs = self._merged(first.arguments.kwargs, other.arguments.kwargs)
        self._meet(first.outputs, other.outputs)
        grown = {_grown(*pair) for pair in zip(first.outputs, other.outputs, strict=True)}
        if len(grown) > 1:
            raise Closed(f"{first.operation.name} mixes samples")
        return Step(first.operation, args, kwargs, settings, tuple(first.outputs), grown == {True})

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
        if _is_array(first) and _is_array(other):
            return _merged_arrays(first, other)
        if first is other or _equal(first, other):
            return first
        if all(isinstance(each, int | np.integer) for each in (first, other)):
            factor, rest = divmod(int(first), BATCHES[0])
            if not rest and int(other) == factor * BATCHES[1]:
                return PerSample(factor)
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


def _of(part: slice) -> tuple:
    return part.start, part.stop, part.step


def _grown(first: Any, other: Any) -> bool:
    """Tell whether a tensor is longer for a larger batch."""
    a, b = tuple(first.shape), tuple(other.shape)
    if a == b:
        return False
    if len(a) == len(b) and a[1:] == b[1:] and a[0] * BATCHES[1] == b[0] * BATCHES[0]:
        return True
    raise Closed("it moves the batch")


def _same_layer(first: Any, other: Any) -> bool:
    """Tell whether two layers are one, or one of Keras without weights that each call makes."""
    if first is other or type(first) is not type(other):
        return first is other
    if first.variables or not _keras.module_of(type(first)).startswith("keras."):
        return False
    return {**first.get_config(), "name": ""} == {**other.get_config(), "name": ""}


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and not is_symbolic(value)


def _merged_arrays(first: Any, other: Any) -> Any:
    if first is other:
        return first
    a, b = (np.asarray(ops.convert_to_numpy(each)) for each in (first, other))
    if a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"):
        return first
    long = a.ndim > 0 and a.shape[1:] == b.shape[1:] and (len(a), len(b)) == BATCHES
    if long and np.array_equal(a, a[:1].repeat(len(a), 0)) and np.array_equal(a[:1], b[:1]):
        return Stretched(a[:1])
    raise Closed("it draws numbers, or computes some from the size of the batch")


def _equal(first: Any, other: Any) -> bool:
    try:
        return bool(first == other)
    except Exception:  # of what cannot be compared, such as tensors of a backend
        return False


def _paired(steps: list[Step], training: Recording) -> list[tuple[Step, Any]]:
    nodes = training.nodes
    alike = len(steps) == len(nodes) and all(
        type(step.operation) is type(node.operation)
        and (not _keras.is_layer(node.operation) or _same_layer(step.operation, node.operation))
        for step, node in zip(steps, nodes, strict=True)
    )
    if not alike:
        raise Closed("it does something else in training")
    return list(zip(steps, nodes, strict=True))


def _as_in_training(step: Step, node: Any) -> Step:
    """Return a step without the flag that tells training from inference, if it is handed on."""
    kwargs = node.arguments.kwargs
    given = {"training"} & step.kwargs.keys() & kwargs.keys()
    handed = {name for name in given if step.kwargs[name] != kwargs[name]}
    left = {name: value for name, value in step.kwargs.items() if name not in handed}
    return dataclasses.replace(step, kwargs=left)
