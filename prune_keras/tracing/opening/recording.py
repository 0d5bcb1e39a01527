"""Recording: a layer's `call` is run on symbolic tensors, which remember what it does.

It is run for two sizes of a batch, so that what depends on it is known from what does not, and
once more in training, so that flags which it hands on are, or for both sizes if it does something
else there. What it draws in training is spread evenly meanwhile.
"""

from __future__ import annotations

import random
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import tree

from prune_keras import _keras
from prune_keras.tracing.opening.closed import Closed
from prune_keras.tracing.opening.writing import Written, check_unread
from prune_keras.tracing.rules.registry import ruled_parent

# Neither is likely to be a factor of a width; a size that has both of them is no batch.
BATCHES = (7, 11)
_LIBRARIES = ("/keras/src/", "/prune_keras/", "/site-packages/")


@dataclass(frozen=True)
class Recording:
    """What one call did.

    Args:
        inputs: symbolic tensors that it was given.
        structure: what they lie in; the first argument, where all of them lie there.
        weights: variables that its code read by attributes, and the tensors in their place.
        nodes: the calls that it made, in an order in which they can run.
        outputs: structure of symbolic tensors.
        losses: whether its own code added losses.
    """

    inputs: tuple[Any, ...]
    structure: Any
    weights: tuple[tuple[Any, Any], ...]
    nodes: tuple[Any, ...]
    outputs: Any
    losses: bool = False


@dataclass(frozen=True)
class Recordings:
    """What the same call did for two sizes of a batch."""

    first: Recording
    other: Recording
    batches: tuple[int, int]


class Recorder:
    """Records one call of a layer in several ways.

    Args:
        layer: the layer, whose `call` is run; nothing of it is changed.
        args, kwargs: what it is called with, symbolic tensors among it.
        rows: how many entries along the batch belong to one sample, as windows do.

    Masks that the tensors carry are recorded as further inputs, behind the others.
    """

    def __init__(self, layer: Any, args: tuple, kwargs: dict, rows: int = 1) -> None:
        self._layer, self._args, self._kwargs = layer, args, kwargs
        self._batches = (rows * BATCHES[0], rows * BATCHES[1])
        self._told = "training" in _keras.call_arguments(layer)

    def in_inference(self) -> Recordings:
        """Record it for two sizes of a batch.

        Raises:
            Closed: where the call cannot be run on symbolic tensors.
        """
        first, other = (self._recorded(batch, False) for batch in self._batches)
        return Recordings(first, other, self._batches)

    def in_training(self) -> Recording | None:
        """Record it for the first size of a batch; None where it is not told what it is for."""
        return self._in_training(self._batches[0]) if self._told else None

    def in_training_for_both(self, first: Recording) -> Recordings:
        """Add the recording of the second size, in which what is drawn is something else.

        Raises:
            Closed: where it does something else each time.
        """
        other = self._in_training(self._batches[1], backwards=True)
        return Recordings(first, other, self._batches)

    def _in_training(self, batch: int, backwards: bool = False) -> Recording:
        before = _states_of_chance()
        made = self._recorded(batch, True, backwards)
        if _states_of_chance() != before:  # by which it may branch
            raise Closed("it draws numbers of Python or NumPy in training")
        return made

    def _recorded(self, batch: int, training: bool, backwards: bool = False) -> Recording:
        flag = {"training": training} if self._told else {}
        call = self._layer, self._args, {**self._kwargs, **flag}, batch
        return _recorded(*call, backwards if training else None)


def _states_of_chance() -> tuple:
    return random.getstate(), repr(np.random.get_state(legacy=False))


def _recorded(
    layer: Any, args: tuple, kwargs: dict, batch: int, backwards: bool | None
) -> Recording:
    args, kwargs, fresh, carried = _with_fresh(args, kwargs, batch)
    weights = stand_ins(layer)
    changed: list[str] = []
    try:
        scope = keras.StatelessScope(collect_losses=True)
        with _keras.without_new_calls(layer), scope, _keras.all_keys(), ExitStack() as held:
            changed = held.enter_context(_keras.keeping_attributes(layer))
            held.enter_context(_keras.taking_by_arrays())
            there = held.enter_context(standing_in(layer, weights))
            held.enter_context(_keras.refusing_reads(lambda: not there()))
            own = lambda each: each is layer or not may_be_opened(each)  # noqa: E731
            losses = held.enter_context(_keras.noting_losses(own))
            if backwards is not None:
                held.enter_context(_keras.drawing_evenly(lambda: not there(), backwards))
            outputs = layer.call(*_keras.cast_for(layer, args), **_keras.cast_for(layer, kwargs))
            ends = {id(tensor) for tensor in (*fresh, *carried, *(t for _, t in weights))}
            nodes = _keras.recorded_calls(outputs, ends)
    except Exception as error:
        raise Closed(_line(error)) from error
    if changed:
        raise Closed(f"it changes its attribute {changed[0]!r} as it is called")
    _check_outputs(outputs)
    _check_unchanged(layer, scope)
    used = {id(t) for node in nodes for t in node.input_tensors} | set(
        map(id, tree.flatten(outputs))
    )
    check_unread(weights, used)
    read = tuple((v, tensor) for v, tensor in weights if id(tensor) in used)
    inputs = [*fresh, *carried]
    alone = len(tensors_in(args[:1], {})) == len(inputs)
    structure = args[0] if alone else inputs
    return Recording(tuple(inputs), structure, read, tuple(nodes), outputs, bool(losses))


