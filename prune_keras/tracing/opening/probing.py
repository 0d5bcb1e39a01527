"""Probing: whether a layer's `call` follows a cut that its graph would follow.

A `call` may read a width as a number, which no label shows. So its layers and weights are made
thin for a moment, the call is recorded again, and what it does is compared with what the graph of
it would do. An attribute that holds a width is looked for among the numbers that the layer has.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _keras
from prune_keras.graph import Graph
from prune_keras.interrupts import deferred
from prune_keras.tracing.labels import kept_sizes
from prune_keras.tracing.opening.opened import Closed, Opened, looked_into
from prune_keras.tracing.opening.recording import is_symbolic
from prune_keras.tracing.opening.steps import Noise
from prune_keras.tracing.rules.masked import MASKED

_BY_SHAPE = {"newshape", "shape"}  # settings that the shape of the output tells


@dataclass(frozen=True)
class Thin:
    """A graph with some neurons gone.

    Args:
        graph: the graph.
        kept: `(neurons,)` booleans.
    """

    graph: Graph
    kept: np.ndarray

    @cached_property
    def labels(self) -> dict[int, Any]:
        """Id of a symbolic tensor -> what lies in it."""
        return {id(tensor.tensor): tensor for tensor in self.graph.tensors}

    @cached_property
    def _weights(self) -> dict[int, Any]:
        return {id(weight.variable): weight for weight in self.graph.weights}

    def sizes_of(self, variable: Any) -> tuple[int, ...]:
        """Return the shape that a variable would have."""
        sizes = list(variable.shape)
        weight = self._weights.get(id(variable))
        for axis, neurons in ({} if weight is None else weight.axes).items():
            sizes[axis] = int(self.kept[neurons].sum())
        return tuple(sizes)

    def shape_of(self, tensor: Any, labels: dict[int, Any]) -> tuple:
        """Return the shape that a symbolic tensor would have."""
        found = labels.get(id(tensor))
        if found is None:
            return tuple(tensor.shape)
        sizes = list(tensor.shape)
        batch = sizes.pop(found.batch)
        left = kept_sizes(self.kept[found.neurons], sizes)
        return (*left[: found.batch], batch, *left[found.batch :])


def mismatch(found: Opened, thin: Thin, attributes: dict[str, Any]) -> str | None:
    """Return what a layer's call does otherwise than its graph once neurons are gone, or None.

    Args:
        found: the layer, and the graph of its call.
        thin: what is gone.
        attributes: of the layer: name -> the value that it would get.
    """
    labels = thin.labels
    args, kwargs = _thin_arguments(found, thin)
    with _thinned(found.layer, thin, attributes):
        try:
            again = looked_into(found.layer, args, kwargs, found.rows)
        except Closed as reason:
            return str(reason)
    return _first_difference(found.function, again, thin, labels)


def tells(found: Opened, thin: Thin, attributes: dict[str, Any]) -> bool:
    """Tell whether a layer made again from the config of a thin one does what its graph does.

    Args:
        found: the layer, and the graph of its call.
        thin: what is gone.
        attributes: of the layer: name -> the value that it would get.
    """
    args, kwargs = _thin_arguments(found, thin)
    try:
        with _thinned(found.layer, thin, attributes), _keras.discarded():
            made = _keras.from_config(found.layer)
        with _keras.discarded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a layer that cannot be built, as is found out here
            made(*args, **kwargs)
            again = looked_into(made, args, kwargs)
    except Exception:  # of a class that takes no config, or is not built by a call
        return False
    wanted = [thin.sizes_of(variable) for variable in found.layer.weights]
    if [tuple(variable.shape) for variable in made.weights] != wanted:
        return False
    return _first_difference(found.function, again, thin, thin.labels) is None


def _thin_arguments(found: Opened, thin: Thin) -> tuple:
    labels = thin.labels

    def fresh(value: Any) -> Any:
        if not is_symbolic(value):
            return value
        return keras.KerasTensor(thin.shape_of(value, labels), value.dtype)

    return tree.map_structure(fresh, (found.args, found.kwargs))


@contextlib.contextmanager
def _thinned(layer: Any, thin: Thin, attributes: dict[str, Any]) -> Iterator[None]:
    """Make a layer, and all in it, thin within: shapes and counts only, no values are changed."""
    inside = {id(each) for each in _keras.all_layers(layer)}
    changes = [(layer, name, value) for name, value in attributes.items()]
    for setting in thin.graph.settings:
        if not isinstance(setting.owner, keras.KerasTensor) and not _keras.is_node(setting.owner):
            if not isinstance(setting.owner, keras.Operation) or id(setting.owner) in inside:
                changes.append(
                    (setting.owner, setting.name, setting.value(thin.kept[setting.neurons]))
                )
    for variable in layer.variables:
        sizes = thin.sizes_of(variable)
        if sizes != tuple(variable.shape):
            changes += _keras.as_if_shaped(variable, sizes)
    changes += [(each, "input_spec", None) for each in _keras.checking_inputs(layer)]
    changes += _shapes_inside(layer, thin)
    with deferred(), _keras.changed(changes):
        yield


def _shapes_inside(layer: Any, thin: Thin) -> list[tuple[Any, str, Any]]:
    """Return the shapes that tensors of functional models in a layer would have."""
    labels = {id(tensor.tensor): tensor for tensor in thin.graph.tensors}
    functions = [*filter(None, map(_keras.function_of, _keras.all_layers(layer)))]
    tensors = [t for each in functions for node in _keras.nodes_of(each) for t in node.outputs]
    tensors += [tensor for each in functions for tensor in each.inputs]
    return [(tensor, "_shape", thin.shape_of(tensor, labels)) for tensor in tensors]


def _first_difference(function: Any, again: Any, thin: Thin, labels: dict) -> str | None:
    ways = [_keras.ways_of(each) for each in (function, again)]
    if len(ways[0]) != len(ways[1]):
        return "it does something else in training"
    for old, new in zip(*ways, strict=True):
        why = _difference_of_graphs(old, new, thin, labels)
        if why is not None:
            return why
    return None


def _difference_of_graphs(function: Any, again: Any, thin: Thin, labels: dict) -> str | None:
    old, new = (_keras.calls_of(each) for each in (function, again))
    if len(old) != len(new):
        return "it does something else"
    same = {id(b): id(a) for a, b in zip(function.inputs, again.inputs, strict=True)}
    expected = {(id(s.owner), s.name): s.value(thin.kept[s.neurons]) for s in thin.graph.settings}
    for before, after in zip(old, new, strict=True):
        why = _difference(before, after, thin, labels, expected, same)
        if why is not None:
            return why
        same |= {id(b): id(a) for a, b in zip(before.outputs, after.outputs, strict=True)}
    return None


def _difference(
    before: Any, after: Any, thin: Thin, labels: dict, expected: dict, same: dict
) -> str | None:
    """Return how a call of the thin layer differs from what its graph tells, or None."""
    operation, name = before.operation, before.operation.name
    if type(operation) is not type(after.operation):
        return f"it calls {after.operation.name} in place of {name}"
    for tensor, found in zip(before.outputs, after.outputs, strict=True):
        wanted = thin.shape_of(tensor, labels)
        if tuple(found.shape) != wanted:
            return f"{name} gives {_sample(found.shape)} in place of {_sample(wanted)}"
    if [id(t) for t in before.input_tensors] != [same.get(id(t)) for t in after.input_tensors]:
        return f"{name} is called on something else"
    arguments = expected.get((id(before), "arguments"), before.arguments)
    pairs = [(arguments.args, after.arguments.args), (arguments.kwargs, after.arguments.kwargs)]
    if isinstance(operation, MASKED):
        mask = expected.get((id(operation), "mask"), operation.mask)
        pairs.append((mask, after.operation.mask))
    if not _keras.is_layer(operation):
        told = _keras.settings_of(operation)
        told |= {n: v for (owner, n), v in expected.items() if owner == id(operation) and n in told}
        made = _keras.settings_of(after.operation)
        pairs += [(told[n], made[n]) for n in told if n not in _BY_SHAPE]
    if not all(_alike(*pair) for pair in pairs):
        return f"{name} is given other numbers"
    return None


def _sample(shape: tuple) -> str:
    return "x".join(map(str, shape[1:]))


def _alike(first: Any, other: Any) -> bool:
    if is_symbolic(first) or is_symbolic(other):
        return is_symbolic(first) and is_symbolic(other)
    if isinstance(first, slice) and isinstance(other, slice):
        return (first.start, first.stop, first.step) == (other.start, other.stop, other.step)
    if isinstance(first, dict) and isinstance(other, dict):
        return first.keys() == other.keys() and all(_alike(v, other[k]) for k, v in first.items())
    if isinstance(first, list | tuple) and isinstance(other, list | tuple):
        return len(first) == len(other) and all(map(_alike, first, other))
    if first is other:
        return True
    if isinstance(first, Noise) and isinstance(other, Noise):
        return first.shape == other.shape
    try:
        a, b = (np.asarray(ops.convert_to_numpy(each)) for each in (first, other))
        return a.shape == b.shape and bool(np.all(a == b))
    except Exception:
        return bool(first == other)
