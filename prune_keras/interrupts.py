"""Interrupts: signals that wait until a step that must not be left halfway is done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let signals that Python handles, Ctrl-C above all, wait until the block is left.

    Python calls handlers in the main thread alone; in another one there is nothing to wait for.

    Example:

    >>> import signal
    >>> from prune_keras.interrupts import deferred
    >>> before = signal.signal(signal.SIGINT, lambda number, frame: print("interrupted"))
    >>> with deferred():
    ...     signal.raise_signal(signal.SIGINT)
    ...     print("done")
    done
    interrupted
    >>> signal.signal(signal.SIGINT, before) is None
    False
    """
    handlers = _handlers() if threading.current_thread() is threading.main_thread() else {}
    waiting: dict[int, Any] = {}
    try:
        for number in handlers:
            signal.signal(number, waiting.__setitem__)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        with contextlib.ExitStack() as late:  # calls each of them, even where one raises
            for number, frame in waiting.items():
                late.callback(handlers[number], number, frame)


def _handlers() -> dict[int, Any]:
    """Return what Python calls for each signal that does something else than by default."""
    found = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return {number: handler for number, handler in found.items() if callable(handler)}
