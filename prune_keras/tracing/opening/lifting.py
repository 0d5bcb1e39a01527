"""Lifting: a functional model of recorded steps, in which every tensor has a batch in front.

Of a layer's own weights each sample gets one of its own, from a plain layer that holds the weight.
What the recorded call does to such a weight alone is done to that of each sample.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree
from keras.src.ops import core, nn
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.opening import own_weights
from prune_keras.tracing.opening.recording import Closed, Recording, is_symbolic, masks_of
from prune_keras.tracing.opening.steps import Drawn, PerSample, Step, Stretched, is_array
from prune_keras.tracing.rules.elementwise import OF_SEVERAL, UNARY, UNARY_WITHOUT_GRADIENT
from prune_keras.tracing.rules.masked import MaskedConvolution

_PASSING = (core.Cast, raw.Copy)
_AXES = ("axis", "axis1", "axis2", "source", "destination")
_OF_LISTS = (raw.Concatenate, raw.Stack)
_SHAPED = {raw.Reshape: "newshape", raw.BroadcastTo: "shape"}
# What works on the last axis, or on each entry, however many stand before it.
_ON_LAST = (
    *(layers.Activation, layers.Dense, layers.Dropout, layers.Identity, layers.LeakyReLU),
    *(layers.LayerNormalization, layers.ReLU, layers.RMSNormalization),
)
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
    return _Lifting(recording, layer).model(steps)


def plainly(masked: Any, tensor: Any) -> Any:
    """Call a layer of `rules.masked` on a symbolic tensor as if its kernel were masked already."""
    if isinstance(masked, MaskedConvolution):
        given = masked.kernel, masked.name, masked.dtype_policy, masked.settings, tensor.shape
        return own_weights.convolution(*given)(tensor)
    return masked.layer(tensor)


class _Lifting:
    def __init__(self, recording: Recording, layer: Any) -> None:
        self.recording, self.layer = recording, layer
        taken = {operation.name for operation in _keras.all_layers(layer)}
        self.structure = _structure(recording, taken)
        by_key = isinstance(self.structure, dict)
        names = sorted(self.structure) if by_key else [None] * len(recording.inputs)
        self.inputs = [
            keras.Input(batch_shape=(None, *tensor.shape[1:]), dtype=tensor.dtype, name=name)
            for tensor, name in zip(recording.inputs, names, strict=True)
        ]
        pairs = zip(recording.inputs, self.inputs, strict=True)
        known = {id(old): new for old, new in pairs}
        _keras.carry(self.inputs, [known.get(id(m)) for m in masks_of([*recording.inputs])])
        self.values = {id(old): new for old, new in zip(recording.inputs, self.inputs, strict=True)}
        self.variables = {id(tensor): variable for variable, tensor in recording.weights}
        self.dtypes = {id(tensor): tensor.dtype for _, tensor in recording.weights}
        self.alone = set(self.variables)  # ids of tensors without a batch
        self.turned: dict[int, tuple[int, bool]] = {
            id(t): (id(t), False) for _, t in recording.weights
        }
        self.masked: dict[int, tuple[Any, Any]] = {}  # a variable, and what it is multiplied with
        self.convolving: set[int] = set()  # ids of tensors that only convolutions read
        self.layers: dict[tuple, Any] = {}
        self.names: set[str] = {operation.name for operation in _keras.all_layers(layer)}

    def model(self, steps: list[Step]) -> Any:
        self.names |= {step.operation.name for step in steps}
        self.convolving = _read_by(steps, nn.Conv) - set(
            map(id, tree.flatten(self.recording.outputs))
        )
        for step in steps:
            self._take(step)
        outputs = tree.map_structure(self._output, self.recording.outputs)
        inputs = tree.pack_sequence_as(self.structure, self.inputs)
        return _keras.Recorded(inputs, outputs, name=self.layer.name)

    def _output(self, tensor: Any) -> Any:
        if id(tensor) in self.alone:
            raise Closed("it returns a weight")
        return self.values[id(tensor)]

    def _take(self, step: Step) -> None:
        tensors = _symbolic(step)
        alone = [tensor for tensor in tensors if id(tensor) in self.alone]
        if len(alone) < len(tensors) and step.batch is None:
            raise Closed(f"{step.operation.name} mixes samples")
        if not alone:
            made = self._run(step, self._open(step))
        elif len(alone) == len(tensors):
            made = self._of_weights(step)
        else:
            made = self._joined(step)
        pairs = zip(step.outputs, tree.flatten(made), strict=True)
        self.values |= {id(old): new for old, new in pairs}

    # What works on samples.

    def _open(self, step: Step) -> dict:
        """Return settings in which numbers that grow with the batch are left open."""
        if isinstance(step.operation, raw.Reshape) and _grows(step.settings["newshape"]):
            shape = step.outputs[0].shape
            if _grows(step.settings["newshape"][1:]):
                raise Closed(f"{step.operation.name} moves the batch")
            return {"newshape": tuple(-1 if i == 0 else s for i, s in enumerate(shape))}
        if isinstance(step.operation, raw.BroadcastTo) and _grows(step.settings["shape"]):
            return step.settings
        for given in (step.settings, step.args, step.kwargs):
            if _grows(given):
                raise Closed(f"{step.operation.name} is given the size of the batch")
        return step.settings

    def _run(self, step: Step, settings: dict, filled: Callable | None = None) -> Any:
        fill = filled or (lambda tensor: self._value(tensor))
        if isinstance(step.operation, raw.BroadcastTo) and _grows(settings["shape"]):
            (tensor,) = map(fill, _symbolic(step))
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
        ones = ops.reshape(self._ones(str(sample.dtype)), (-1,) + (1,) * (sample.ndim - 1))
        return ops.multiply(ones, sample)

    # What works on weights.

    def _of_weights(self, step: Step) -> Any:
        operation = step.operation
        if _grows((step.settings, step.args, step.kwargs)):
            return self._spread(step)
        self.alone |= set(map(id, step.outputs))
        if self._is_mask(step):
            return step.outputs  # which nothing reads
        if isinstance(operation, _PASSING):
            self._turn(step, False)
        if isinstance(operation, raw.Transpose) and len(step.outputs[0].shape) == 2:
            self._turn(step, True)
        if isinstance(operation, raw.GetItem):
            key = step.args[1] if len(step.args) > 1 else step.kwargs["key"]
            parts = key if isinstance(key, tuple) else (key,)
            return ops.get_item(self._value(step.args[0]), (slice(None), *parts))
        if _keras.is_layer(operation):
            if not isinstance(operation, _ON_LAST):
                raise Closed(f"it calls {operation.name} on a weight")
            return self._run(step, step.settings)
        if isinstance(operation, (*_ENTRIES, raw.Matmul)):
            return self._broadcast(step)
        return self._run(step, self._shifted(step))

    def _broadcast(self, step: Step) -> Any:
        """Run what broadcasts weights against each other, each with as many axes as comes out."""
        ranks = [len(tensor.shape) for tensor in _symbolic(step)]
        if isinstance(step.operation, raw.Matmul) and min(ranks) < 2:
            raise Closed("it multiplies a weight of one axis with another one")
        rank = 1 + max(*ranks, len(step.outputs[0].shape))
        return self._run(step, step.settings, lambda tensor: self._fitted(tensor, rank))

    def _turn(self, step: Step, other: bool) -> None:
        """Remember that a tensor is a weight as it is, or transposed."""
        known = self.turned.get(id(_symbolic(step)[0]))
        if known is not None:
            self.turned[id(step.outputs[0])] = known[0], known[1] != other

    def _shifted(self, step: Step) -> dict:
        """Return settings of an operation for tensors with one more axis, the batch, in front."""
        operation, settings = step.operation, dict(step.settings)
        rank = len(_symbolic(step)[0].shape)
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
        operation, (tensor,) = step.operation, _symbolic(step)
        shape, made = tensor.shape, step.outputs[0].shape
        names = {raw.BroadcastTo: "shape", raw.Tile: "repeats", raw.Repeat: "repeats"}
        name = names.get(type(operation))
        if name is None or not shape or (len(shape) == len(made) and shape[0] != 1):
            raise Closed(f"{operation.name} is given the size of the batch")
        if isinstance(operation, raw.Repeat):
            if operation.axis != 0:
                raise Closed(f"{operation.name} is given the size of the batch")
            return self._fitted(tensor, len(made))
        repeated = tuple(step.settings[name])
        if repeated[0] != PerSample(Fraction(1)) or _grows(repeated[1:]):
            raise Closed(f"{operation.name} is given the size of the batch")
        value = self._fitted(tensor, len(made))
        if isinstance(operation, raw.Tile):
            return ops.tile(value, (1, *repeated[1:]))
        zeros = np.zeros((1, *repeated[1:]), "float32")
        return (
            value if value.shape[1:] == made[1:] else ops.add(value, ops.cast(zeros, value.dtype))
        )

    # Where weights meet samples.

    def _joined(self, step: Step) -> Any:
        operation = step.operation
        if any(each.shape[:1] != (None,) for each in self._of_samples(step)):
            raise Closed(f"{operation.name} joins a weight with what stands in front of the batch")
        for way in (self._looked_up, self._multiplied, self._summed, self._convolved):
            made = way(step)
            if made is not None:
                return made
        ranks = [len(t.shape) for t in _symbolic(step) if id(t) not in self.alone]
        rank = max([*ranks, len(step.outputs[0].shape)])
        if isinstance(operation, raw.Concatenate):
            rank = ranks[0]
        elif not isinstance(operation, (*_ENTRIES, raw.Matmul)):
            raise Closed(f"it gives a weight to {operation.name} ({type(operation).__name__})")

        def fill(tensor: Any) -> Any:
            return self._fitted(tensor, rank) if id(tensor) in self.alone else self._value(tensor)

        return self._run(step, self._open(step), fill)

    def _of_samples(self, step: Step) -> list:
        return [self._value(each) for each in _symbolic(step) if id(each) not in self.alone]

    def _fitted(self, tensor: Any, rank: int) -> Any:
        """Return a weight for each sample as a tensor of a rank, its own batch of one left out."""
        value, shape = self._value(tensor), tuple(tensor.shape)
        if len(shape) > rank or (len(shape) == rank and shape[:1] != (1,)):
            raise Closed("it joins a weight of as many axes as samples have, the batch included")
        sizes = shape[1:] if len(shape) == rank else (1,) * (rank - 1 - len(shape)) + shape
        return value if value.shape[1:] == sizes else ops.reshape(value, (-1, *sizes))

    def _looked_up(self, step: Step) -> Any:
        if not isinstance(step.operation, raw.Take) or len(step.args) != 2:
            return None
        weight, places = step.args
        found = self._whole(weight)
        if found is None or found[1] or id(places) in self.alone or step.operation.axis != 0:
            raise Closed(f"{step.operation.name} looks up what is made of a weight")
        if len(found[0].shape) != 2:
            raise Closed(f"{step.operation.name} looks up a weight of {len(found[0].shape)} axes")
        places = self._value(places)
        key = (id(found[0]), "looked up", len(places.shape))
        if key not in self.layers:
            name, dtype = self._name(found[0]), self._dtype(weight)
            self.layers[key] = own_weights.lookup(found[0], name, dtype, places.shape)
        return self.layers[key](places)

    def _multiplied(self, step: Step) -> Any:
        if type(step.operation) is not raw.Matmul or id(step.args[0]) in self.alone:
            return None
        found = self._whole(step.args[1])
        if found is None or len(found[0].shape) != 2:
            return None
        equation = "...x,yx->...y" if found[1] else "...x,xy->...y"
        width = found[0].shape[0 if found[1] else 1]
        return self._product(step, step.args[0], found[0], equation, (width,))

    def _summed(self, step: Step) -> Any:
        if not isinstance(step.operation, raw.Einsum) or len(step.args) != 2:
            return None
        terms, output = step.settings["subscripts"].replace(" ", "").split("->")
        places = [place for place, each in enumerate(step.args) if id(each) not in self.alone]
        weight = step.args[1 - places[0]]
        found = self._whole(weight)
        spelled = terms.split(",")
        read, kernel = spelled[places[0]], spelled[1 - places[0]]
        letters = [*read, *kernel, *output]
        if found is None or found[1] or not all(each in string.ascii_letters for each in letters):
            raise Closed(f"{step.operation.name} multiplies what is made of a weight")
        if read[0] != output[0] or read[0] in kernel:
            raise Closed(f"{step.operation.name} mixes samples")
        shape = step.outputs[0].shape[1:]
        return self._product(
            step, step.args[places[0]], found[0], f"{read},{kernel}->{output}", shape
        )

    def _is_mask(self, step: Step) -> bool:
        """Tell whether a kernel is multiplied with a mask, for convolutions; remember it, then."""
        if type(step.operation) is not raw.Multiply or len(step.args) != 2:
            return False
        for weight, mask in (step.args, step.args[::-1]):
            found = self._whole(weight) if is_symbolic(weight) else None
            if found is None or found[1] or id(step.outputs[0]) not in self.convolving:
                continue
            held = self._constant(mask)
            if held is not None and tuple(step.outputs[0].shape) == tuple(found[0].shape):
                self.masked[id(step.outputs[0])] = found[0], held
                return True
        return False

    def _constant(self, mask: Any) -> Any:
        """Return an array, or the variable that is not trained, that a call reads; else None."""
        if not is_symbolic(mask):
            return mask if is_array(mask) else None
        found = self._whole(mask)
        if found is None or found[1] or found[0].trainable:
            return None
        return found[0]

    def _convolved(self, step: Step) -> Any:
        if type(step.operation) not in (nn.Conv, nn.DepthwiseConv) or len(step.args) != 2:
            return None
        read, kernel = step.args
        if id(read) in self.alone or id(kernel) not in self.alone:
            return None
        found = self.masked.get(id(kernel)) or self._whole(kernel)
        if found is None or found[1] is True:  # transposed
            return None
        variable, mask = found[0], None if found[1] is False else found[1]
        value, dtype = self._value(read), self._dtype(read)
        settings = {name: each for name, each in step.settings.items() if each is not None}
        key = (id(variable), id(mask), type(step.operation), repr(settings), value.shape)
        if key not in self.layers:
            name = self._name(variable)
            if mask is None:
                depthwise = type(step.operation) is nn.DepthwiseConv
                make = own_weights.depthwise if depthwise else own_weights.convolution
                self.layers[key] = make(variable, name, dtype, settings, value.shape)
            else:
                options = {"name": name, "dtype": dtype}
                self.layers[key] = MaskedConvolution(variable, mask, settings, **options)
        return self.layers[key](value)

    def _product(self, step: Step, read: Any, variable: Any, equation: str, shape: tuple) -> Any:
        value, dtype = self._value(read), self._dtype(read)
        key = (id(variable), equation, dtype, len(value.shape))
        if key not in self.layers:
            made = (variable, self._name(variable), dtype, equation, shape, value.shape)
            self.layers[key] = own_weights.product(*made)
        return self.layers[key](value)

    def _whole(self, tensor: Any) -> tuple[Any, bool] | None:
        """Return the variable that a tensor is, and whether it is transposed, or None."""
        known = self.turned.get(id(tensor))
        return None if known is None else (self.variables[known[0]], known[1])

    def _value(self, tensor: Any) -> Any:
        if id(tensor) not in self.values:
            variable = self.variables[id(tensor)]
            dtype = self.dtypes[id(tensor)]
            if len(variable.shape) == 0:  # which no plain layer has
                value = ops.cast(ops.multiply(self._ones(dtype), variable), dtype)
            else:
                layer = own_weights.table(variable, self._name(variable), dtype)
                value = layer(self._ones(dtype))
            self.values[id(tensor)] = value
        return self.values[id(tensor)]

    def _ones(self, dtype: str) -> Any:
        """Return a one for each sample."""
        return own_weights.ones(self.inputs[0], dtype)

    def _dtype(self, tensor: Any) -> str:
        return self.dtypes.get(id(tensor), tensor.dtype)

    def _name(self, variable: Any) -> str:
        name, number = variable.name, 1
        while name in self.names:
            number += 1
            name = f"{variable.name}_{number}"
        self.names.add(name)
        return name


def _structure(recording: Recording, taken: set[str]) -> Any:
    """Return what inputs lie in: a list in place of a dict that Keras would not take for them.

    Keras wants the inputs of a dict to be named after its keys, and no other layer to be.
    """
    given = recording.structure
    fits = not isinstance(given, dict) or (
        len(given) == len(recording.inputs) and not taken & {*given}
    )
    return given if fits else list(recording.inputs)


def _read_by(steps: list[Step], kind: type) -> set[int]:
    """Return the ids of tensors that operations of a kind read, and no others."""
    read: dict[bool, set[int]] = {True: set(), False: set()}
    for step in steps:
        read[type(step.operation) is kind] |= set(map(id, _symbolic(step)))
    return read[True] - read[False]


def _symbolic(step: Step) -> list:
    return [each for each in _leaves((step.args, step.kwargs)) if is_symbolic(each)]


def _leaves(given: Any) -> Iterable[Any]:
    if isinstance(given, slice):
        given = (given.start, given.stop, given.step)
    if isinstance(given, dict):
        given = list(given.values())
    if isinstance(given, list | tuple):
        for part in given:
            yield from _leaves(part)
    else:
        yield given


def _grows(given: Any) -> bool:
    return any(isinstance(each, PerSample) for each in _leaves(given))


def _behind(axes: Any) -> Any:
    """Return axes once there is one more in front; those from the end are where they were."""
    if isinstance(axes, Sequence):
        return type(axes)(map(_behind, axes))  # type: ignore[call-arg]
    return axes + 1 if axes >= 0 else axes
