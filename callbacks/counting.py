"""Counting: what other callbacks of a fit have counted so far, for a fit that goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import keras

_COUNTS: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "cooldown_counter", "best"),
    keras.callbacks.ModelCheckpoint: ("best", "_batches_seen_since_last_saving"),
    keras.callbacks.History: ("epoch", "history"),
}


def counts(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Return what callbacks have counted, by their type and, of several, their order.

    Those of Keras are known; another one has it told by its own `on_backup()`, in lists, texts and
    numbers.
    """
    found = {}
    for name, callback in _named(callbacks):
        if hasattr(callback, "on_backup"):
            found[name] = callback.on_backup()
        elif _attributes(callback):
            found[name] = {each: getattr(callback, each, None) for each in _attributes(callback)}
    return found


def count_on(callbacks: Iterable[Any], before: dict[str, Any]) -> None:
    """Let callbacks count on from what `counts` returned; own ones by `on_resume(counted)`."""
    for name, callback in _named(callbacks):
        if name in before and hasattr(callback, "on_resume"):
            callback.on_resume(before[name])
        elif name in before:
            for each in _attributes(callback):
                setattr(callback, each, before[name][each])


def _named(callbacks: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    seen: Counter[str] = Counter()
    for callback in callbacks:
        kind = type(callback).__name__
        seen[kind] += 1
        yield f"{kind} {seen[kind]}", callback


def _attributes(callback: Any) -> tuple[str, ...]:
    return next((names for kind, names in _COUNTS.items() if isinstance(callback, kind)), ())
