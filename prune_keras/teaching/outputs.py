"""Outputs: what the numbers that a model gives stand for, and what its loss says of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, tree

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
    return [_end(tensor, None) for tensor in _keras.graph_of(model).outputs]


def activations(model: Any) -> list[str | None]:
    """Return `"softmax"`, `"sigmoid"` or None for each output, as its last activation is."""
    return [None if end == "linear" else end for end in ends(model)]


@dataclass(frozen=True)
class _Call:
    """A call whose graph is looked into: the graph, the call's node, and the call around it."""

    graph: Any
    node: Any
    around: _Call | None

    def given(self, tensor: Any) -> Any:
        """Return what the call was given for an input of its graph, or None for another tensor."""
        places = {id(each): place for place, each in enumerate(self.graph.inputs)}
        place = places.get(id(tensor))
        return None if place is None else self.node.input_tensors[place]


def _end(tensor: Any, call: _Call | None) -> str | None:
    given = None if call is None else call.given(tensor)
    if call is not None and given is not None:
        return _end(given, call.around)
    operation, number, place = tensor._keras_history
    node = operation._inbound_nodes[number]
    graph = _keras.graph_at(node)
    if graph is not None:
        return _end(graph.outputs[place], _Call(graph, node, call))
    if _is(operation, _PASSING, _PASSING_OPERATIONS) or _is_linear(operation):
        before = _ends_before(node, call)
        return before.pop() if len(before) == 1 else None
    if _is(operation, _MIXING, _MIXING_OPERATIONS):  # sums of probabilities are none any more
        before = _ends_before(node, call)
        return "linear" if "linear" in before and before <= {"linear", None} else None
    if not _keras.is_layer(operation):
        return _OPERATIONS.get(type(operation).__name__)
    return _end_of(operation)


def _ends_before(node: Any, call: _Call | None) -> set[str | None]:
    return {_end(each, call) for each in node.input_tensors}


def _is(operation: Any, kinds: tuple[type, ...], names: tuple[str, ...]) -> bool:
    if _keras.is_layer(operation):
        return isinstance(operation, kinds)
    return type(operation).__name__ in names


def _is_linear(operation: Any) -> bool:
    is_one = isinstance(operation, layers.Activation)
    return is_one and operation.activation is keras.activations.linear


def _end_of(layer: Any) -> str | None:
    """Return how a layer ends by itself, whatever it is given."""
    if isinstance(layer, layers.TimeDistributed):
        function = _keras.function_of(layer.layer)
        return _end_of(layer.layer) if function is None else _end(function.outputs[0], None)
    if isinstance(layer, layers.Softmax):
        return "softmax"
    held = getattr(layer, "activation", keras.activations.linear)
    if isinstance(held, keras.layers.Layer):
        return _end_of(held)
    is_known = all(_is_known(each) for each in (type(layer), held))
    is_known = is_known and not isinstance(layer, layers.Lambda)
    return _FUNCTIONS.get(held, "linear" if is_known else None)


def _is_known(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).startswith(("keras.", "prune_keras."))


def families(model: Any, teacher: Any, asked: str) -> list[str]:
    """Return `"softmax"`, `"sigmoid"` or `"values"` for each output of a student.

    Args:
        model: the student, compiled.
        teacher: the teacher, or None where it is the student.
        asked: one of these for all outputs, or `"auto"`.
    """
    count = len(_keras.graph_of(model).outputs)
    if asked != "auto":
        return [asked] * count
    told = zip(activations(model), activations(teacher), losses(model), strict=True)
    return [mine or other or by_loss for mine, other, by_loss in told]


def activated(model: Any, kinds: Sequence[str]) -> list[bool | None]:
    """Return whether each output is probabilities, as its end tells, or else its loss.

    Args:
        model: the model.
        kinds: what each output stands for, as `families` returns it.

    Returns:
        For each output True, or False for logits and for values; None where nothing tells.
    """
    compiled = by_output(model, getattr(model, "loss", None))
    told = zip(kinds, ends(model), compiled, strict=True)
    return [_is_activated(kind, end, loss) for kind, end, loss in told]


def _is_activated(kind: str, end: str | None, loss: Any) -> bool | None:
    if kind == "values" or end is not None:
        return end == kind
    if isinstance(loss, str) or _is_known(loss):
        return _family(loss) == kind and not getattr(loss, "from_logits", False)
    return None


def losses(model: Any) -> list[str]:
    """Return what each output stands for by the loss that it is compiled with."""
    return [_family(each) for each in by_output(model, model.loss)]


def by_output(model: Any, given: Any) -> list:
    """Return what losses, or weights of them or of samples, say of each output, as Keras does.

    Args:
        model: the model.
        given: one for all outputs; or several, in their order, by name, or in their structure.

    Returns:
        A list with an entry for each output, None where nothing is said of it.
    """
    structure = _keras.output_structure(model)
    paths = [path for path, _ in tree.flatten_with_path(structure)]
    if isinstance(given, dict) and not isinstance(structure, dict):
        given = [given.get(name) for name in output_names(model)]
    if isinstance(given, list | tuple) and len(given) == len(paths):
        given = tree.pack_sequence_as(structure, [*given]) if _is_flat(given) else given
    return [_at(given, path) for path in paths]


def _is_flat(given: Sequence) -> bool:
    return not any(isinstance(each, dict | list | tuple) for each in given)


def _at(given: Any, path: Sequence) -> Any:
    """Return what a structure holds for a path of another one, of which it may tell less."""
    for key in path:
        if isinstance(given, dict):
            given = given.get(key)
        elif isinstance(given, list | tuple):
            given = given[key] if isinstance(key, int) and key < len(given) else None
    return given[0] if isinstance(given, list | tuple) and given else given


def output_names(model: Any) -> list[str]:
    """Return the names by which losses and weights of each output are told apart."""
    found = getattr(model, "output_names", None)  # a Sequential model has one output, and no names
    return found or [tensor.name for tensor in _keras.graph_of(model).outputs]


def is_of_numbers(loss: Any) -> bool:
    """Tell whether a loss is known to compare numbers, and not what is said of classes."""
    is_told = isinstance(loss, str) or _is_known(loss)
    return is_told and _name(loss).startswith(_OF_NUMBERS)


_OF_NUMBERS = ("mean", "mse", "mae", "mape", "msle", "huber", "logcosh", "log_cosh", "poisson")


def _name(loss: Any) -> str:
    name = loss if isinstance(loss, str) else type(loss).__name__
    return getattr(loss, "__name__", name).lower()


def _family(loss: Any) -> str:
    name = _name(loss)
    if "binary" in name:
        return "sigmoid"
    return "softmax" if "categorical" in name or name in ("crossentropy", "ce") else "values"
