"""Training: what a recorded call does there, beside what it does in inference.

Mostly the same, but for flags that it hands on. A call may also drop by itself: it multiplies a
tensor with what it drew, zeros and one other number. That is a Dropout of Keras. Else there are
two graphs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from prune_keras import _keras
from prune_keras.tracing.opening.drops import dropout_of, multiple_of
from prune_keras.tracing.opening.recording import (
    Closed,
    Recorder,
    Recording,
    is_symbolic,
)
from prune_keras.tracing.opening.steps import (
    Step,
    Stretched,
    equal,
    is_array,
    is_made_alike,
    steps_of,
)

# Layers of Keras that pass on what they get, but for training.
_PASSING = (
    *(layers.Dropout, layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout),
    *(layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
)


@dataclass(frozen=True)
class Way:
    """A recorded call, and the steps that it consists of."""

    recording: Recording
    steps: list[Step]


def ways_of(layer: Any, args: tuple, kwargs: dict, rows: int = 1) -> tuple[Way, Way | None]:
    """Return what a call of a layer does, and what it does in training if that is something else.

    Args:
        layer: the layer.
        args, kwargs: what it is called with, symbolic tensors among it.
        rows: how many entries along the batch belong to one sample, as windows do.

    Raises:
        Closed: where that cannot be said for every size of a batch.
    """
    recorder = Recorder(layer, args, kwargs, rows)
    made, training = recorder.in_inference(), recorder.in_training()
    inference = Way(made.first, steps_of(made))
    if training is None:
        return inference, None
    once = [Way(each, [*map(_as_step, each.nodes)]) for each in (made.first, training)]
    found = _aligned(layer, once[0], inference, once[1], dropping=False)
    if found is not None:
        return found, None
    both = recorder.in_training_for_both(training)
    other = Way(training, steps_of(both, drawing=True))
    found = _aligned(layer, inference, inference, other, dropping=True)
    if found is not None:
        return found, None
    _check_outputs(inference.recording.outputs, training.outputs)
    return inference, other


def _as_step(node: Any) -> Step:
    """Return a call as it was recorded for one size of a batch."""
    operation, given = node.operation, node.arguments
    settings = {} if _keras.is_layer(operation) else _keras.settings_of(operation)
    return Step(operation, given.args, given.kwargs, settings, tuple(node.outputs), None)


def _check_outputs(first: Any, other: Any) -> None:
    shapes = [[tuple(each.shape) for each in tree.flatten(made)] for made in (first, other)]
    if shapes[0] != shapes[1] or not _is_structured_alike(first, other):
        raise Closed("it returns something else in training")


def _is_structured_alike(first: Any, other: Any) -> bool:
    try:
        tree.assert_same_structure(first, other)
    except (TypeError, ValueError):
        return False
    return True


def _aligned(
    layer: Any, compared: Way, inference: Way, training: Way, dropping: bool
) -> Way | None:
    """Return what a call does in inference, made to do in training what it does there, or None.

    Args:
        layer: the layer.
        compared: what it does in inference, as it was recorded for training.
        inference: the same, of which it is made.
        training: what it does in training.
        dropping: whether layers that do nothing in inference are put in.
    """
    try:
        return _Aligning(layer, dropping).way(compared, inference, training)
    except _Apart:
        return None


class _Apart(Exception):
    """A call does something else in training."""


class _Aligning:
    """Goes through both; of a tensor in training it knows which one it is in inference."""

    def __init__(self, layer: Any, dropping: bool) -> None:
        self._layer, self._dropping = layer, dropping
        self._same: dict[int, Any] = {}  # id of a tensor in training -> that in inference
        self._made: dict[int, Any] = {}  # the same -> what stands for it in both
        self._multiples: dict[int, tuple[Any, np.ndarray]] = {}  # of another one, and by what
        self._steps: list[Step] = []
        self._names = {each.name for each in _keras.all_layers(layer)}

    def way(self, compared: Way, inference: Way, training: Way) -> Way:
        first, other = inference.recording, training.recording
        self._meet(first.inputs, other.inputs)
        known = {id(variable): tensor for variable, tensor in first.weights}
        pairs = [(known.get(id(variable), tensor), tensor) for variable, tensor in other.weights]
        self._meet(*zip(*pairs, strict=True)) if pairs else None
        left = iter(zip(compared.steps, inference.steps, strict=True))
        now = next(left, None)
        for step in training.steps:
            if now is not None and self._takes(*now, step):
                now = next(left, None)
            elif not (self._dropping and (self._passes(step) or self._multiplies(step))):
                raise _Apart
        outputs = first.outputs, other.outputs
        if now is not None or not _is_structured_alike(*outputs) or not self._agree(*outputs):
            raise _Apart
        losses = first.losses or other.losses
        made = dataclasses.replace(first, outputs=self._joined(*outputs), losses=losses)
        return Way(made, self._steps)

    def _meet(self, first: Any, other: Any) -> None:
        for a, b in zip(first, other, strict=True):
            self._same[id(b)] = self._made[id(b)] = a

    def _takes(self, compared: Step, step: Step, other: Step) -> bool:
        """Take a step that is one in inference, too."""
        a, b = compared.operation, other.operation
        alike = is_made_alike(a, b) if _keras.is_layer(a) else type(a) is type(b)
        flagged = {"training"} & compared.kwargs.keys() & other.kwargs.keys()
        kwargs = [
            {name: value for name, value in each.kwargs.items() if name not in flagged}
            for each in (compared, other, step)
        ]
        pairs = [(compared.args, other.args), (kwargs[0], kwargs[1])]
        pairs += [(compared.settings, other.settings)]
        if not alike or not all(self._agree(*pair) for pair in pairs):
            return False
        if all(equal(compared.kwargs[name], other.kwargs[name]) for name in flagged):
            kwargs[2] |= {name: step.kwargs[name] for name in flagged}
        args = self._joined(step.args, other.args)
        given = {n: self._joined(v, other.kwargs[n]) for n, v in kwargs[2].items()}
        self._steps.append(dataclasses.replace(step, args=args, kwargs=given))
        self._meet(step.outputs, other.outputs)
        return True

    def _agree(self, first: Any, other: Any) -> bool:
        if is_symbolic(first) or is_symbolic(other):
            return self._same.get(id(other)) is first
        if isinstance(first, slice) and isinstance(other, slice):
            first, other = ((s.start, s.stop, s.step) for s in (first, other))
        if isinstance(first, list | tuple) and isinstance(other, list | tuple):
            return len(first) == len(other) and all(map(self._agree, first, other))
        if isinstance(first, dict) and isinstance(other, dict):
            names = first.keys() == other.keys()
            return names and all(self._agree(value, other[name]) for name, value in first.items())
        if isinstance(first, Stretched) and isinstance(other, Stretched):
            first, other = first.sample, other.sample
        if is_array(first) and is_array(other):
            a, b = (np.asarray(ops.convert_to_numpy(each)) for each in (first, other))
            return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
        return first is other or equal(first, other)

    def _joined(self, first: Any, other: Any) -> Any:
        """Return arguments in inference, with what stands for their tensors in both."""
        if is_symbolic(other):
            return self._value(other)
        if isinstance(first, list | tuple):
            parts = [self._joined(*pair) for pair in zip(first, other, strict=True)]
            return tuple(parts) if isinstance(first, tuple) else parts
        if isinstance(first, dict):
            return {name: self._joined(value, other[name]) for name, value in first.items()}
        return first

    def _value(self, tensor: Any) -> Any:
        if id(tensor) not in self._made:
            source, factor = self._multiples[id(tensor)]
            made = dropout_of(factor, self._layer.path, self._name(), tensor.dtype)
            if made is None:
                raise _Apart
            layer = made
            self._put(layer, self._value(source), tensor)
        return self._made[id(tensor)]

    def _put(self, layer: Any, given: Any, tensor: Any) -> None:
        """Let a layer that passes on what it gets make what stands for a tensor in both."""
        made = keras.KerasTensor(given.shape, given.dtype)
        self._steps.append(Step(layer, (given,), {}, {}, (made,), 0))
        self._made[id(tensor)] = made

    # What does nothing in inference.

    def _passes(self, step: Step) -> bool:
        given = [*_symbolic(step.args), *_symbolic(step.kwargs)]
        if type(step.operation) not in _PASSING or len(given) != 1 or not self._knows(given[0]):
            return False
        self._put(step.operation, self._value(given[0]), step.outputs[0])
        self._same[id(step.outputs[0])] = self._same[id(given[0])]
        return True

    def _multiplies(self, step: Step) -> bool:
        found = multiple_of(step)
        if found is None or not self._knows(found[0]):
            return False
        (source, factor), made = found, step.outputs[0]
        same = self._same[id(source)]
        if (tuple(made.shape), made.dtype) != (tuple(same.shape), same.dtype):
            return False
        self._same[id(made)] = same
        if id(source) in self._multiples:
            source, before = self._multiples[id(source)]
            factor = factor * before
        self._multiples[id(made)] = source, factor
        return True

    def _knows(self, tensor: Any) -> bool:
        return id(tensor) in self._same and len(tensor.shape) > 0

    def _name(self) -> str:
        name, number = "drop", 1
        while name in self._names:
            number += 1
            name = f"drop_{number}"
        self._names.add(name)
        return name


def _symbolic(given: Any) -> Iterator[Any]:
    return (each for each in tree.flatten(given) if is_symbolic(each))
