"""Opened: the graph of what a layer does, or of a model with a `call` of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
from keras import tree

from prune_keras import _keras
from prune_keras.interrupts import deferred
from prune_keras.tracing.opening import keras_hub
from prune_keras.tracing.opening.lifting import lifted
from prune_keras.tracing.opening.recording import (
    Closed,
    is_symbolic,
    may_be_opened,
    own_layers,
    stand_ins,
    standing_in,
)
from prune_keras.tracing.opening.training import Way, ways_of
from prune_keras.tracing.rules.masked import MASKED

__all__ = [
    "Closed",
    "Opened",
    "check_own",
    "differs_in_training",
    "looked_into",
    "may_be_opened",
    "open_model",
    "unmasked",
]


@dataclass(frozen=True)
class Opened:
    """A call of a layer that was looked into.

    Args:
        path: path of the layer in the model.
        layer: the layer, or the model with a `call` of its own.
        function: functional model of what the call does.
        args, kwargs: what it is called with, symbolic tensors among it.
        follows: whether the call itself does what its graph does once neurons of any kind that may
            go are gone; else some had to stay for it.
        rows: how many entries along the batch of what it is called on belong to one sample.
    """

    path: str
    layer: Any
    function: Any
    args: tuple
    kwargs: dict
    follows: bool = True
    rows: int = 1


@keras_hub.recordable()
def looked_into(layer: Any, args: tuple, kwargs: dict, rows: int = 1) -> Any:
    """Return a functional model of what a layer does when it is called in this way.

    The model shares the layers that the call runs, and the weights that it reads. It does the same
    in training, unless its `in_training` is a second one, for that.

    Args:
        layer: a built layer or model; it is not changed.
        args, kwargs: what it is called with, symbolic tensors among it.
        rows: how many entries along the batch of these belong to one sample, as windows do.

    Raises:
        Closed: where that cannot be said, with the reason.
    """
    if not layer.built:
        raise Closed("it is not built")
    # Its attributes show other things meanwhile; warnings its own calls have given.
    with deferred(), _keras.without_warnings():
        inference, training = ways_of(layer, args, kwargs, rows)
        model = _lifted(layer, inference)
        ways = filter(None, (inference, training))
        if any(way.recording.losses for way in ways) or _is_penalized(layer):
            model.adds_losses()
        if training is not None:
            model.differs_in_training(_lifted(layer, training))
    return model


def _is_penalized(layer: Any) -> bool:
    """Tell whether Keras adds a loss to what a layer, or one of its own inside, puts out."""
    return any(each.activity_regularizer is not None for each in own_layers(layer))


def _lifted(layer: Any, way: Way) -> Any:
    with _keras.without_new_calls(layer), standing_in(layer, stand_ins(layer)):
        try:
            return lifted(way.recording, way.steps, layer)
        except (TypeError, ValueError) as error:
            # What works on a weight need not on one for each sample.
            raise Closed(f"it does something to a weight that stops ({error})") from error


def differs_in_training(function: Any) -> bool:
    """Tell whether a call does something in training that no layers of Keras do for it.

    Losses are for training. That it masks a kernel shows there only, too: what is masked once stays
    zero elsewhere.
    """
    if getattr(function, "losses_are_added", False):
        return True
    inside = (node.operation for node in _keras.nodes_of(function))
    return len(_keras.ways_of(function)) > 1 or any(isinstance(each, MASKED) for each in inside)


def unmasked(given: Any) -> Any:
    """Return what a call is given with symbolic tensors that carry no masks.

    Where a layer stands, the tensors of each call bring theirs.
    """

    def bare(value: Any) -> Any:
        if not is_symbolic(value) or _keras.carried_mask(value) is None:
            return value
        return keras.KerasTensor(value.shape, value.dtype)

    return tree.map_structure(bare, given)


def check_own(layer: Any, model: Any) -> None:
    """Raise unless the weights that a layer holds are its own, not those of others in the model.

    Raises:
        Closed: naming the weight; a copy of the model could not tell whose it is.
    """
    inside = {id(each) for each in _keras.all_layers(layer)}
    held = {id(variable): variable for variable in layer.variables}
    for other in (each for each in _keras.all_layers(model) if id(each) not in inside):
        for variable in (*other._trainable_variables, *other._non_trainable_variables):
            if id(variable) in held and id(layer) not in map(id, _keras.all_layers(other)):
                raise Closed(f"it holds {variable.path} of {other.name}")


def _given_inputs(model: Any) -> list:
    """Return what a built model with a `call` of its own may be called on: numbers, or indices.

    Raises:
        ValueError: if the model does not know the shapes.
    """
    shapes = getattr(model, "_build_shapes_dict", None) or {}
    if not model.built or len(shapes) != 1:
        raise ValueError(
            "A model with a `call` of its own must know what it is called on. Received: "
            f"{model.name!r} ({type(model).__name__}), which is not built, or on more than one "
            "argument. Call it once on a batch, or name its inputs: prune_keras.unfold(model, "
            "inputs=keras.Input(shape_of_a_sample))."
        )
    (shape,) = shapes.values()
    return [
        tree.map_shape_structure(lambda s, d=dtype: keras.KerasTensor((None, *s[1:]), d), shape)
        for dtype in (model.compute_dtype, "int32")
    ]


def _with_indices(given: Any, function: Any) -> Any:
    """Return what a model was called on, integers where it only looks entries up by numbers."""
    flat = [
        keras.KerasTensor(each.shape, "int32")
        if keras.backend.is_float_dtype(each.dtype) and _are_indices(tensor, function)
        else each
        for each, tensor in zip(tree.flatten(given), function.inputs, strict=False)
    ]
    is_same = all(old is new for old, new in zip(tree.flatten(given), flat, strict=True))
    return given if is_same else tree.pack_sequence_as(given, flat)


def _are_indices(tensor: Any, function: Any) -> bool:
    """Tell whether entries are looked up by the numbers of an input, and nothing else is done."""
    uses = _uses(tensor, function)
    return any(map(_keras.looks_up, uses)) and all(
        _keras.looks_up(each) or _keras.compares(each) for each in uses
    )


def _uses(tensor: Any, function: Any) -> list:
    """Return the operations that read an input, those in nested models too; None if it leaves."""
    found: list = [None for each in function.outputs if each is tensor]
    for node in _keras.nodes_of(function):
        if any(each is tensor for each in node.input_tensors):
            inner = _keras.function_of(node.operation)
            if inner is None:
                found.append(node.operation)
            for each, own in zip(node.input_tensors, inner.inputs if inner else [], strict=False):
                found += _uses(own, inner) if each is tensor else []
    return found


def open_model(model: Any, inputs: Any = None) -> Any:
    """Return a functional model of what a model with a `call` of its own does.

    Args:
        model: a built model; it is not changed.
        inputs: symbolic tensors that `call` takes. Defaults to None: like those it was built on.

    Raises:
        ValueError: if the `call` cannot be looked into.
    """
    reasons: list[Exception] = []
    for way in _given_inputs(model) if inputs is None else [inputs]:
        try:
            if inputs is None:
                with _keras.without_warnings():
                    model.compute_output_spec(way)  # which tells numbers from indices
            function = looked_into(model, (way,), {})
            indices = _with_indices(way, function) if inputs is None else way
            if indices is not way:
                way, function = indices, looked_into(model, (indices,), {})
            function.called_on = way
            return function
        except Closed as reason:
            reasons.insert(0, reason)
        except Exception as error:
            reasons.append(error)
    raise ValueError(
        "The `call` of a model must be made of Keras' layers and keras.ops to be looked into. "
        f"Received: {model.name!r} ({type(model).__name__}): {reasons[0]}."
    ) from reasons[0].__cause__
