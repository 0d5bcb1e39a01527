"""Private Keras, listening: what a layer is called on, and responds before its activation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from keras.src.backend.common.masking import get_keras_mask


@contextlib.contextmanager
def heard(layer: Any, hear: Callable[[Any, Any, Any], None]) -> Iterator[None]:
    """Let each call of a layer tell of what it is called on, its mask, and its response.

    Args:
        layer: a layer, in a graph or inside of another one.
        hear: receives the input, its mask or None, and the response before the activation.
    """
    activation = getattr(layer, "activation", None)

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        with _shown(layer, "activation", None):
            response = type(layer).call(layer, x, *args, **kwargs)
        hear(x, get_keras_mask(x), response)
        return response if activation is None else activation(response)

    with _shown(layer, "call", call):
        yield


@contextlib.contextmanager
def _shown(layer: Any, name: str, value: Any) -> Iterator[None]:
    """Let an object show an attribute, past what tracks or holds its own one."""
    attributes = vars(layer)
    held = {name: attributes[name]} if name in attributes else {}
    attributes[name] = value
    try:
        yield
    finally:
        del attributes[name]
        attributes.update(held)
