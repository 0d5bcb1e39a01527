"""Judge: is a monitored metric still good enough?"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Judge:
    """The bound that a metric must hold.

    Args:
        monitor: name of the metric in the logs.
        mode: `"max"` where more is better, `"min"` where less is; `"auto"` until that is known.
        floor: the worst value allowed. Defaults to None: none.
        max_drop: how far the metric may fall behind `start`, in its own units. Defaults to None.
        start: the metric before anything was cut. Defaults to None: not known yet.

    Example:

    >>> judge = Judge("val_accuracy", "max", max_drop=0.01, start=0.9)
    >>> judge.bound, judge.accepts(0.895), judge.accepts(0.85)
    (0.89, True, False)
    """

    monitor: str
    mode: str
    floor: float | None = None
    max_drop: float | None = None
    start: float | None = None

    @property
    def judges(self) -> bool:
        """Whether there is any bound."""
        return self.floor is not None or self.max_drop is not None

    @property
    def waits(self) -> bool:
        """Whether the metric before the first cut is still to be measured."""
        return self.judges and self.start is None

    @property
    def bound(self) -> float | None:
        """The worst value that is accepted."""
        sign = 1 if self.mode == "max" else -1
        bounds = [] if self.floor is None else [sign * self.floor]
        if self.max_drop is not None and self.start is not None:
            bounds.append(sign * self.start - self.max_drop)
        return sign * max(bounds) if bounds else None

    def accepts(self, metric: float | None) -> bool:
        """Tell whether a value holds the bound; NaN never does."""
        if self.bound is None:
            return True
        if metric is None or not math.isfinite(metric):
            return False
        return metric >= self.bound if self.mode == "max" else metric <= self.bound

    def started(self, metric: float | None) -> Judge:
        """Return the judge that knows the metric before the first cut, which must be good enough.

        Raises:
            ValueError: if it is no number, or below the floor.
        """
        if metric is None or not math.isfinite(metric):
            raise ValueError(
                f"The metric must be a number before pruning. Received: {self.monitor}={metric}. "
                "Train the model, or pass baseline=."
            )
        if not replace(self, max_drop=None).accepts(metric):
            raise ValueError(
                f"The model must hold the floor before pruning. Received: {self.monitor}={metric} "
                f"for floor={self.floor}. Train it further, or lower the floor."
            )
        return replace(self, start=metric)

    def directed(self, mode: str) -> Judge:
        """Return the judge that knows whether more or less is better."""
        judge = replace(self, mode=mode)
        return judge if self.start is None else judge.started(self.start)

    def read(self, logs: dict[str, Any] | None) -> float | None:
        """Return the metric from the logs; a metric that is judged must be there."""
        value = (logs or {}).get(self.monitor)
        if value is None and self.judges:
            raise ValueError(
                f"`monitor` must be in the logs. Received: monitor={self.monitor!r}, while the "
                f"logs hold {sorted(logs or {})}. "
                "Pass validation_data to fit, or choose one of these."
            )
        return None if value is None else float(value)
