"""Judge: is a monitored metric still good enough?"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import keras

from prune_keras.rounding import at_least, at_most
from prune_keras.validation import check_choice, check_number, check_whole, plain


@dataclass(frozen=True)
class Judge:
    """When a round is good enough, and what is undone with one that is not.

    Args:
        monitor: name of the metric in the logs. Defaults to `"val_accuracy"`.
        mode: one of `{"auto", "min", "max"}`: `"max"` where more is better, `"min"` where less is;
            `"auto"` asks the model's metric. Defaults to `"auto"`.
        floor: the worst value allowed. Defaults to None: none.
        max_drop: how far the metric may fall behind `start`, or behind the best, in its own units.
            Defaults to None: not judged by this.
        start: the metric before anything was cut. Defaults to None: measured.
        against: one of `{"start", "best"}`: what `max_drop` counts from, the metric before anything
            was cut or the best one since that a good state had. Defaults to `"start"`.
        start_from_epoch: no cut comes before this epoch of `fit`, the first of which is 0, and what
            is measured before its last one does not count. Defaults to 0.
        undo_steps: whether the optimizer's count of steps, and with it a learning-rate schedule,
            goes back with a round that is undone. Defaults to True.
        best: the best metric of a good state so far. Defaults to None: none is known.

    Raises:
        ValueError: if an argument is out of range, or `against="best"` lacks a `max_drop`.

    Example:

    >>> judge = Judge("val_accuracy", "max", max_drop=0.01, start=0.9)
    >>> judge.bound, judge.accepts(0.895), judge.accepts(0.85)
    (0.89, True, False)
    """

    monitor: str = "val_accuracy"
    mode: str = "auto"
    floor: float | None = None
    max_drop: float | None = None
    start: float | None = None
    against: str = "start"
    start_from_epoch: int = 0
    undo_steps: bool = True
    best: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, str):
            raise ValueError(
                f"`monitor` must be the name of a metric. Received: monitor={self.monitor!r}. "
                "Write monitor='val_accuracy'."
            )
        check_choice("mode", self.mode, ("auto", "min", "max"))
        check_choice("against", self.against, ("start", "best"))
        check_whole("start_from_epoch", self.start_from_epoch)
        if not isinstance(self.undo_steps, bool):
            raise ValueError(
                f"`undo_steps` must be True or False. Received: undo_steps={self.undo_steps!r}."
            )
        check_number("max_drop", self.max_drop)
        for name in ("floor", "max_drop", "start", "best"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if self.max_drop is not None and self.max_drop < 0:
            raise ValueError(f"`max_drop` must be at least 0. Received: max_drop={self.max_drop}.")
        if self.against == "best" and self.max_drop is None:
            raise ValueError(
                "A bound by the best metric needs a distance to it. Received: against='best', "
                "max_drop=None. Pass max_drop=0.01, or leave against= out."
            )

    @property
    def judges(self) -> bool:
        """Whether there is any bound."""
        return self.floor is not None or self.max_drop is not None

    @property
    def waits(self) -> bool:
        """Whether the metric before the first cut is still to be measured."""
        return self.judges and self.start is None

    @property
    def reference(self) -> float | None:
        """What the metric may fall behind by `max_drop`; None if it is not known yet."""
        counts_best = self.against == "best" and self.best is not None
        return self.best if counts_best else self.start

    @property
    def bound(self) -> float | None:
        """The worst value that is accepted."""
        sign = 1 if self.mode == "max" else -1
        bounds = [] if self.floor is None else [sign * self.floor]
        if self.max_drop is not None and self.reference is not None:
            bounds.append(sign * self.reference - self.max_drop)
        return sign * max(bounds) if bounds else None

    def accepts(self, metric: float | None) -> bool:
        """Tell whether a value holds the bound; NaN never does."""
        return self.bound is None or self._holds(metric, self.bound)

    def _holds(self, metric: float | None, bound: float) -> bool:
        if metric is None or not math.isfinite(metric):
            return False
        compare = at_least if self.mode == "max" else at_most
        return compare(metric, bound, self.reference or 0.0)

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
        if self.floor is not None and not self._holds(metric, self.floor):
            raise ValueError(
                f"The model must hold the floor before pruning. Received: {self.monitor}={metric} "
                f"for floor={self.floor}. Train it further, or lower the floor."
            )
        return replace(self, start=metric).seen(metric)

    def seen(self, metric: float | None) -> Judge:
        """Return the judge that has seen the metric of a good state, which may be the best."""
        if self.against != "best" or metric is None or not math.isfinite(metric):
            return self
        better = max if self.mode == "max" else min
        return replace(self, best=metric if self.best is None else better(self.best, metric))

    def directed(self, mode: str) -> Judge:
        """Return the judge that knows whether more or less is better."""
        judge = replace(self, mode=mode)
        return judge if self.start is None else judge.started(self.start)

    def read(self, logs: dict[str, Any] | None) -> float | None:
        """Return the metric from the logs; a metric that is judged must be there."""
        value = (logs or {}).get(self.monitor)
        if value is None and self.judges:
            raise missing(self.monitor, logs or {})
        if value is None:
            return None
        found = keras.ops.convert_to_numpy(value)
        if found.size == 1:
            return float(found.reshape(()))
        if not self.judges:
            return None
        raise ValueError(
            f"The metric must be one number to judge by. Received: {self.monitor}={value}. "
            "Let the metric average, such as F1Score(average='macro'), or monitor another one."
        )


def missing(monitor: str, logs: Iterable[str]) -> ValueError:
    """Return the error that a metric to judge by is not in the logs."""
    return ValueError(
        f"`monitor` must be in the logs. Received: monitor={monitor!r}, while the logs hold "
        f"{sorted(logs)}. Pass validation_data to fit, or choose one of these; what another "
        "callback logs is there if that stands before this one in the list."
    )
