"""Ends: how a model's outputs come about, and so whether they are probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from prune_keras import _keras

_PASSING = (
    *(layers.Reshape, layers.Flatten, layers.Permute, layers.RepeatVector, layers.Identity),
    *(layers.Dropout, layers.ActivityRegularization, layers.Average),
    *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
)
_MIXING = (
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Concatenate, layers.Dot),
    *(layers.Maximum, layers.Minimum),
)
_PASSING_OPERATIONS = ("Cast", "Reshape", "Squeeze", "ExpandDims", "Transpose", "Mean")
_MIXING_OPERATIONS = (
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Negative", "Concatenate", "Stack"),
    *("Matmul", "Einsum", "Dot", "Tensordot", "Conv"),
)
_FUNCTIONS = {
    keras.activations.softmax: "softmax",
    keras.ops.softmax: "softmax",
    keras.activations.sigmoid: "sigmoid",
    keras.ops.sigmoid: "sigmoid",
}
_OPERATIONS = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def ends(model: Any) -> list[str | None]:
    """Return `"softmax"`, `"sigmoid"` or `"linear"` for each output, as its last activation is.

    It is None where operations end in what is none of these, such as a function of the user's.
    """
    return ["softmax" if end == _MOVED else end for end in _ends(model)]


def moved_classes(model: Any) -> list[int]:
    """Return the numbers of outputs whose softmax is over another axis than their last one."""
    return [number for number, end in enumerate(_ends(model)) if end == _MOVED]


def activations(model: Any) -> list[str | None]:
    """Return `"softmax"`, `"sigmoid"` or None for each output, as its last activation is."""
    return [None if end == "linear" else end for end in ends(model)]


_MOVED = "softmax over another axis"


def _ends(model: Any) -> list[str | None]:
    whole = _Call(_keras.graph_of(model))
    return [_end(tensor, whole) for tensor in whole.graph.outputs]


@dataclass(frozen=True)
class _Call:
    """A call whose graph is looked into: the graph, the call's node, and the call around it.

    The last two are None for that of the model itself.
    """

    graph: Any
    node: Any = None
    around: _Call | None = None

    def given(self, tensor: Any) -> Any:
        """Return what the call was given for an input of its graph, or None for another tensor."""
        places = {id(each): place for place, each in enumerate(self.graph.inputs)}
        place = places.get(id(tensor))
        return None if place is None or self.node is None else self.node.input_tensors[place]

    def made(self, tensor: Any) -> tuple[Any, int]:
        """Return the node that made a tensor, and which of its outputs that is.

        The layers of a graph that was recorded know nothing of its calls.
        """
        made = (
            (node, place)
            for node in _keras.nodes_of(self.graph)
            for place, each in enumerate(node.output_tensors)
            if each is tensor
        )
        return next(made, (None, 0))


def _end(tensor: Any, call: _Call) -> str | None:
    given = call.given(tensor)
    if given is not None and call.around is not None:
        return _end(given, call.around)
    node, place = call.made(tensor)
    if node is None:  # an input of the model
        return "linear"
    operation, graph = node.operation, _keras.graph_at(node)
    rank = len(tensor.shape)
    if graph is not None:
        return _end(graph.outputs[place], _Call(graph, node, call))
    if _is(operation, _PASSING, _PASSING_OPERATIONS) or _is_linear(operation):
        before = _ends_before(node, call)
        end = before.pop() if len(before) == 1 else None
        return _MOVED if end == "softmax" and not _keeps_last(node) else end
    if _is(operation, _MIXING, _MIXING_OPERATIONS):  # sums of probabilities are none any more
        before = _ends_before(node, call)
        return "linear" if "linear" in before and before <= {"linear", None} else None
    if not _keras.is_layer(operation):
        end = _OPERATIONS.get(type(operation).__name__)
        return _softmax(operation, rank) if end == "softmax" else end
    return _end_of(operation, rank)


def _softmax(operation: Any, rank: int) -> str:
    """Return how a softmax of tensors of a rank ends; one over no axis is over all numbers."""
    axis = operation.axis
    axes = axis if isinstance(axis, list | tuple) else [axis]
    return "softmax" if [n % rank for n in axes if n is not None] == [rank - 1] else _MOVED


def _keeps_last(node: Any) -> bool:
    """Tell whether a call that only moves values leaves the last axis the last one."""
    (given, *_), made, operation = node.input_tensors, node.output_tensors[0], node.operation
    last = len(given.shape) - 1
    order = {"Permute": "dims", "Transpose": "axes"}.get(type(operation).__name__)
    if order is not None:
        moved = getattr(operation, order, None)
        return moved is not None and moved[-1] % (last + 1) == last
    return given.shape[-1] == made.shape[-1]


def _ends_before(node: Any, call: _Call) -> set[str | None]:
    return {_end(each, call) for each in node.input_tensors}


def _is(operation: Any, kinds: tuple[type, ...], names: tuple[str, ...]) -> bool:
    if _keras.is_layer(operation):
        return isinstance(operation, kinds)
    return type(operation).__name__ in names


def _is_linear(operation: Any) -> bool:
    is_one = isinstance(operation, layers.Activation)
    return is_one and operation.activation is keras.activations.linear


def _end_of(layer: Any, rank: int) -> str | None:
    """Return how a layer ends by itself, whatever tensor of a rank it gives."""
    if isinstance(layer, layers.TimeDistributed):
        function = _keras.function_of(layer.layer)
        if function is None:
            return _end_of(layer.layer, rank - 1)
        return _end(function.outputs[0], _Call(function))
    if isinstance(layer, layers.Softmax):
        return _softmax(layer, rank)
    held = getattr(layer, "activation", keras.activations.linear)
    if isinstance(held, keras.layers.Layer):
        return _end_of(held, rank)
    tells = is_known(type(layer)) and is_known(held) and not isinstance(layer, layers.Lambda)
    return _FUNCTIONS.get(held, "linear" if tells else None)


def is_known(thing: Any) -> bool:
    """Tell whether a class, an object or a function is one of Keras, or of this library."""
    return str(getattr(thing, "__module__", "")).startswith(("keras.", "prune_keras."))
