"""What a rule is: a function of a `Visit` and of what it reports to, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from prune_keras.tracing.labels import Labels, Place, count
from prune_keras.tracing.visit import Visit

Found = np.ndarray | list[np.ndarray]
"""The ids of the output of a call, or those of all of its outputs."""

Rule = Callable[[Visit, Any], Found]
"""The rules of a user may ask for a `Tracer`; all others take any `Trace`."""

Axes = dict[int, np.ndarray]
"""Axis of a variable -> the ids along it."""

Scale = tuple[np.ndarray, Callable[[np.ndarray], float]]
"""Ids, and a factor as a function of which of them are kept."""


class Trace(Protocol):
    """What rules report to: a `Tracer`, which tells what each method does, or one around it."""

    def fix(self, ids: np.ndarray, reason: str) -> np.ndarray: ...

    def note(self, ids: np.ndarray, text: str) -> None: ...

    def fresh(self, count: int) -> np.ndarray: ...

    def unite(self, first: np.ndarray, second: np.ndarray) -> None: ...

    def refuse(self, visit: Visit, reason: str) -> list[np.ndarray]: ...

    def nothing(self, rank: int, reason: str) -> np.ndarray: ...

    def along(self, labels: Labels, axis: int, reader: str) -> np.ndarray: ...

    def units(
        self,
        visit: Visit,
        kernel: Any,
        axis: int,
        tap_axis: int | None = -1,
        name: str = "",
        copies: int = 1,
    ) -> np.ndarray: ...

    def axis_of_units(self, count: int) -> int: ...

    def weight(
        self,
        visit: Visit,
        variable: Any,
        axes: Axes,
        reads: tuple[int, ...] = (),
        times: int | None = 0,
        scale: Scale | None = None,
    ) -> None: ...

    def axes_of(self, variable: Any) -> Axes | None: ...

    def multiplied(self, axes: list[np.ndarray], times: int | None) -> None: ...

    def setting(
        self, owner: Any, name: str, ids: np.ndarray, value: Callable[[np.ndarray], Any] = count
    ) -> None: ...

    def rectangle(self, ids: np.ndarray) -> np.ndarray: ...

    def at_least(self, ids: np.ndarray, count: int) -> None: ...

    def pointwise(self, visit: Visit) -> np.ndarray: ...

    def apply(self, visit: Visit, tracer: Any = None) -> Any: ...

    def tried(self, function: Callable, place: Place) -> str | None: ...
