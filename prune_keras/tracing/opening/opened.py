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
        if any(way.recording.losses for way in ways):
            model.adds_losses()
        if training is not None:
            model.differs_in_training(_lifted(layer, training))
    return model


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
