"""Meeting: where a layer's own weights meet samples, as kernels of plain layers."""

from __future__ import annotations

import string
from typing import Any

from keras.src.ops import nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.opening import own_weights
from prune_keras.tracing.opening.recording import Closed, is_symbolic
from prune_keras.tracing.opening.steps import Step, symbolic
from prune_keras.tracing.opening.values import Values
from prune_keras.tracing.rules.masked import MaskedConvolution


def plainly(masked: Any, tensor: Any) -> Any:
    """Call a layer of `rules.masked` on a symbolic tensor as if its kernel were masked already."""
    if isinstance(masked, MaskedConvolution):
        given = masked.kernel, masked.name, masked.dtype_policy, masked.settings, tensor.shape
        return own_weights.convolution(*given)(tensor)
    return masked.layer(tensor)


class Meeting:
    """The layers that hold weights which samples are multiplied with, made once for each.

    Args:
        values: what tensors are.
        steps: what a recorded call consists of.
        outputs: what it returns, as a list.
    """

    def __init__(self, values: Values, steps: list[Step], outputs: list) -> None:
        self._values = values
        self._masked: dict[int, tuple[Any, Any]] = {}  # a variable, and what it is multiplied with
        # Ids of tensors that only convolutions read.
        self._convolving = _read_by(steps, nn.Conv) - set(map(id, outputs))
        self._layers: dict[tuple, Any] = {}

    def take(self, step: Step) -> Any:
        """Return what a plain layer makes of a step; None where none does that."""
        for way in (self._looked_up, self._multiplied, self._summed, self._convolved):
            made = way(step)
            if made is not None:
                return made
        return None

    def is_mask(self, step: Step) -> bool:
        """Tell whether a kernel is multiplied with a mask, for convolutions; remember it, then."""
        if type(step.operation) is not raw.Multiply or len(step.args) != 2:
            return False
        for weight, mask in (step.args, step.args[::-1]):
            found = self._values.whole(weight) if is_symbolic(weight) else None
            if found is None or found[1] or id(step.outputs[0]) not in self._convolving:
                continue
            held = self._values.constant(mask)
            if held is not None and tuple(step.outputs[0].shape) == tuple(found[0].shape):
                self._masked[id(step.outputs[0])] = found[0], held
                return True
        return False

    def _looked_up(self, step: Step) -> Any:
        if not isinstance(step.operation, raw.Take) or len(step.args) != 2:
            return None
        weight, places = step.args
        found = self._values.whole(weight)
        if (
            found is None
            or found[1]
            or id(places) in self._values.alone
            or step.operation.axis != 0
        ):
            raise Closed(f"{step.operation.name} looks up what is made of a weight")
        if len(found[0].shape) != 2:
            raise Closed(f"{step.operation.name} looks up a weight of {len(found[0].shape)} axes")
        places = self._values.value(places)
        key = (id(found[0]), "looked up", len(places.shape))
        if key not in self._layers:
            name, dtype = self._values.name(found[0]), self._values.dtype(weight)
            self._layers[key] = own_weights.lookup(found[0], name, dtype, places.shape)
        return self._layers[key](places)

    def _multiplied(self, step: Step) -> Any:
        if type(step.operation) is not raw.Matmul or id(step.args[0]) in self._values.alone:
            return None
        found = self._values.whole(step.args[1])
        if found is None or len(found[0].shape) != 2:
            return None
        equation = "...x,yx->...y" if found[1] else "...x,xy->...y"
        width = found[0].shape[0 if found[1] else 1]
        return self._product(step, step.args[0], found[0], equation, (width,))

    def _summed(self, step: Step) -> Any:
        if not isinstance(step.operation, raw.Einsum) or len(step.args) != 2:
            return None
        terms, output = step.settings["subscripts"].replace(" ", "").split("->")
        places = [
            place for place, each in enumerate(step.args) if id(each) not in self._values.alone
        ]
        weight = step.args[1 - places[0]]
        found = self._values.whole(weight)
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

    def _convolved(self, step: Step) -> Any:
        if type(step.operation) not in (nn.Conv, nn.DepthwiseConv) or len(step.args) != 2:
            return None
        read, kernel = step.args
        if id(read) in self._values.alone or id(kernel) not in self._values.alone:
            return None
        found = self._masked.get(id(kernel)) or self._values.whole(kernel)
        if found is None or found[1] is True:  # transposed
            return None
        variable, mask = found[0], None if found[1] is False else found[1]
        value, dtype = self._values.value(read), self._values.dtype(read)
        settings = {name: each for name, each in step.settings.items() if each is not None}
        key = (id(variable), id(mask), type(step.operation), repr(settings), value.shape)
        if key not in self._layers:
            name = self._values.name(variable)
            if mask is None:
                depthwise = type(step.operation) is nn.DepthwiseConv
                make = own_weights.depthwise if depthwise else own_weights.convolution
                self._layers[key] = make(variable, name, dtype, settings, value.shape)
            else:
                options = {"name": name, "dtype": dtype}
                self._layers[key] = MaskedConvolution(variable, mask, settings, **options)
        return self._layers[key](value)

    def _product(self, step: Step, read: Any, variable: Any, equation: str, shape: tuple) -> Any:
        value, dtype = self._values.value(read), self._values.dtype(read)
        key = (id(variable), equation, dtype, len(value.shape))
        if key not in self._layers:
            made = (variable, self._values.name(variable), dtype, equation, shape, value.shape)
            self._layers[key] = own_weights.product(*made)
        return self._layers[key](value)


def _read_by(steps: list[Step], kind: type) -> set[int]:
    """Return the ids of tensors that operations of a kind read, and no others."""
    read: dict[bool, set[int]] = {True: set(), False: set()}
    for step in steps:
        read[type(step.operation) is kind] |= set(map(id, symbolic(step)))
    return read[True] - read[False]
