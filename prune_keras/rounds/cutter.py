"""Cutter: what a round removes, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from prune_keras import _keras, criteria, processes
from prune_keras.accounting import Cost
from prune_keras.auto import AUTO, Scoring
from prune_keras.plan import Plan
from prune_keras.repair import Repair
from prune_keras.rounds.goal import Goal
from prune_keras.rounds.pace import Pace
from prune_keras.rounds.progress import Progress
from prune_keras.rounds.stopwatch import Stopwatch
from prune_keras.samples.batches import Samples, batches, check_ends, check_targets
from prune_keras.samples.ending import check_end_is_told
from prune_keras.samples.inputs import check_data
from prune_keras.scoring import indistinct, score_graph
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import SCOPES, Ranking
from prune_keras.selection.stepping import Request
from prune_keras.surgery import check_alone, kept_neurons
from prune_keras.validation import check_choice
from prune_keras.ways import Way


@dataclass(frozen=True)
class Went:
    """What a cut came to.

    Args:
        plan: what is left of the model as it began.
        steps: cost after each step, where there were several.
        notes: what is to be said of the scores and the repair.
    """

    plan: Plan
    steps: tuple[Cost, ...]
    notes: tuple[str, ...]


def check_asked(given: Any) -> None:
    """Raise a ValueError for arguments of a `ProgressivePruning` that can be met for no model."""
    Goal.of(given)
    _limits(given)
    check_choice("scope", given.scope, (AUTO, *SCOPES))
    Ranking("global" if given.scope == AUTO else given.scope, given.debias, given.combine)
    scoring, data = Scoring(given.criterion, given.fuse), Samples.of(given.data)
    scoring.check(data)
    if scoring.reads_all(data):
        check_end_is_told(data.data)


@dataclass(frozen=True)
class Cutter:
    """How a round scores, chooses and cuts; the arguments are those of `ProgressivePruning`.

    `goal` is what its target says; `way` is `criterion`, `fuse`, `scope`, `debias` and `combine`.
    """

    goal: Goal
    way: Way
    limits: Limits
    data: Any
    recalibration_steps: int | None
    seed: int | None
    steps: int = 1

    @classmethod
    def of(cls, given: Any, model: Any, fit: Any) -> Cutter:
        """Return the cutter of a `fit`, with what `"auto"` stands for there.

        Args:
            given: the `ProgressivePruning`.
            model: the model that is trained.
            fit: the `fit` that runs.

        Raises:
            ValueError: if the data do not fit the model, have no end, or lack targets to score by.
        """
        data = Samples.of(given.data, given.data_batch_size or fit.batch_size, fit.class_weight)
        if data is not None:
            check_data(data, _keras.graph_of(model).inputs, given.recalibration_steps)
        scoring = Scoring(given.criterion, given.fuse)
        ranking = given.scope, given.debias, given.combine
        way = Way.of(scoring, ranking, model, data, given.target)
        _check_read(way.scoring, data)
        goal = Goal.of(given)
        if goal.latency_ms is not None:
            way = way.measured_in("flops")  # what time goes by before it is measured
        rest = given.recalibration_steps, given.seed, given.steps_per_cut
        return cls(goal, way, _limits(given), data, *rest)

    def _least(
        self, progress: Progress, scores: Mapping[str, Any], fraction: float, turn: int
    ) -> tuple[Request, Plan]:
        # Only where a latency is still to be met does a round begin with the other ones met.
        budget = {} if self.goal.is_small(progress) else self.goal.target(progress.original).budget
        request = self._request(progress, budget, fraction, turn)
        plan = request.choose(scores)
        while plan.removed == 0 and fraction < 1:
            fraction *= 2
            request = self._request(progress, budget, fraction, turn)
            plan = request.choose(scores)
        return request, plan

    def follow(
        self, progress: Progress, scores: Mapping[str, Any], pace: Pace, turn: int
    ) -> tuple[Request, Plan, Pace]:
        """Choose what the next round cuts; also return what it is to come to, and its pace."""
        if pace.schedule is None or self.goal.is_small(progress):
            return *self._least(progress, scores, pace.step, turn), pace
        target = self.goal.target(progress.original)
        cost = progress.graph.cost
        remains = cost.share_of(target.whole)
        ends = {m: share for m, share in target.shares.items() if m not in target.met_by(cost)}
        while True:
            pace = pace.next(remains, ends)
            shares = pace.shares(remains, ends)
            budget = {m: share * getattr(target.whole, m) for m, share in shares.items()}
            request = self._request(progress, budget)
            plan = request.choose(scores)
            # What is coarser than the steps of a schedule waits for the one that lets it go.
            if plan.removed or pace.is_last(ends):
                return request, plan, pace

    def notes(self, scores: Mapping[str, Any]) -> tuple[str, ...]:
        """Return what is to be said of scores."""
        return indistinct(scores, self.way.scoring.criterion)

    @property
    def unseen(self) -> tuple[str, ...]:
        """What is to be said of samples that scores do not look at."""
        return () if self.data is None else self.data.note

    def score(self, model: Any, progress: Progress, turn: int) -> dict[str, Any]:
        """Score the units of every prunable layer, in a round counted from 0."""
        seed = None if self.seed is None else self.seed + turn
        criterion = self.way.scoring.criterion
        return score_graph(model, progress.graph, criterion, self.data, seed, turn)

    def begin(
        self, model: Any, progress: Progress, turn: int
    ) -> tuple[Cutter, Mapping[str, Any], tuple[str, ...]]:
        """Score the units as a round begins.

        Returns:
            The cutter that goes by the scores, which is another one if the scores of this one tell
            no neurons apart and others may do; the scores; what is to be said of that.
        """
        way, scores = self.way.scored(
            lambda way: replace(self, way=way).score(model, progress, turn)
        )
        return replace(self, way=way), scores, () if way is self.way else way.notes

    def _request(
        self,
        progress: Progress,
        budget: Mapping[str, float],
        fraction: float | None = None,
        turn: int | None = None,
    ) -> Request:
        graph, widths = progress.graph, progress.plan.widths
        return Request(graph, self.way.ranking, self.limits, budget, fraction, turn, widths)

    def go(
        self,
        model: Any,
        progress: Progress,
        request: Request,
        plan: Plan,
        scores: Mapping[str, Any],
        turn: int,
        watch: Stopwatch,
    ) -> Went:
        """Cut the model in place, in as many steps as a cut has, and repair it at each.

        Args:
            model: the model.
            progress: how far it has come.
            request: what the round is to come to.
            plan: what it would cut at once.
            scores: those of the model as it is.
            turn: the round, counted from 0.
            watch: is told the seconds of each phase.
        """
        costs, notes = [], [*self.notes(scores)]

        def score() -> Mapping[str, Any]:
            with watch.phase("score"):
                found = self.score(model, progress, turn)
            notes.extend(self.notes(found))
            return found

        def cut(done: Plan, whole: Plan) -> None:
            plan = whole.since(done, progress.graph.widths)
            notes.extend(self.cut(model, progress, plan, watch))
            costs.append(progress.graph.cost)

        done = request.go(plan, self.steps, scores, score, cut)
        return Went(done, tuple(costs) if self.steps > 1 else (), tuple(dict.fromkeys(notes)))

    def cut(self, model: Any, progress: Progress, plan: Plan, watch: Stopwatch) -> tuple[str, ...]:
        """Cut the model in place, and repair it, if there is data; return notes on the repair.

        Raises:
            ValueError: if a model has been built meanwhile that shares layers with this one, or
                other processes would cut other neurons.
        """
        processes.check_plan(plan.to_dict())
        with watch.phase("cut"):
            views = check_alone(model)
        with watch.phase("fuse"):
            kept, fuse = kept_neurons(progress.graph, plan), self.way.scoring.fuse
            steps = self.recalibration_steps
            repair = Repair.of(model, progress.graph, kept, self.data, fuse, steps)
        with watch.phase("cut"):
            progress.cut(model, plan, views)
        with watch.phase("recalibrate"), _keras.averages_follow(model):
            repair.apply(model)
        return repair.notes


def _limits(given: Any) -> Limits:
    return Limits(given.min_units, given.max_layer_fraction, given.exclude, given.round_to)


def _check_read(scoring: Scoring, data: Any) -> None:
    """Raise a ValueError if data have no end, or lack targets to score by."""
    if scoring.reads_all(data):
        check_ends(data)
    if criteria.needs_targets(scoring.criterion):
        for _, targets, _ in batches(data, steps=1):
            check_targets(targets, scoring.criterion.__name__)
