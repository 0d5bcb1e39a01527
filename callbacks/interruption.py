"""Interruption: something to do when Ctrl-C ends a `fit`, which Keras tells no callback."""

from __future__ import annotations

import signal
import sys
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import Any

from prune_keras import _backend, _keras


class Interruption:
    """Calls a method when Ctrl-C interrupts the `fit` of a model; then goes on as without it.

    Signals reach the main thread only; in another one, nothing is done.

    Args:
        model: the model that is fitted.
        method: a bound method; its object may be deleted meanwhile.
    """

    def __init__(self, model: Any, method: Callable[[], None]) -> None:
        self._model = weakref.ref(model)
        self._method = weakref.WeakMethod(method)
        self._before: Any = None

    def begin(self) -> None:
        """Begin to listen."""
        before = _first(signal.getsignal(signal.SIGINT))
        if threading.current_thread() is threading.main_thread() and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._interrupt)

    def end(self) -> None:
        """End it, unless somebody else listens by now."""
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._before)

    def is_over(self, frame: FrameType | None) -> bool:
        """Tell whether the fit has ended, be it in an error, of which no callback is told."""
        return self._method() is None or not _keras.is_fitting(self._model(), frame)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.end()
        method = self._method()
        if method is not None and not self.is_over(frame):
            with _backend.eagerly():
                method()
        self._before(number, frame)


def _first(handler: Any) -> Any:
    """Return what listened before interruptions whose fit is over."""
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, Interruption) and owner.is_over(sys._getframe()):
        return _first(owner._before)
    return handler
