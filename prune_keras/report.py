"""What was done to a model: its plan, its costs before and after, and what could not be done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from prune_keras.accounting import METRICS, Cost
from prune_keras.frontier import Point
from prune_keras.graph import Fixed
from prune_keras.plan import Plan
from prune_keras.text import printable


@dataclass(frozen=True)
class Report:
    """The outcome of pruning one model.

    Args:
        name: the model's name.
        plan: what is kept, counted in the original.
        before: cost of the original.
        after: cost of the thin model.
        fixed: what could not be pruned, and why.
        notes: what removing neurons changed beside removing them.
        frontier: what every round came to; see `prune_keras.frontier`. Defaults to nothing.
        scores: what neurons were scored by, and what was fused, such as
            `"taylor, fused weights"`. Defaults to `""`: not told.
        of: cost that shares were counted from, for a model that was pruned before. Defaults to
            None: `before`.
        seconds: phase of a round -> seconds over all rounds, as `Round.phases` has them. Defaults
            to nothing.
        steps: cost after each step of a cut that was made in several. Defaults to nothing.
    """

    name: str
    plan: Plan
    before: Cost
    after: Cost
    fixed: tuple[Fixed, ...]
    notes: tuple[str, ...] = ()
    frontier: tuple[Point, ...] = ()
    scores: str = ""
    of: Cost | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    steps: tuple[Cost, ...] = ()

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Path of the layer -> its number of units before and after."""
        after = self.plan.new_widths
        return {path: (width, after[path]) for path, width in self.plan.widths.items()}

    def render(self) -> str:
        """Return the report as text: costs, widths of layers, and what is fixed."""
        console = Console(width=100, no_color=True, highlight=False, markup=False, emoji=False)
        lines = [f"scores: {self.scores}"] if self.scores else []
        took = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in self.seconds.items())
        lines += [f"seconds of rounds: {took}"] if took else []
        whole = self.of or self.before
        lines += [f"step {n}: {_remains(cost, whole)}" for n, cost in enumerate(self.steps, 1)]
        lines += [f"fixed: {fixed}" for fixed in self.fixed]
        lines += [f"note: {note}" for note in self.notes]
        with console.capture() as captured:
            console.print(_cost_table(self))
            console.print(_width_table(self))
            for each in lines:
                console.print(printable(each), soft_wrap=True)
        return captured.get()

    def __str__(self) -> str:
        return self.render()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as lists, strings and numbers."""
        return {
            "name": self.name,
            "scores": self.scores,
            "before": asdict(self.before),
            "after": asdict(self.after),
            "of": None if self.of is None else asdict(self.of),
            "fixed": [asdict(fixed) for fixed in self.fixed],
            "notes": list(self.notes),
            "plan": self.plan.to_dict(),
            "steps": [asdict(cost) for cost in self.steps],
            "frontier": [point.to_dict() for point in self.frontier],
            "seconds": dict(self.seconds),
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1)


def _remains(cost: Cost, whole: Cost) -> str:
    """Return what a cost has of another one, metric by metric."""
    return ", ".join(f"{m} {share:.1%}" for m, share in cost.share_of(whole).items())


def _cost_table(report: Report) -> Table:
    table = Table(title=printable(report.name))
    costs = {} if report.of is None else {"original": report.of}
    costs |= {"before": report.before, "after": report.after}
    for heading in ("", *costs, "remains"):
        table.add_column(heading, justify="right" if heading else "left")
    shares = report.after.share_of(report.of or report.before)
    for metric in METRICS:
        amounts = [getattr(cost, metric) for cost in costs.values()]
        if None not in amounts:
            share = f"{shares[metric]:.1%}" if metric in shares else ""
            table.add_row(metric, *(f"{amount:,}" for amount in amounts), share)
    return table


def _width_table(report: Report) -> Table:
    table = Table(title="units of each layer")
    for heading in ("layer", "before", "after", "remains"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for path, (before, after) in report.widths.items():
        table.add_row(printable(path), str(before), str(after), f"{after / before:.0%}")
    return table
