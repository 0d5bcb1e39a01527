"""The rule of EinsumDense: labels follow the letters of its equation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, product, varies
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.elementwise import activated
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit


@dataclass(frozen=True)
class Equation:
    """An equation with a sign for every axis, the batch and what an ellipsis hides included.

    Args:
        read, kernel, made: the signs of the input, the kernel and the output.
        output: the output as the equation spells it, without the ellipsis.
        left: whether an ellipsis in front hides axes.
    """

    read: tuple
    kernel: tuple
    made: tuple
    output: str
    left: bool

    @classmethod
    def of(cls, equation: str, rank: int) -> Equation:
        """Parse the equation of a layer for an input of a rank, the batch counted."""
        equation = equation.replace(" ", "")
        terms, output = equation.replace("...", "").split("->")
        read, kernel = terms.split(",")
        hidden = tuple(range(rank - len(read)))
        if hidden and equation.startswith("..."):
            return cls((*hidden, *read), tuple(kernel), (*hidden, *output), output, True)
        return cls((*read, *hidden), tuple(kernel), (*output, *hidden), output, False)

    @property
    def units(self) -> list:
        """Signs of the kernel that the input does not have."""
        return [sign for sign in self.kernel if sign not in self.read]

    @property
    def plain(self) -> bool:
        """Tell whether the batch stays in front, and no axis is met twice in a tensor."""
        batch = self.read[0] == self.made[0] and self.read[0] not in self.kernel
        return batch and all(len({*t}) == len(t) for t in (self.read, self.kernel, self.made))


@register_rule(layers.EinsumDense)
def einsum_dense(visit: Visit, trace: Trace) -> Found:
    """Of several axes of units, one can be pruned, unless channels lie beside them.

    It is the last one, or the first one where `trace` found that this reaches more.
    """
    layer, x = visit.operation, visit.input
    equation = Equation.of(layer.equation, x.rank + 1)
    if not equation.plain:
        return trace.refuse(visit, f"{visit.path} has an equation that moves the batch")
    along = _read(visit, trace, equation)
    if equation.units:
        chosen = equation.units[trace.axis_of_units(len(equation.units))]
        tap_axis = equation.made.index(chosen) - 1
        axis = equation.kernel.index(chosen)
        units = trace.units(visit, _keras.kernel_of(layer), axis=axis, tap_axis=tap_axis)
        beside = [ids for sign, ids in along.items() if sign in equation.made]
        for ids in beside:
            trace.fix(units, f"{visit.path} has channels beside its units")
            trace.at_least(ids, 2)  # with one, a thin model no longer shows why the units stay
        if not beside:
            along[chosen] = units
    _record_weights(visit, trace, equation, along)
    made = {sign: ids for sign, ids in along.items() if sign in equation.made}
    _set_output_shape(visit, trace, equation, made)
    return _output(visit, trace, equation, made)


def _read(visit: Visit, trace: Trace, equation: Equation) -> dict[Any, np.ndarray]:
    """Return the ids along the sign of the input that holds channels, read or passed on."""
    x = visit.input
    along: dict[Any, np.ndarray] = {}
    for axis, sign in enumerate(equation.read[1:]):
        if not varies(x.ids, axis):
            continue
        ids = trace.along(x, axis, visit.path)
        carried, weighted = sign in equation.made, sign in equation.kernel
        if along or not (carried or weighted):
            trace.fix(ids, f"{visit.path} computes along another axis than theirs")
        else:
            along[sign] = ids
    return along


def _record_weights(
    visit: Visit, trace: Trace, equation: Equation, along: dict[Any, np.ndarray]
) -> None:
    layer = visit.operation
    sizes = dict(zip(equation.read[1:], visit.input.shape, strict=True))
    beside = [sign for sign in along if sign not in equation.kernel]
    others = [sizes[sign] for sign in sizes if sign not in (*equation.kernel, *beside)]
    times = 0 if beside else product(others)
    for sign in beside:
        trace.multiplied([along[sign]], product([*others, *layer.kernel.shape]))
    axes = {axis: along[sign] for axis, sign in enumerate(equation.kernel) if sign in along}
    contracted = (a for a in axes if equation.kernel[a] not in equation.made)
    trace.weight(visit, _keras.kernel_of(layer), axes, reads=tuple(contracted), times=times)
    if layer.bias is not None:
        spelled = equation.output[min(map(equation.output.index, layer.bias_axes)) :]
        held = {axis: sign for axis, sign in enumerate(spelled) if sign in layer.bias_axes}
        trace.weight(visit, layer.bias, {a: along[s] for a, s in held.items() if s in along})


def _set_output_shape(
    visit: Visit, trace: Trace, equation: Equation, made: dict[Any, np.ndarray]
) -> None:
    layer = visit.operation
    shape = layer.partial_output_shape
    spelled = equation.output if equation.left else equation.output[1:]
    for place, sign in enumerate(spelled):
        if sign in made and shape[place] is not None:
            trace.setting(layer, "partial_output_shape", made[sign], _replacing(shape, place))


def _replacing(shape: tuple, place: int) -> Callable[[np.ndarray], tuple]:
    def new_shape(mask: np.ndarray) -> tuple:
        return (*shape[:place], int(mask.sum()), *shape[place + 1 :])

    return new_shape


def _output(
    visit: Visit, trace: Trace, equation: Equation, made: dict[Any, np.ndarray]
) -> np.ndarray:
    shape = [len(made[sign]) if sign in made else 1 for sign in equation.made[1:]]
    if not made:
        return trace.nothing(len(shape), f"{visit.path} passes on what is fixed")
    (ids,) = made.values()
    activated(visit, Labels(ids.reshape(shape), visit.shape), trace)
    return ids.reshape(shape)
