"""Goal: what rounds are to come to, in what can be counted and in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.graph import Graph
from prune_keras.processes import most
from prune_keras.rounds.progress import Progress
from prune_keras.selection.feasibility import check_reachable
from prune_keras.selection.limits import Limits
from prune_keras.selection.targets import Target, check_unmet, split_target, target_of
from prune_keras.timing import latency


@dataclass(frozen=True)
class Goal:
    """What rounds are to come to; without any of it they go on until nothing is left to cut.

    Args:
        counted: all of the target that can be counted, or None.
        latency_ms: milliseconds of latency, or None.
        batch_size: samples that latency is measured for.
        shares_of: what shares of costs are counted from. Defaults to None: the model at its start.
    """

    counted: Mapping[str, float] | None = None
    latency_ms: float | None = None
    batch_size: int = 1
    shares_of: Cost | None = None

    @classmethod
    def of(cls, given: Any) -> Goal:
        """Return the goal for the arguments of a `ProgressivePruning`."""
        counted, most = split_target(given.target)
        return cls(dict(counted) if counted else None, most, given.latency_batch_size, given.of)

    def target(self, original: Cost) -> Target:
        """Return all but latency, for a model of this cost at its start."""
        return target_of(self.counted, self.shares_of, original)

    def check_reachable(self, graph: Graph, limits: Limits) -> None:
        """Raise a ValueError if the limits keep more than the target allows."""
        check_reachable(graph, limits, self.target(graph.cost))

    def measure(self, model: Any) -> float | None:
        """Measure the latency in milliseconds, if there is a target on it; that of the slowest."""
        return None if self.latency_ms is None else most(latency(model, self.batch_size))

    def check_unmet(self, cost: Cost, measured: float | None) -> None:
        """Raise a ValueError if a model meets the target before anything is cut."""
        if not self.is_quick(measured):
            return
        check_unmet(self.target(cost), cost)
        if not self.counted and measured is not None:
            raise ValueError(
                "A target on latency must be below what the model takes. Received: "
                f"latency_ms={self.latency_ms}, while it takes {measured:.3g} ms for batches of "
                f"{self.batch_size}. Ask for less."
            )

    def timed(self, frontier: Sequence[Point], why: str) -> tuple[str, ...]:
        """Return a note on the latency, and why it is not what it was to become."""
        if self.latency_ms is None:
            return ()
        before, after = (p.latency_ms for p in (frontier[0], [p for p in frontier if p.kept][-1]))
        missed = "" if self.is_quick(after) else f"; not {self.latency_ms} ms: {why}"
        size = self.batch_size
        return (f"latency for batches of {size}: {before:.3g} -> {after:.3g} ms{missed}",)

    def is_quick(self, measured: float | None) -> bool:
        """Tell whether a measured latency meets the target, if there is one on it."""
        return self.latency_ms is None or (measured is not None and measured <= self.latency_ms)

    def is_small(self, progress: Progress) -> bool:
        """Tell whether the target is met in all but latency; without any it is."""
        return self.target(progress.original).is_met_by(progress.graph.cost)

    def is_met(self, progress: Progress, measured: float | None = None) -> bool:
        """Tell whether the target is met, with the latency that was measured."""
        if self.latency_ms is None and not self.counted:
            return False
        return self.is_quick(measured) and self.is_small(progress)
