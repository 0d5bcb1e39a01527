"""Stopwatch: how many seconds the phases of a round take."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

Shown = Callable[[str], AbstractContextManager]


class Stopwatch:
    """Adds up seconds by phase.

    Args:
        shown: given the name of a phase, returns what shows it while it runs. Defaults to one
            that shows nothing.

    Attributes:
        seconds: name of the phase -> seconds, in the order in which phases began.
    """

    def __init__(self, shown: Shown = contextlib.nullcontext) -> None:
        self.seconds: dict[str, float] = {}
        self._shown = shown

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time within for a phase; one that comes again goes on."""
        begun = time.perf_counter()
        with self._shown(name):
            yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


def summed(each: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums over dictionaries of seconds by phase.

    Example:

    >>> summed([{"score": 1.0, "cut": 0.5}, {"score": 2.0}])
    {'score': 3.0, 'cut': 0.5}
    """
    total: dict[str, float] = {}
    for seconds in each:
        for name, value in seconds.items():
            total[name] = total.get(name, 0.0) + value
    return total
