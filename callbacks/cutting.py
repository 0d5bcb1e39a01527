"""Cutting: what a round removes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_keras import _keras, criteria
from prune_keras.callbacks.progress import Progress
from prune_keras.data import check_data
from prune_keras.fusing import assign, check_fuse, fused
from prune_keras.graph import Graph
from prune_keras.limits import Limits, Ranking, budget_of, meets
from prune_keras.plan import Plan
from prune_keras.reaching import check_reachable
from prune_keras.recalibration import recalibrate
from prune_keras.scoring import score_graph
from prune_keras.selection import choose
from prune_keras.surgery import check_alone, kept_neurons


@dataclass(frozen=True)
class Cutter:
    """How a round scores, chooses and cuts; the arguments are those of `ProgressivePruning`."""

    target: Mapping[str, float] | None
    criterion: Any
    ranking: Ranking
    limits: Limits
    data: Any
    recalibration_steps: int
    fuse: str | None
    seed: int | None

    def check_needs(self) -> None:
        """Raise a ValueError if there is no data and the criterion needs them."""
        check_fuse(self.fuse, self.data)
        if criteria.needs_data(self.criterion) and self.data is None:
            raise ValueError(
                f"The criterion {self.criterion.__name__!r} looks at samples. Received: data=None. "
                "Pass data=inputs, (inputs, targets), or a dataset of batches."
            )

    def _fused(self, model: Any, progress: Progress, plan: Plan) -> list:
        if self.fuse is None:
            return []
        kept = kept_neurons(progress.graph, plan)
        return fused(model, progress.graph, kept, self.data, self.fuse)

    def check_data(self, model: Any) -> None:
        """Raise a ValueError if the data do not fit the model."""
        if self.data is not None:
            inputs = _keras.function_of(model).inputs
            check_data(self.data, inputs, self.recalibration_steps)

    def check_reachable(self, graph: Graph) -> None:
        """Raise a ValueError if the limits keep more than the target allows."""
        check_reachable(graph, self.limits, budget_of(self.target, graph.cost))

    def is_done(self, progress: Progress) -> bool:
        """Tell whether the target is met."""
        budget = budget_of(self.target, progress.original)
        return bool(self.target) and meets(progress.graph.cost, budget)

    def choose(self, model: Any, progress: Progress, fraction: float, turn: int) -> Plan:
        """Choose what to cut: the fraction, or the least that can go where that is more."""
        seed = None if self.seed is None else self.seed + turn
        scores = score_graph(model, progress.graph, self.criterion, self.data, seed, turn)
        plan = self._chosen(progress, scores, fraction, turn)
        while plan.removed == 0 and fraction < 1:
            fraction *= 2
            plan = self._chosen(progress, scores, fraction, turn)
        return plan

    def _chosen(
        self, progress: Progress, scores: Mapping[str, Any], fraction: float, turn: int
    ) -> Plan:
        return choose(
            progress.graph,
            scores,
            self.ranking,
            self.limits,
            budget_of(self.target, progress.original),
            fraction,
            turn=turn,
            original=progress.plan.widths,
        )

    def cut(self, model: Any, progress: Progress, plan: Plan) -> None:
        """Cut the model in place; measure its statistics anew, if there is data.

        Raises:
            ValueError: if a model has been built meanwhile that shares layers with this one.
        """
        check_alone(model)
        values = self._fused(model, progress, plan)
        progress.cut(model, plan)
        assign(model, values)
        if self.data is not None:
            recalibrate(model, self.data, self.recalibration_steps)
