"""Keras, around a `fit`: what is done before it begins, and before an error of it goes on.

Keras tells a callback nothing when `fit` ends in an error, be it of another callback, of the data,
of a step, or a `KeyboardInterrupt`; nor of the data before it has made batches of them. Only who
calls `fit` can see these. So `keras.Model.fit` is replaced by one that calls it, and does for any
other `fit` nothing more.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import keras


def watch_fits() -> None:
    """Let every `fit` of Keras that begins from now on heed `on_failure`.

    A callback that has `before_fit(model, arguments)` is also called before it begins, and may
    change the arguments by name.
    """
    if getattr(keras.Model.fit, "__code__", None) is not _CODE:
        keras.Model.fit = _watched(keras.Model.fit)


def on_failure(model: Any, act: Callable[[], None]) -> bool:
    """Do something if the `fit` of this model that runs ends in an error, before that goes on.

    Returns:
        Whether there is a `fit` that heeds it.
    """
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code is _CODE and frame.f_locals["self"] is model:
            frame.f_locals["acts"].append(act)
            return True
        frame = frame.f_back
    return False


def _watched(fit: Callable) -> Callable:
    signature = inspect.signature(fit)

    @functools.wraps(fit)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        acts: list[Callable[[], None]] = []
        given = signature.bind(self, *args, **kwargs)
        for callback in _flat(given.arguments.get("callbacks")):
            if hasattr(callback, "before_fit"):
                callback.before_fit(self, given.arguments)
        try:
            return fit(*given.args, **given.kwargs)
        except BaseException:
            with contextlib.ExitStack() as held:  # in which one that fails does not keep others
                for act in reversed(acts):
                    held.callback(act)
            raise

    return watched


def _flat(callbacks: Any) -> Iterator[Any]:
    """Yield the callbacks that `fit` finds in one, or in a structure of them."""
    for callback in keras.tree.flatten(callbacks):
        if isinstance(callback, keras.callbacks.CallbackList):
            yield from _flat(callback.callbacks)
        else:
            yield callback


_CODE = _watched(keras.Model.fit).__code__
