"""Private Keras, stand-ins: symbolic tensors where a layer's own code looks for its variables."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import tree

from prune_keras._keras.graphs import all_layers
from prune_keras._keras.recording import cast_for

# What Keras tracks its own objects in, beside the attributes that code reads.
_BOOKS = frozenset(
    "_trainable_variables _non_trainable_variables _tracker _layers _metrics _losses _loss_ids "
    "_seed_generators _torch_params _inbound_nodes _outbound_nodes optimizer".split()
)


class StandIn(keras.KerasTensor):
    """A symbolic tensor in the place of a variable, which may be told what is written to it."""

    def __init__(self, variable: Any, dtype: str) -> None:
        super().__init__(variable.shape, dtype)
        self.variable, self.written = variable, None

    def assign(self, value: Any) -> Any:
        self.written = value
        return value


@contextlib.contextmanager
def standing_in(
    layer: Any,
    tensors: Mapping[int, Any],
    opens: Callable[[Any], bool],
    instead: Callable[[Any], Any] = lambda inner: inner,
) -> Iterator[Callable[[], bool]]:
    """Let a layer's own code find symbolic tensors where its attributes hold variables.

    While a layer inside of it is called, that one has its variables.

    Args:
        layer: the layer.
        tensors: id of a variable -> the tensor.
        opens: tells whether the code of a layer inside of it counts as its own.
        instead: returns what is called in the place of a layer inside of it.

    Yields:
        A function that tells whether the variables are there at the moment.
    """
    held = [_Held(each, name, value, tensors) for each, name, value in _holding(layer, tensors)]
    shown = [False]

    def show(really: bool) -> bool:
        before, shown[0] = shown[0], really
        for each in held:
            each.show(really)
        return before

    def called(run: Callable, inner: Any, args: tuple, kwargs: dict) -> Any:
        if opens(inner):
            with contextlib.suppress(Exception):  # whatever a call does with such tensors
                return _shapes_made(inner, args, kwargs)
        before = show(True)
        try:
            return run(inner, *args, **kwargs)
        finally:
            show(before)

    def booked(run: Callable, inner: Any) -> None:
        before = show(True)
        try:
            run(inner)
        finally:
            show(before)

    with _with_symbolic_calls(called), _with_books(booked), _calling(instead):
        try:
            show(False)
            yield lambda: shown[0]
        finally:
            show(True)


def _shapes_made(layer: Any, args: tuple, kwargs: dict) -> Any:
    """Return symbolic tensors like those that a layer's `call` makes of others.

    Keras would run the call in a graph of the backend.
    """
    with keras.StatelessScope(collect_losses=True):
        made = layer.call(*cast_for(layer, args), **cast_for(layer, kwargs))
    return tree.map_structure(lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), made)


@contextlib.contextmanager
def _with_symbolic_calls(called: Callable) -> Iterator[None]:
    """Let `called` run layers on symbolic tensors within; it gets Keras' own way to, and a call."""
    run = keras.layers.Layer.symbolic_call

    @functools.wraps(run)
    def symbolic_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return called(run, self, args, kwargs)

    keras.layers.Layer.symbolic_call = symbolic_call
    try:
        yield
    finally:
        keras.layers.Layer.symbolic_call = run


@contextlib.contextmanager
def _calling(instead: Callable[[Any], Any]) -> Iterator[None]:
    """Let others be called in the place of layers within."""
    run = keras.layers.Layer.__call__

    @functools.wraps(run)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return run(instead(self), *args, **kwargs)

    keras.layers.Layer.__call__ = call
    try:
        yield
    finally:
        keras.layers.Layer.__call__ = run


@contextlib.contextmanager
def _with_books(booked: Callable) -> Iterator[None]:
    """Let `booked` run what layers do on PyTorch to have their variables in books of a module."""
    kind = next((k for k in keras.layers.Layer.__mro__ if "_track_variables" in vars(k)), None)
    if kind is None:
        yield
        return
    run = vars(kind)["_track_variables"]
    kind._track_variables = lambda layer: booked(run, layer)
    try:
        yield
    finally:
        kind._track_variables = run


class _Held:
    """An attribute that holds variables, and what it holds in their place."""

    def __init__(self, owner: Any, name: str, value: Any, tensors: Mapping[int, Any]) -> None:
        self.owner, self.name, self.value = owner, name, value
        self.instead = _replaced(value, tensors)

    def show(self, really: bool) -> None:
        vars(self.owner)[self.name] = self.value if really else self.instead


def _holding(layer: Any, tensors: Mapping[int, Any]) -> list[tuple[Any, str, Any]]:
    return [
        (each, name, value)
        for each in all_layers(layer)
        for name, value in vars(each).items()
        if name not in _BOOKS and _holds_one(value, tensors)
    ]


def _holds_one(value: Any, tensors: Mapping[int, Any]) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_holds_one(part, tensors) for part in value)
    return id(value) in tensors


def _replaced(value: Any, tensors: Mapping[int, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _replaced(part, tensors) for name, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [_replaced(part, tensors) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return tensors.get(id(value), value)


class ReadBeside(Exception):
    """A weight is read in another way than by the attribute of a layer."""


@contextlib.contextmanager
def refusing_reads(refused: Callable[[], bool]) -> Iterator[None]:
    """Let no number of a floating-point variable be read within, where that is refused.

    Raises:
        ReadBeside: in the code that runs within, where it reads one.
    """
    kind = next(k for k in keras.Variable.__mro__ if "value" in vars(k))
    original = vars(kind)["value"]

    def value(self: Any) -> Any:
        if refused() and keras.backend.is_float_dtype(self.dtype):
            raise ReadBeside(f"{self.path} is read in another way than by an attribute of its own")
        return original.fget(self)

    kind.value = property(value, original.fset)
    try:
        yield
    finally:
        kind.value = original