def _with_fresh(args: tuple, kwargs: dict, batch: int) -> tuple[tuple, dict, list, list]:
    """Return arguments with fresh tensors for the symbolic ones, these, and their masks."""
    given = tensors_in(args, kwargs)
    fresh, masks = _fresh(given, batch), masks_of(given)
    carried = _fresh([mask for mask in masks if mask is not None], batch)
    left, rest = iter(carried), iter(fresh)
    _keras.carry(fresh, [None if mask is None else next(left) for mask in masks])
    args, kwargs = tree.map_structure(
        lambda value: next(rest) if is_symbolic(value) else value, (args, kwargs)
    )
    return args, kwargs, fresh, carried


def _fresh(tensors: list, batch: int) -> list:
    return [keras.KerasTensor((batch, *tensor.shape[1:]), tensor.dtype) for tensor in tensors]


def masks_of(tensors: list) -> list:
    """Return the masks that symbolic tensors carry, or None for each."""
    return [_keras.carried_mask(tensor) for tensor in tensors]


def _check_outputs(outputs: Any) -> None:
    for output in tree.flatten(outputs):
        if not is_symbolic(output):
            raise Closed(f"it returns {type(output).__name__}, which is no tensor of its inputs")


def _check_unchanged(layer: Any, scope: Any) -> None:
    for variable in layer.weights:
        if scope.get_current_value(variable) is not None:
            raise Closed(f"it changes {variable.path}")
    if scope.state_mapping:
        raise Closed("it draws numbers")


def stand_ins(layer: Any) -> list[tuple[Any, Any]]:
    """Return the variables that code of a layer may read, with symbolic tensors like them."""
    return [(v, _keras.StandIn(v, dtype)) for v, dtype in _readable(layer)]


def standing_in(layer: Any, weights: list[tuple[Any, Any]]) -> Any:
    """Return a context in which code of a layer reads symbolic tensors in place of variables."""
    tensors = {id(variable): tensor for variable, tensor in weights}
    written = Written([tensor for _, tensor in weights])
    return _keras.standing_in(layer, tensors, may_be_opened, written.instead)


def own_layers(layer: Any) -> list:
    """Return a layer whose code is run, and those in it whose code is a user's, too."""
    return [each for each in _keras.all_layers(layer) if each is layer or may_be_opened(each)]


def may_be_opened(operation: Any) -> bool:
    """Tell whether a layer is a user's, and has no rule of its own or of a parent."""
    return (
        _keras.is_layer(operation)
        and _keras.function_of(operation) is None
        and ruled_parent(operation) is None
        and not _keras.module_of(type(operation)).startswith("keras.")
    )


def _readable(layer: Any) -> Iterator[tuple[Any, str]]:
    """Yield the floating-point variables in a layer, and the dtype in which its code reads them."""
    seen: set[int] = set()
    for each in _keras.all_layers(layer):
        dtype = each.compute_dtype if each.autocast else None
        for variable in (*each._trainable_variables, *each._non_trainable_variables):
            if id(variable) not in seen and keras.backend.is_float_dtype(variable.dtype):
                seen.add(id(variable))
                yield variable, dtype or variable.dtype


def is_symbolic(value: Any) -> bool:
    return isinstance(value, keras.KerasTensor)


def tensors_in(args: tuple, kwargs: dict) -> list:
    """Return the symbolic tensors that a call is given, flat."""
    return [value for value in tree.flatten((args, kwargs)) if is_symbolic(value)]


def _line(error: Exception) -> str:
    """Return where a `call` was stopped, outside of Keras."""
    if isinstance(error, _keras.ReadBeside):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(part in f.filename for part in _LIBRARIES)]
    place = f"line {own[-1].lineno} of {Path(own[-1].filename).name}, " if own else ""
    line = f"`{own[-1].line}`, " if own else ""
    said = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{place}{line}stops: {textwrap.shorten(said, 120, placeholder=' ...')}"
