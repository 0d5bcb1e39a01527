"""Attributes of layers, as they were before a user's code ran that may set them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

_PLAIN = (bool, int, float, str)
_COLLECTIONS: tuple[Any, ...] = (list, dict, set)


@contextlib.contextmanager
def keeping_attributes(model: Any) -> Iterator[list[str]]:
    """Give a user's layers back, at the end, what their attributes held, and collections in them.

    Args:
        model: a model or layer, in which layers of other makes than Keras' are looked for.

    Yields:
        A list that tells at the end which numbers and texts had become others by then.
    """
    own = frozenset(vars(keras.layers.Layer()))  # which Keras sets as it calls a layer
    layers = model._flatten_layers(include_self=True, recursive=True)
    theirs = [each for each in layers if not type(each).__module__.startswith("keras.")]
    held = [(vars(layer), dict(vars(layer))) for layer in theirs]
    values = [_bare(v) for _, before in held for name, v in before.items() if name not in own]
    kinds = [(kind, v) for v in values for kind in _COLLECTIONS if issubclass(type(v), kind)]
    contents = [(kind, value, kind(value)) for kind, value in kinds]
    changed: list[str] = []
    try:
        yield changed
    finally:
        for now, before in held:
            changed += [n for n in before if n not in own and _differ(before[n], now.get(n))]
            _put_back(now, {n: v for n, v in before.items() if n not in own}, own)
        for kind, value, content in contents:
            _refill(kind, value, content)


def _differ(old: Any, new: Any) -> bool:
    return isinstance(old, _PLAIN) and isinstance(new, _PLAIN) and old != new


def _put_back(now: dict, before: dict, own: frozenset) -> None:
    for name in now.keys() - before.keys() - own:
        del now[name]
    now.update(before)


def _bare(value: Any) -> Any:
    """Return a dict or list without what TensorFlow may have wrapped it in."""
    return getattr(value, "__wrapped__", value)


def _refill(kind: Any, value: Any, content: Any) -> None:
    """Fill a collection, without the books that Keras keeps of what is added to it."""
    if list(map(id, value)) == list(map(id, content)) and kind is not dict:
        return
    if kind is list:
        list.__setitem__(value, slice(None), content)
    else:
        kind.clear(value)
        kind.update(value, content)
