"""Round: the record of one cut and its fine-tuning, and the line that tells of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prune_keras import atomic
from prune_keras.accounting import SIZES, Cost
from prune_keras.frontier import Point
from prune_keras.plan import Plan
from prune_keras.rounds.judge import Judge
from prune_keras.text import printable


@dataclass(frozen=True)
class Round:
    """One cut and its fine-tuning.

    Args:
        number: 1 for the first.
        epoch: the epoch at whose begin the cut was made, counted from 0.
        fraction: share of the neurons that was to be removed.
        plan: what was kept, counted in the model as it was before the round.
        before: costs before the cut.
        after: costs after it.
        metric_before: the monitored metric before the cut; None if it was not measured yet.
        seconds: time that the cut took, scoring and recalibration included.
        epochs: epochs of fine-tuning.
        metric_cut: the metric right after the cut; None if `fit` has no validation data, or
            they can be read only once, or the metric is not one of validation.
        metric: the metric after fine-tuning; None if it is not in the logs.
        kept: False if the round was rolled back.
        fine_tuning_seconds: time from the cut to the end of the round.
        batch: the batch of the epoch at whose begin the cut was made, counted from 0.
        widths: path of the layer -> number of units after the cut.
        latency_ms: measured latency after the cut; None without a target on it.
        file: where the model at the end of the round is kept; None if it is not.
        notes: what is to be said of the scores that it went by, and of its repair.
        phases: seconds by what they went into. `"score"`, `"choose"`, `"fuse"`, `"cut"` and
            `"recalibrate"` add up to nearly `seconds`; `"judge"` is what was measured right after.
        steps: costs after each step of the cut, where it was made in several.
    """

    number: int
    epoch: int
    fraction: float
    plan: Plan
    before: Cost
    after: Cost
    metric_before: float | None
    seconds: float
    epochs: int = 0
    metric_cut: float | None = None
    metric: float | None = None
    kept: bool = False
    fine_tuning_seconds: float = 0.0
    batch: int = 0
    widths: dict[str, int] = field(default_factory=dict)
    latency_ms: float | None = None
    file: str | None = None
    notes: tuple[str, ...] = ()
    phases: dict[str, float] = field(default_factory=dict)
    steps: tuple[Cost, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the round as lists and numbers."""
        stored = {**vars(self), "plan": self.plan.to_dict(), "notes": list(self.notes)}
        steps = [vars(cost) for cost in self.steps]
        return {**stored, "before": vars(self.before), "after": vars(self.after), "steps": steps}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Round:
        """Return the round that `to_dict` told of."""
        plan = Plan.from_dict(stored["plan"])
        costs = {name: Cost(**stored[name]) for name in ("before", "after")}
        steps = tuple(Cost(**each) for each in stored["steps"])
        read = {"plan": plan, "steps": steps, "notes": tuple(stored["notes"]), **costs}
        return cls(**{**stored, **read})


def walked(start: Point, rounds: Iterable[Round]) -> list[Point]:
    """Return the frontier from its first point over all rounds."""
    return [start, *map(_point, rounds)]


def _point(done: Round) -> Point:
    metric, file, ms = _finite(done.metric), done.file, done.latency_ms
    return Point(done.number, done.kept, metric, done.after, done.widths, file, ms)


def write_rounds(rounds: Sequence[Round], folder: Path) -> None:
    """Write rounds to `rounds.json`, NaN as null."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write_json(folder / "rounds.json", [done.to_dict() for done in rounds])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(done: Round, original: Cost, judge: Judge) -> str:
    """Return one line about a round, with what is left of the original."""
    shares = ", ".join(
        f"{m} {s:.1%}" for m, s in done.after.share_of(original).items() if m in SIZES
    )
    metric = "" if done.metric is None else f"; {judge.monitor} {done.metric:.4f}"
    if done.metric is None and judge.bound is not None and not done.kept:
        metric = "; not judged: rolled back"
    elif judge.bound is not None:
        metric += f", bound {judge.bound:.4f}: {'kept' if done.kept else 'rolled back'}"
    neurons = f"{done.before.neurons} -> {done.after.neurons} neurons"
    told = [f"Round {done.number}: {neurons}", f"{shares}{metric}", *done.notes]
    return printable("; ".join(told))
