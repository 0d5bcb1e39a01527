"""What was done to a model: its plan, its costs before and after, and what could not be done."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from prune_keras.accounting import METRICS, Cost
from prune_keras.frontier import Point
from prune_keras.graph import Fixed
from prune_keras.plan import Plan


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
    """

    name: str
    plan: Plan
    before: Cost
    after: Cost
    fixed: tuple[Fixed, ...]
    notes: tuple[str, ...] = ()
    frontier: tuple[Point, ...] = ()
    scores: str = ""

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Path of the layer -> its number of units before and after."""
        after = self.plan.new_widths
        return {path: (width, after[path]) for path, width in self.plan.widths.items()}

    def render(self) -> str:
        """Return the report as text: costs, widths of layers, and what is fixed."""
        console = Console(width=100, no_color=True, highlight=False)
        with console.capture() as captured:
            console.print(_cost_table(self))
            console.print(_width_table(self))
            if self.scores:
                console.print(f"scores: {self.scores}", soft_wrap=True)
            for fixed in self.fixed:
                console.print(f"fixed: {fixed}", soft_wrap=True)
            for note in self.notes:
                console.print(f"note: {note}", soft_wrap=True)
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
            "fixed": [asdict(fixed) for fixed in self.fixed],
            "notes": list(self.notes),
            "plan": self.plan.to_dict(),
            "frontier": [point.to_dict() for point in self.frontier],
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1)


def _cost_table(report: Report) -> Table:
    table = Table(title=report.name)
    for heading in ("", "before", "after", "remains"):
        table.add_column(heading, justify="right" if heading else "left")
    shares = report.after.share_of(report.before)
    for metric in METRICS:
        before, after = getattr(report.before, metric), getattr(report.after, metric)
        if before is not None:
            share = f"{shares[metric]:.1%}" if metric in shares else ""
            table.add_row(metric, f"{before:,}", f"{after:,}", share)
    return table


def _width_table(report: Report) -> Table:
    table = Table(title="units of each layer")
    for heading in ("layer", "before", "after", "remains"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for path, (before, after) in report.widths.items():
        table.add_row(path, str(before), str(after), f"{after / before:.0%}")
    return table
