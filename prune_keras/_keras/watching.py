"""Private Keras, watching: what single layers read and respond while a model runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras.src.backend.common.masking import get_keras_mask


@contextlib.contextmanager
def watched(
    layers: Sequence[Any],
    see: Callable[[Any, Any, Any], Any],
    give: Callable[[Any, Any], Any] = lambda layer, inputs: inputs,
) -> Iterator[None]:
    """Let calls of layers within read what `give`, and go on with what `see` makes of them.

    Args:
        layers: Dense layers and convolutions of any kind, those inside of other layers too.
        see: receives a layer, its input, and its response before the activation; returns what the
            activation is applied to.
        give: receives a layer and its input, and returns what it is to read.
    """
    with contextlib.ExitStack() as held:
        for layer in layers:
            held.enter_context(_set(layer, "call", _seen(layer, layer.call, see, give)))
        yield


def heard(layer: Any, hear: Callable[[Any, Any, Any], None]) -> contextlib.AbstractContextManager:
    """Let each call of a layer tell of what it is called on, its mask, and its response.

    Args:
        layer: a layer, in a graph or inside of another one.
        hear: receives the input, its mask or None, and the response before the activation.
    """

    def see(_: Any, inputs: Any, response: Any) -> Any:
        hear(inputs, get_keras_mask(inputs), response)
        return response

    return watched([layer], see)


@contextlib.contextmanager
def answering(
    operations: Sequence[Any], answer: Callable[[Any, Callable, tuple, dict], Any]
) -> Iterator[None]:
    """Let something else answer calls of operations within.

    Args:
        operations: layers and raw operations of a graph; each is meant once.
        answer: receives an operation, its `call`, and the arguments of that, by position and by
            name; returns what the call is to give.
    """
    with contextlib.ExitStack() as held:
        for operation in operations:
            held.enter_context(_set(operation, "call", _answered(operation, answer)))
        yield


def _answered(operation: Any, answer: Callable) -> Callable:
    call = operation.call

    @functools.wraps(call)
    def answered(*args: Any, **kwargs: Any) -> Any:
        return answer(operation, call, args, kwargs)

    return answered


def replaced(owner: Any, name: str, value: Any) -> contextlib.AbstractContextManager:
    """Set an attribute of a layer or model for a while, unseen by what Keras tracks of it."""
    return _set(owner, name, value)


def _seen(layer: Any, call: Callable, see: Callable, give: Callable) -> Callable:
    def seen(inputs: Any, *args: Any, **kwargs: Any) -> Any:
        activation = getattr(layer, "activation", None)
        with _set(layer, "activation", None):
            response = call(give(layer, inputs), *args, **kwargs)
        response = see(layer, inputs, response)
        return response if activation is None else activation(response)

    return seen


@contextlib.contextmanager
def _set(layer: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of a layer for a while, unseen by what Keras tracks of it."""
    attributes = vars(layer)
    before = {name: attributes[name]} if name in attributes else {}
    attributes[name] = value
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(before)
