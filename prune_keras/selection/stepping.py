"""Stepping: one cut that goes its way in several steps, each by scores of what is left by then.

All is counted in the model as the cut begins: what is gone goes first in every later choice, so
that budgets, fractions, limits and multiples are those of the whole cut, and its last choice is the
plan of all steps together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.selection.choice import choose, sizes_left
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking
from prune_keras.selection.targets import meets


@dataclass(frozen=True)
class Request:
    """What one cut is to come to; see `choose`.

    Args:
        graph: the model as the cut begins.
        ranking, limits, budget, fraction, turn, original: as `choose` takes them.
    """

    graph: Graph
    ranking: Ranking
    limits: Limits
    budget: Mapping[str, float]
    fraction: float | None = None
    turn: int | None = None
    original: Mapping[str, int] | None = None

    def choose(
        self,
        scores: Mapping[str, Any],
        budget: Mapping[str, float] | None = None,
        done: Plan | None = None,
    ) -> Plan:
        """Choose by scores of what is left.

        Args:
            scores: path -> scores of the units that are left.
            budget: instead of the request's own, what may remain after a step.
            done: what is gone by now. Defaults to None: nothing.
        """
        budget = self.budget if budget is None else budget
        rest = self.fraction, self.turn, self.original
        return choose(self.graph, scores, self.ranking, self.limits, budget, *rest, done)

    def way(self, whole: Plan, steps: int) -> list[Mapping[str, float]]:
        r"""Return what may remain after each step, `(steps,)` budgets; the last one is the own.

        Each step leaves the same share of what there is before it, metric by metric:
        `c (e / c)^(i / n)` after step `i` of `n`, where `c` is what the model has as the cut begins
        and `e` what it may have at its end. Where a fraction ends the cut before, `e` is what a cut
        at once would leave; without a budget, neurons are counted.

        Args:
            whole: the plan of a cut at once.
            steps: how many steps there are.
        """
        now = self.graph.cost
        left = self.graph.costs.at(sizes_left(self.graph, whole))
        metrics = self.budget or {"neurons": 0}
        pairs = {
            metric: (getattr(now, metric), max(most, getattr(left, metric)))
            for metric, most in metrics.items()
        }
        between: list[Mapping[str, float]] = [
            {
                metric: start * (end / start) ** (step / steps)
                for metric, (start, end) in pairs.items()
            }
            for step in range(1, steps)
        ]
        return [*between, self.budget]

    def go(
        self,
        whole: Plan,
        steps: int,
        scores: Mapping[str, Any],
        score: Callable[[], Mapping[str, Any]],
        cut: Callable[[Plan, Plan], None],
    ) -> Plan:
        """Go all steps, and return what is left after the last one.

        Args:
            whole: the plan of a cut at once, which is made where there is one step.
            steps: how many steps there are; one that leaves nothing to do is left out.
            scores: those of the model as the cut begins.
            score: gives scores of the units that are left.
            cut: takes what is left by now, and what is to be left.
        """
        done = nothing = Plan.everything(self.graph.widths)
        for most in self.way(whole, steps):
            if done is not nothing:
                if self._is_met_by(done, most):
                    continue
                scores = score()
            gone = None if done is nothing else done
            plan = whole if steps == 1 else self.choose(scores, most, gone)
            if plan.removed > done.removed:
                cut(done, plan)
                done = plan
        return done

    def _is_met_by(self, done: Plan, budget: Mapping[str, float]) -> bool:
        """Tell whether a budget is met by what is gone by now."""
        return bool(budget) and meets(self.graph.costs.at(sizes_left(self.graph, done)), budget)
