"""Outputs: what the numbers that a model gives stand for."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, tree

from prune_keras import _keras

_PASSING = (layers.Reshape, layers.Flatten, layers.Identity, layers.Dropout)
_FUNCTIONS = {keras.activations.softmax: "softmax", keras.activations.sigmoid: "sigmoid"}
_RAW = {"Softmax": "softmax", "Sigmoid": "sigmoid"}


def activations(model: Any) -> list[str | None]:
    """Return `"softmax"`, `"sigmoid"` or None for each output, as its last activation is."""
    return [_activation(tensor) for tensor in _keras.graph_of(model).outputs]


def _activation(tensor: Any) -> str | None:
    operation, node, place = tensor._keras_history
    function = _keras.function_of(operation)
    if function is not None:
        return _activation(function.outputs[place])
    held = getattr(operation, "activation", None)
    if isinstance(operation, _PASSING) or held is keras.activations.linear:
        is_raw = isinstance(operation, (*_PASSING, layers.Activation))
        given = tree.flatten(operation._inbound_nodes[node].input_tensors) if is_raw else []
        return _activation(given[0]) if given else None
    if isinstance(operation, layers.Softmax):
        return "softmax"
    is_layer = _keras.is_layer(operation)
    return _FUNCTIONS.get(held) if is_layer else _RAW.get(type(operation).__name__)


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


def output_names(model: Any) -> list[str]:
    """Return the names by which losses and weights of each output are told apart."""
    found = getattr(model, "output_names", None)  # a Sequential model has one output, and no names
    return found or [tensor.name for tensor in _keras.graph_of(model).outputs]


def losses(model: Any) -> list[str]:
    """Return what each output stands for by the loss that it is compiled with."""
    names, given = output_names(model), model.loss
    if isinstance(given, dict):
        flat = [given.get(name) for name in names]
    else:
        flat = tree.flatten(given)
        flat = flat if len(flat) == len(names) else flat[:1] * len(names)
    return [_family(each) for each in flat]


def _family(loss: Any) -> str:
    name = loss if isinstance(loss, str) else type(loss).__name__
    name = getattr(loss, "__name__", name).lower()
    if "binary" in name:
        return "sigmoid"
    return "softmax" if "categorical" in name or name in ("crossentropy", "ce") else "values"
