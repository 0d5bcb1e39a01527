"""Outputs: what the numbers that a model gives stand for, by their ends and by its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import tree

from prune_keras import _keras
from prune_keras.teaching.ends import activations, ends, is_known, moved_classes


def families(model: Any, teacher: Any, asked: str, are_classes: bool = False) -> list[str]:
    """Return `"softmax"`, `"sigmoid"` or `"values"` for each output of a student.

    Args:
        model: the student, compiled.
        teacher: the teacher, or None where it is the student.
        asked: one of these for all outputs, or `"auto"`.
        are_classes: whether outputs are known to be classes where a loss does not tell. Defaults
            to False.

    Raises:
        ValueError: if classes lie along another axis than the last one.
    """
    kinds = _families(model, teacher, asked, are_classes)
    for each in (model, teacher):
        check_classes(each, kinds, "Pass Teacher(outputs='values'), which compares probabilities,")
    return kinds


def check_classes(model: Any, kinds: Sequence[str], way_out: str) -> None:
    """Raise a ValueError if a softmax, or its loss, is over another axis than the last one.

    Args:
        model: the model.
        kinds: what each output stands for.
        way_out: what to do, before "or put the classes last".
    """
    tensors = _keras.graph_of(model).outputs
    axes = [getattr(loss, "axis", -1) for loss in by_output(model, getattr(model, "loss", None))]
    by_loss = [axis not in (-1, len(y.shape) - 1) for axis, y in zip(axes, tensors, strict=True)]
    moved = {*moved_classes(model), *(number for number, is_one in enumerate(by_loss) if is_one)}
    for number in sorted(moved):
        if kinds[number] == "softmax":
            raise ValueError(
                "Classes must lie along the last axis, over which they are softened. Received: "
                f"output {number} of {model.name!r}, whose softmax or loss is over another one. "
                f"{way_out} or put the classes last."
            )


def _families(model: Any, teacher: Any, asked: str, are_classes: bool) -> list[str]:
    outputs = _keras.graph_of(model).outputs
    if asked != "auto":
        return [asked] * len(outputs)
    by_loss = losses(model)
    if are_classes:
        compiled = zip(by_output(model, model.loss), outputs, by_loss, strict=True)
        by_loss = [kind if _tells(loss) else _classes(y) for loss, y, kind in compiled]
    told = zip(activations(model), activations(teacher), by_loss, strict=True)
    return [mine or other or kind for mine, other, kind in told]


def _classes(output: Any) -> str:
    return "sigmoid" if output.shape[-1] == 1 else "softmax"


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
    if _tells(loss):
        return _family(loss) == kind and not getattr(loss, "from_logits", False)
    return None


def losses(model: Any) -> list[str]:
    """Return what each output stands for by the loss that it is compiled with."""
    return [_family(each) for each in by_output(model, model.loss)]


def reductions(model: Any) -> list[str]:
    """Return by what the loss of each output is reduced over a batch, as Keras names it."""
    compiled = by_output(model, getattr(model, "loss", None))
    return [getattr(each, "reduction", None) or "sum_over_batch_size" for each in compiled]


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
    is_told = isinstance(loss, str) or is_known(loss)
    return is_told and _name(loss).startswith(_OF_NUMBERS)


_OF_NUMBERS = ("mean", "mse", "mae", "mape", "msle", "huber", "logcosh", "log_cosh", "poisson")


def _tells(loss: Any) -> bool:
    """Tell whether a loss is one of Keras, or of a class that is made from one."""
    return isinstance(loss, str) or is_known(loss) or _known_class(loss) is not None


def _known_class(loss: Any) -> type | None:
    """Return the class of Keras that says what a loss compares; None if there is none."""
    kinds = (each for each in type(loss).__mro__ if issubclass(each, keras.losses.Loss))
    return next((each for each in kinds if is_known(each) and each.__name__ not in _ANY), None)


_ANY = ("Loss", "LossFunctionWrapper")


def _name(loss: Any) -> str:
    """Return what a loss is called, one of a user's own class as the one that it is made from."""
    kind = _known_class(loss) or type(loss)
    name = loss if isinstance(loss, str) else kind.__name__
    return getattr(loss, "__name__", name).lower()


def _family(loss: Any) -> str:
    name = _name(loss)
    if "binary" in name:
        return "sigmoid"
    return "softmax" if "categorical" in name or name in ("crossentropy", "ce") else "values"
