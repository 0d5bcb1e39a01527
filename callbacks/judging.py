"""Judging: what one fit measures at the end of epochs, and what follows from it for its rounds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from prune_keras import _keras, processes
from prune_keras.callbacks.monitoring import Monitoring
from prune_keras.rounds.course import Course
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round


@dataclass
class Judging:
    """Judges the rounds of one model in one fit.

    Args:
        asked: how the user asked to judge.
        least, most: epochs of fine-tuning after a cut, and those until a round must be good enough.
        judge: what is known by now of what to judge by.
        monitoring: how the metric is measured in the fit.
        metric: the metric as it was measured last; None if it was not. Defaults to None.
    """

    asked: Judge
    least: int
    most: int | None
    judge: Judge
    monitoring: Monitoring
    metric: float | None = None

    @classmethod
    def of(cls, asked: Judge, least: int, most: int | None) -> Judging:
        """Return what judges before any fit."""
        return cls(asked, least, most, _new(asked), Monitoring(_keras.Fit(), asked.monitor))

    def begun(self, model: Any, pruning: Any, fit: _keras.Fit, goes_on: bool) -> Judging:
        """Return what judges in a fit that begins, the first one of a model or one that goes on.

        Raises:
            ValueError: if what is judged by cannot be measured.
        """
        monitoring = Monitoring(fit, self.asked.monitor)
        if self.asked.judges:
            monitoring.check(model, pruning)
        judge = self.judge if goes_on else _new(self.asked)
        return replace(self, judge=monitoring.directed(judge, model), monitoring=monitoring)

    def forget(self) -> None:
        """Let go of what the fit was given."""
        self.monitoring = Monitoring(_keras.Fit(), self.asked.monitor)

    def measure(self, model: Any, epoch: int, logs: dict[str, Any]) -> bool:
        """Read the metric from the logs of an epoch, and tell whether that ends with one."""
        measured = self.monitoring.ends(epoch)
        self.metric = processes.mean(self.judge.read(logs)) if measured else None
        if measured and self.judge.judges and self.judge.mode == "auto":
            # Keras makes a model's metrics with the first batch, not before.
            self.judge = self.judge.directed(_keras.direction(model, self.judge.monitor))
        return measured

    def now(self, model: Any, course: Course) -> float | None:
        """Measure the metric now, as it would be at the end of an epoch."""
        with course.averages.shown(model):
            return self.monitoring.now(model)

    def start(self) -> None:
        """Take the metric for that before the first cut."""
        self.judge = self.judge.started(self.metric)

    def see(self, metric: float | None) -> None:
        """Take note of the metric of a good state."""
        self.judge = self.judge.seen(metric)

    @property
    def accepts(self) -> bool:
        """Whether the metric holds the bound."""
        return self.judge.accepts(self.metric)

    def warms_up(self, course: Course, epoch: int) -> bool:
        """Tell whether the model is to train yet before anything of it is cut."""
        has_begun = course.ended or course.open
        return not has_begun and epoch < self.asked.start_from_epoch

    def holds(self, course: Course, epoch: int) -> bool:
        """Tell whether an epoch that was measured last leaves a good state."""
        return self.judge.waits or self.warms_up(course, epoch + 1) or self.accepts

    def may_cut(self, course: Course, epoch: int, epochs: int) -> bool:
        """Tell whether a round that begins now can come to its end, in a fit of so many epochs."""
        ends = range(epoch + self.least - 1, epochs)
        judged = any(self.monitoring.ends(end) for end in ends)
        can_end = judged if self.judge.judges else len(ends) > 0
        waits = self.judge.waits or self.warms_up(course, epoch)
        return can_end and not course.is_finished and not waits

    def is_over(self, opened: Round, measured: bool) -> bool:
        """Tell whether a round has come to its end with an epoch."""
        if opened.epochs < self.least or (self.judge.judges and not measured):
            return False
        return opened.epochs >= (self.most or self.least) or self.accepts

    def to_dict(self) -> dict[str, Any]:
        """Return what is known by now, as texts and numbers."""
        judge = self.judge
        known = {"start": judge.start, "best": judge.best, "mode": judge.mode}
        return {"judge": known, "metric": self.metric}

    def resume(self, stored: dict[str, Any]) -> None:
        """Go on where `to_dict` was told."""
        self.judge, self.metric = replace(self.judge, **stored["judge"]), stored["metric"]


def _new(asked: Judge) -> Judge:
    return asked if asked.mode == "auto" else asked.directed(asked.mode)
