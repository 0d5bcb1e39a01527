"""Private Keras, recording: what a layer's `call` does to symbolic tensors, call by call."""

from __future__ import annotations

import contextlib
import functools
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from keras.src.models.functional import Functional
from keras.src.ops import numpy as raw

from prune_keras._keras.graphs import nodes_of


def recorded_calls(outputs: Any, ends: set[int]) -> list:
    """Return the calls that lead from some tensors to others, in an order in which they can run.

    Args:
        outputs: symbolic tensors.
        ends: ids of the tensors where the search ends.
    """
    return _in_order(outputs, lambda tensor: None if id(tensor) in ends else made_by(tensor))


@contextlib.contextmanager
def taking_by_arrays() -> Iterator[None]:
    """Let entries be taken of symbolic tensors by arrays, where a call does so by tensors.

    Keras asks NumPy for the shape of such tensors, which reads none of a GPU on PyTorch.
    """
    run = raw.Take.symbolic_call

    def symbolic_call(self: Any, x: Any, indices: Any) -> Any:
        read = keras.ops.is_tensor(indices)
        return run(self, x, keras.ops.convert_to_numpy(indices) if read else indices)

    raw.Take.symbolic_call = symbolic_call
    try:
        yield
    finally:
        raw.Take.symbolic_call = run


def calls_of(function: Any) -> list:
    """Return the calls of a functional model, from the first output to the last one."""
    makers = {id(tensor): node for node in nodes_of(function) for tensor in node.outputs}
    return _in_order(function.outputs, lambda tensor: makers.get(id(tensor)))


def _in_order(outputs: Any, made_by: Callable[[Any], Any]) -> list:
    order: dict[int, Any] = {}
    waiting = [(made_by(tensor), False) for tensor in tree.flatten(outputs)]
    while waiting:
        node, done = waiting.pop()
        if node is None or id(node) in order:
            continue
        if done:
            order[id(node)] = node
        else:
            waiting.append((node, True))
            waiting += [(made_by(tensor), False) for tensor in reversed(node.input_tensors)]
    return list(order.values())


def made_by(tensor: Any) -> Any:
    """Return the call that a symbolic tensor comes from, or None."""
    history = getattr(tensor, "_keras_history", None)
    if history is None or history.operation is None:
        return None
    return history.operation._inbound_nodes[history.node_index]


def settings_of(operation: Any) -> dict[str, Any]:
    """Return what a raw operation was made with, by the names of its constructor's arguments."""
    kind: Any = type(operation)
    names = _constructor_arguments(kind)
    return {name: getattr(operation, name) for name in names if hasattr(operation, name)}


@functools.lru_cache(maxsize=512)
def _constructor_arguments(kind: Any) -> tuple[str, ...]:
    parameters = inspect.signature(kind.__init__).parameters
    return tuple(name for name in parameters if name not in ("self", "name", "args", "kwargs"))


def cast_for(layer: Any, given: Any) -> Any:
    """Return tensors in the dtype that Keras hands to a layer's `call`."""

    def cast(value: Any) -> Any:
        symbolic = isinstance(value, keras.KerasTensor)
        if not symbolic or not keras.backend.is_float_dtype(value.dtype):
            return value
        wanted = layer.compute_dtype
        return keras.ops.cast(value, wanted) if layer.autocast and value.dtype != wanted else value

    return tree.map_structure(cast, given)


@contextlib.contextmanager
def all_keys() -> Iterator[None]:
    """Let symbolic tensors take the keys that real ones do, such as `x[None]`, within."""
    original = keras.KerasTensor.__getitem__

    def get_item(self: Any, key: Any) -> Any:
        return original(self, key if isinstance(key, tuple) else (key,))

    keras.KerasTensor.__getitem__ = get_item
    try:
        yield
    finally:
        keras.KerasTensor.__getitem__ = original


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Let what is called within warn of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def noting_losses(own: Callable[[Any], bool]) -> Iterator[list]:
    """Let layers add losses of symbolic tensors within, which are noted only.

    Args:
        own: tells of a layer whether its losses are meant.

    Yields:
        A list that grows with each of them.
    """
    noted: list = []
    run = keras.layers.Layer.add_loss

    @functools.wraps(run)
    def add_loss(self: Any, loss: Any) -> Any:
        symbolic = [x for x in tree.flatten(loss) if isinstance(x, keras.KerasTensor)]
        noted.extend(symbolic if own(self) else [])
        return None if symbolic else run(self, loss)

    keras.layers.Layer.add_loss = add_loss
    try:
        yield noted
    finally:
        keras.layers.Layer.add_loss = run


class Recorded(Functional):
    """What a call was seen to do: the graph of no model of a user's.

    Attributes:
        called_on: what a model with a `call` of its own was called on; None for layers.
        in_training: the same for training, if that is something else; None if it is not.
        losses_are_added: whether the code of the call adds losses, which are not in the graph.
    """

    called_on: Any = None
    in_training: Any = None
    losses_are_added = False

    def adds_losses(self) -> None:
        self.__dict__["losses_are_added"] = True

    def differs_in_training(self, other: Any) -> None:
        # Unseen by Keras, which would take it for a part.
        self.__dict__["in_training"] = other
