"""Lifting: a functional model of recorded steps, in which every tensor has a batch in front.

Of a layer's own weights each sample gets one of its own, from a plain layer that holds the weight.
What the recorded call does to such a weight alone is done to that of each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from keras import ops, tree
from keras.src.ops import core
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.opening.layers_in_calls import check_names, is_on_last
from prune_keras.tracing.opening.meeting import Meeting
from prune_keras.tracing.opening.recording import Closed, Recording, is_symbolic
from prune_keras.tracing.opening.steps import Drawn, PerSample, Step, Stretched, grows, symbolic
from prune_keras.tracing.opening.values import Values
from prune_keras.tracing.rules.elementwise import OF_SEVERAL, UNARY, UNARY_WITHOUT_GRADIENT

_PASSING = (core.Cast, raw.Copy)
_AXES = ("axis", "axis1", "axis2", "source", "destination")
_OF_LISTS = (raw.Concatenate, raw.Stack)
_SHAPED = {raw.Reshape: "newshape", raw.BroadcastTo: "shape"}
_ENTRIES = (*UNARY, *UNARY_WITHOUT_GRADIENT, *OF_SEVERAL)


def lifted(recording: Recording, steps: list[Step], layer: Any) -> Any:
    """Return a functional model that does what a recorded call of a layer does.

    Args:
        recording: the recording.
        steps: what it consists of.
        layer: the layer; the model shares the layers and variables that it called and read.

    Raises:
        Closed: where that cannot be said for every size of a batch.
    """
    return _Lifting(recording, steps, layer).model()


class _Lifting:
    def __init__(self, recording: Recording, steps: list[Step], layer: Any) -> None:
        self._recording, self._steps, self._layer = recording, steps, layer
        self._values = Values(recording, layer)
        self._values.names |= {step.operation.name for step in steps}
        self._meeting = Meeting(self._values, steps, tree.flatten(recording.outputs))

    def model(self) -> Any:
        check_names(self._steps)
        for step in self._steps:
            self._take(step)
        outputs = tree.map_structure(self._output, self._recording.outputs)
        inputs = tree.pack_sequence_as(self._values.structure, self._values.inputs)
        return _keras.Recorded(inputs, outputs, name=self._layer.name)

    def _output(self, tensor: Any) -> Any:
        if id(tensor) in self._values.alone:
            raise Closed("it returns a weight")
        return self._values.value(tensor)

    def _take(self, step: Step) -> None:
        tensors = symbolic(step)
        alone = [tensor for tensor in tensors if id(tensor) in self._values.alone]
        if len(alone) < len(tensors) and step.batch is None:
            raise Closed(f"{step.operation.name} mixes samples")
        if not alone:
            made = self._run(step, self._open(step))
        elif len(alone) == len(tensors):
            made = self._of_weights(step)
        else:
            made = self._joined(step)
        self._values.add(step.outputs, tree.flatten(made))

    # What works on samples.

    def _open(self, step: Step) -> dict:
        """Return settings in which numbers that grow with the batch are left open."""
        if isinstance(step.operation, raw.Reshape) and grows(step.settings["newshape"]):
            shape = step.outputs[0].shape
            if grows(step.settings["newshape"][1:]):
                raise Closed(f"{step.operation.name} moves the batch")
            return {"newshape": tuple(-1 if i == 0 else s for i, s in enumerate(shape))}
        if isinstance(step.operation, raw.BroadcastTo) and grows(step.settings["shape"]):
            return step.settings
        for given in (step.settings, step.args, step.kwargs):
            if grows(given):
                raise Closed(f"{step.operation.name} is given the size of the batch")
        return step.settings

    def _run(self, step: Step, settings: dict, filled: Callable | None = None) -> Any:
        fill = filled or (lambda tensor: self._values.value(tensor))
        if isinstance(step.operation, raw.BroadcastTo) and grows(settings["shape"]):
            (tensor,) = map(fill, symbolic(step))
            zeros = np.zeros((1, *settings["shape"][1:]), "float32")
            return ops.add(tensor, ops.cast(zeros, tensor.dtype))
        args, kwargs = (self._filled(given, fill, step) for given in (step.args, step.kwargs))
        if _keras.is_layer(step.operation):
            return step.operation(*args, **kwargs)
        return type(step.operation)(**settings)(*args, **kwargs)

    def _filled(self, given: Any, fill: Callable, step: Step) -> Any:
        def value(leaf: Any) -> Any:
            if isinstance(leaf, Stretched | Drawn):
                if isinstance(step.operation, _OF_LISTS):
                    return self._for_each(leaf.sample)
                return leaf.sample
            return fill(leaf) if is_symbolic(leaf) else leaf

        if isinstance(given, list | tuple):
            return type(given)(self._filled(part, fill, step) for part in given)
        if isinstance(given, dict):
            return {name: self._filled(part, fill, step) for name, part in given.items()}
        return value(given)

    def _for_each(self, sample: np.ndarray) -> Any:
        ones = ops.reshape(self._values.ones(str(sample.dtype)), (-1,) + (1,) * (sample.ndim - 1))
        return ops.multiply(ones, sample)

    # What works on weights.

    def _of_weights(self, step: Step) -> Any:
        operation = step.operation
        if grows((step.settings, step.args, step.kwargs)):
            return self._spread(step)
        self._values.alone |= set(map(id, step.outputs))
        if self._meeting.is_mask(step):
            return step.outputs  # which nothing reads
        if isinstance(operation, _PASSING):
            self._values.turn(step, False)
        if isinstance(operation, raw.Transpose) and len(step.outputs[0].shape) == 2:
            self._values.turn(step, True)
        if isinstance(operation, raw.GetItem):
            key = step.args[1] if len(step.args) > 1 else step.kwargs["key"]
            parts = key if isinstance(key, tuple) else (key,)
            return ops.get_item(self._values.value(step.args[0]), (slice(None), *parts))
        if _keras.is_layer(operation):
            if not is_on_last(operation):
                raise Closed(f"it calls {operation.name} on a weight")
            return self._run(step, step.settings)
        if isinstance(operation, (*_ENTRIES, raw.Matmul)):
            return self._broadcast(step)
        return self._run(step, self._shifted(step))

    def _broadcast(self, step: Step) -> Any:
        """Run what broadcasts weights against each other, each with as many axes as comes out."""
        ranks = [len(tensor.shape) for tensor in symbolic(step)]
        if isinstance(step.operation, raw.Matmul) and min(ranks) < 2:
            raise Closed("it multiplies a weight of one axis with another one")
        rank = 1 + max(*ranks, len(step.outputs[0].shape))
        return self._run(step, step.settings, lambda tensor: self._values.fitted(tensor, rank))

    def _shifted(self, step: Step) -> dict:
        """Return settings of an operation for tensors with one more axis, the batch, in front."""
        operation, settings = step.operation, dict(step.settings)
        rank = len(symbolic(step)[0].shape)
        if isinstance(operation, tuple(_SHAPED)):
            name = _SHAPED[type(operation)]
            return settings | {name: (-1, *step.outputs[0].shape)}
        if isinstance(operation, raw.Transpose):
            axes = settings["axes"] or tuple(reversed(range(rank)))
            return settings | {"axes": (0, *(axis % rank + 1 for axis in axes))}
        if isinstance(operation, raw.Tile):
            return settings | {"repeats": (1, *np.atleast_1d(settings["repeats"]).tolist())}
        names = [name for name in _AXES if settings.get(name) is not None]
        if not names:
            raise Closed(f"it does {type(operation).__name__} to a weight")
        return settings | {name: _behind(settings[name]) for name in names}

    def _spread(self, step: Step) -> Any:
        """Repeat a weight for each sample, which has one of its own already."""
        operation, (tensor,) = step.operation, symbolic(step)
        shape, made = tensor.shape, step.outputs[0].shape
        names = {raw.BroadcastTo: "shape", raw.Tile: "repeats", raw.Repeat: "repeats"}
        name = names.get(type(operation))
        if name is None or not shape or (len(shape) == len(made) and shape[0] != 1):
            raise Closed(f"{operation.name} is given the size of the batch")
        if isinstance(operation, raw.Repeat):
            if operation.axis != 0:
                raise Closed(f"{operation.name} is given the size of the batch")
            return self._values.fitted(tensor, len(made))
        repeated = tuple(step.settings[name])
        if repeated[0] != PerSample(Fraction(1)) or grows(repeated[1:]):
            raise Closed(f"{operation.name} is given the size of the batch")
        value = self._values.fitted(tensor, len(made))
        if isinstance(operation, raw.Tile):
            return ops.tile(value, (1, *repeated[1:]))
        zeros = np.zeros((1, *repeated[1:]), "float32")
        return (
            value if value.shape[1:] == made[1:] else ops.add(value, ops.cast(zeros, value.dtype))
        )

    # Where weights meet samples.

    def _joined(self, step: Step) -> Any:
        operation = step.operation
        if any(each.shape[:1] != (None,) for each in self._values.of_samples(step)):
            raise Closed(f"{operation.name} joins a weight with what stands in front of the batch")
        made = self._meeting.take(step)
        if made is not None:
            return made
        ranks = [len(t.shape) for t in symbolic(step) if id(t) not in self._values.alone]
        rank = max([*ranks, len(step.outputs[0].shape)])
        if isinstance(operation, raw.Concatenate):
            rank = ranks[0]
        elif not isinstance(operation, (*_ENTRIES, raw.Matmul)):
            raise Closed(f"it gives a weight to {operation.name} ({type(operation).__name__})")

        def fill(tensor: Any) -> Any:
            return (
                self._values.fitted(tensor, rank)
                if id(tensor) in self._values.alone
                else self._values.value(tensor)
            )

        return self._run(step, self._open(step), fill)


def _behind(axes: Any) -> Any:
    """Return axes once there is one more in front; those from the end are where they were."""
    if isinstance(axes, Sequence):
        return type(axes)(map(_behind, axes))  # type: ignore[call-arg]
    return axes + 1 if axes >= 0 else axes
