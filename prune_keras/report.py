"""What was done to a model: its plan, its costs before and after, and what could not be done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prune_keras import atomic
from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.graph import Fixed
from prune_keras.plan import Plan
from prune_keras.reporting import words
from prune_keras.reporting.parts import Coupled, Distribution, Layer, Origin, Outcome, Training
from prune_keras.reporting.storing import decoded, encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMAT = 1
"""Of files; a report in a newer one is refused."""


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
        layers: all layers with units, and where several tensors meet, in the order of the graph.
            Defaults to nothing: those of the plan.
        families: neurons that go together. Defaults to nothing.
        distributions: how scores lay as the first cut was chosen. Defaults to nothing.
        training: the fit that it was pruned in. Defaults to None: none.
        origin: the call that it came from, and the environment. Defaults to nothing.
        monitor: name of the metric of the frontier. Defaults to `""`: that of `training`.
        outcomes: models as they were measured at the end; see `with_outcomes`. Defaults to nothing.

    Example:

    >>> plan = Plan({"conv": [0, 2]}, {"conv": 4})
    >>> report = Report("net", plan, Cost(200, 80, 4), Cost(100, 40, 2), ())
    >>> report.verdict
    'net: parameters 200 → 100 (50.0%), FLOPs 80 → 40 (50.0%)'
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
    layers: tuple[Layer, ...] = ()
    families: tuple[Coupled, ...] = ()
    distributions: tuple[Distribution, ...] = ()
    training: Training | None = None
    origin: Origin = Origin()
    monitor: str = ""
    outcomes: tuple[Outcome, ...] = ()

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """Path of the layer -> its number of units before and after."""
        after = self.plan.new_widths
        return {path: (width, after[path]) for path, width in self.plan.widths.items()}

    @property
    def rows(self) -> tuple[Layer, ...]:
        """All layers in the order of the graph; those of the plan where no others are told."""
        plain = (Layer(path, "", *both) for path, both in self.widths.items())
        return self.layers or tuple(plain)

    @property
    def metric(self) -> tuple[float | None, float | None]:
        """The metric before and after; None where it was not measured."""
        first, last = self._ends
        return (first.metric, last.metric) if first and last else (None, None)

    @property
    def latency_ms(self) -> tuple[float | None, float | None]:
        """The measured latency before and after; None where it was not measured."""
        first, last = self._ends
        return (first.latency_ms, last.latency_ms) if first and last else (None, None)

    @property
    def metric_name(self) -> str:
        """The name of the metric."""
        told = self.training.monitor if self.training else ""
        return self.monitor or told or "metric"

    @property
    def _ends(self) -> tuple[Point | None, Point | None]:
        """The start, and the last round that was kept."""
        kept = [point for point in self.frontier if point.kept]
        return (kept[0], kept[-1]) if kept else (None, None)

    @property
    def verdict(self) -> str:
        """One line: what the model costs and is worth, before and after."""
        return words.verdict(self)

    def measured(
        self,
        monitor: str = "",
        metric: tuple[float | None, float | None] = (None, None),
        latency_ms: tuple[float | None, float | None] = (None, None),
    ) -> Report:
        """Return the report with what was measured of the model before and after.

        Args:
            monitor: name of the metric. Defaults to `""`: as it was.
            metric: the metric before and after. Defaults to none.
            latency_ms: milliseconds before and after; see `prune_keras.latency`. Defaults to none.

        Example:

        >>> plan = Plan({"conv": [0]}, {"conv": 2})
        >>> report = Report("net", plan, Cost(20, 8, 2), Cost(10, 4, 1), ())
        >>> report.measured("accuracy", (0.91, 0.9), (3.0, 1.5)).verdict.split(", ")[2:]
        ['latency 3 → 1.5 ms', 'accuracy 0.9100 → 0.9000']
        """
        start = Point(0, True, None, self.before, dict(self.plan.widths))
        points = self.frontier or (start, Point(1, True, None, self.after, self.plan.new_widths))
        kept = [place for place, point in enumerate(points) if point.kept]
        told = [*points]
        for place, value, ms in zip((kept[0], kept[-1]), metric, latency_ms, strict=True):
            known = told[place]
            value = known.metric if value is None else value
            ms = known.latency_ms if ms is None else ms
            told[place] = replace(known, metric=value, latency_ms=ms)
        return replace(self, frontier=tuple(told), monitor=monitor or self.monitor)

    def with_outcomes(self, outcomes: Mapping[str, Mapping[str, float | None]]) -> Report:
        """Return the report with what models, such as stages on a way, came to at the end.

        Args:
            outcomes: name of a model -> what was measured of it, by name. What is known of a model
                of the same name already stays beside it.

        Example:

        >>> report = Report("net", Plan({}, {}), Cost(20, 8, 2), Cost(10, 4, 1), ())
        >>> report = report.with_outcomes({"thin": {"test accuracy": 0.9}})
        >>> report = report.with_outcomes({"thin": {"bytes": 512}})
        >>> report.outcomes[0].values
        {'test accuracy': 0.9, 'bytes': 512}
        """
        known = {each.name: dict(each.values) for each in self.outcomes}
        for name, values in outcomes.items():
            known[name] = known.get(name, {}) | dict(values)
        return replace(self, outcomes=tuple(Outcome(*each) for each in known.items()))

    def render(self) -> str:
        """Return the report as text: costs, widths of layers, and what is fixed."""
        return words.rendered(self)

    def __str__(self) -> str:
        return self.render()

    def _repr_html_(self) -> str:
        """Return the report as a notebook shows it."""
        from prune_keras.reporting import page

        return page.fragment(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return the report as one page that needs nothing beside itself.

        Args:
            path: file to write it to. Defaults to None: none.

        Returns:
            The page.
        """
        from prune_keras.reporting import page

        text = page.page(self)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            atomic.write_text(path, text)
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the report as lists, strings and numbers."""
        return {"format": FORMAT, **encoded(self)}

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(atomic.finite(self.to_dict()), indent=1)

    def save(self, path: str | Path) -> None:
        """Write the report as JSON, from which `load` reads it."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, self.to_json() + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read a report that `save` wrote.

        Args:
            path: the file.

        Raises:
            ValueError: if the file holds something else, or a report of a newer version.
        """
        try:
            stored = json.loads(Path(path).read_text(encoding="utf-8"))
            found = stored.pop("format") if isinstance(stored, dict) and "format" in stored else 0
            if not isinstance(found, int) or isinstance(found, bool):
                raise ValueError(f"its format must be a whole number, not {found!r:.60}")
            if found > FORMAT:
                raise ValueError(f"its format {found} is newer than {FORMAT}: update prune_keras")
            return decoded(cls, stored, "report")
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"The file must hold a report on pruning. Received: {str(path)!r} ({error}). "
                "Write one with report.save(path)."
            ) from error

    def plot_frontier(self, ax: Any = None) -> Figure:
        """Draw the metric against FLOPs and parameters over the rounds.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.

        Raises:
            ValueError: if no metric was measured.
        """
        from prune_keras.charts import frontier

        bound = self.training.bound if self.training else None
        return frontier.draw(self.frontier, self.metric_name, bound, ax)

    def plot_widths(self, ax: Any = None) -> Figure:
        """Draw the units of every layer before and after, in the order of the graph.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.
        """
        from prune_keras.charts import widths

        return widths.draw(self.rows, ax)

    def plot_scores(self, ax: Any = None) -> Figure:
        """Draw how the scores of each family lay, before and after the debias.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.

        Raises:
            ValueError: if nothing was scored.
        """
        from prune_keras.charts import scores

        _check_there("distributions", self.distributions, "Scores come with prune and with fit.")
        return scores.draw(self.distributions, ax)

    def plot_curves(self, ax: Any = None) -> Figure:
        """Draw the metric over epochs, with cuts, roll-backs and the bound.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.

        Raises:
            ValueError: if there was no training.
        """
        from prune_keras.charts import curves

        epochs = self.training.epochs if self.training else ()
        _check_there("training", epochs, "Curves come with ProgressivePruning in fit.")
        return curves.draw(self.training or Training("", "auto"), self.before, ax)

    def plot_seconds(self, ax: Any = None) -> Figure:
        """Draw what the seconds of cuts went into.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.

        Raises:
            ValueError: if no time was measured.
        """
        from prune_keras.charts import seconds

        _check_there("seconds", self.seconds, "Seconds come with prune and with fit.")
        return seconds.draw(self.seconds, ax)

    def plot_architecture(self, ax: Any = None) -> Figure:
        """Draw the layers as wide as they are, hatched where they were cut, and the skips.

        Args:
            ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.
        """
        from prune_keras.charts import architecture

        return architecture.draw(self.rows, ax)


def _check_there(name: str, value: Any, how: str) -> None:
    """Raise a ValueError for a chart of which there is nothing to draw."""
    if not value:
        raise ValueError(
            f"The report must hold `{name}` for this chart. Received: a report without. {how}"
        )
