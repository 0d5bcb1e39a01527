"""Course: the rounds of one model, from the first cut to the last one that can be made."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from prune_keras import processes
from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.graph import Graph
from prune_keras.interrupts import deferred
from prune_keras.plan import Plan
from prune_keras.report import Report
from prune_keras.reporting.parts import Distribution, Layer
from prune_keras.reporting.spread import spread
from prune_keras.reporting.start import Start
from prune_keras.rounds.averages import Averages
from prune_keras.rounds.cutter import Cutter
from prune_keras.rounds.keeper import Keeper
from prune_keras.rounds.pace import Pace
from prune_keras.rounds.progress import Progress
from prune_keras.rounds.round import Round, walked
from prune_keras.rounds.stopwatch import Shown, Stopwatch, summed
from prune_keras.selection.targets import missed

_NO_EPOCHS = "fit had no epochs left for another round, and the next fit goes on from here"
_FAILED = "fit was interrupted, and the next fit goes on from here"
_CUT_SHORT = "fit ended before its last round could be judged, and the next fit goes on from here"
_USED_UP = "no neuron is left that the limits let go"


class Course:
    """How the rounds of one model begin, end, and are refused.

    Args:
        model: the model at its start.
        graph: its trace.
        cutter: how rounds cut.
        keeper: where their models are written.
        pace: how far they go.
        min_fraction: no round begins when the fraction was halved below this.
        metric: the monitored metric at the start; None if it is not known.

    One begins with `start`, or with `resume`.

    Attributes:
        ended: the rounds that are over.
        open: the rounds that are fine-tuned; several, if they are counted in batches.
        is_finished: whether no further round begins.
        refused: whether the model as it is was judged to be worse than its last good state.
        spread: how the scores lay that the last cut was chosen by.
        shown: what shows the phases of a cut; see `Stopwatch`.
    """

    def __init__(
        self,
        model: Any,
        graph: Graph,
        cutter: Cutter,
        keeper: Keeper,
        pace: Pace,
        min_fraction: float,
        metric: float | None = None,
    ) -> None:
        self._progress = Progress(model, graph, metric)
        self.ended: list[Round] = []
        self.is_finished = False
        self.shown: Shown = contextlib.nullcontext
        self._begun = Start.of(model, graph)
        self.spread: tuple[Distribution, ...] = ()
        self._first_spread: tuple[Distribution, ...] = ()
        self._cutter, self._keeper, self._min_fraction = cutter, keeper, min_fraction
        self._pace = self._kept_pace = pace
        self._asked_plan: Plan | None = None  # of the first round that is open, at once
        self._refused_plan: Plan | None = None
        self._undone: Round | None = None
        self._left = _NO_EPOCHS
        self._is_used_up = False  # whether it is finished because nothing is left to cut
        self.open: list[Round] = []
        self.refused = False

    def start(self, model: Any) -> None:
        """Take the model as it stands for the first point of the frontier.

        Raises:
            ValueError: if the target cannot be reached, or is met before anything is cut.
        """
        goal, graph = self._cutter.goal, self._progress.graph
        goal.check_reachable(graph, self._cutter.limits)
        latency_ms = goal.measure(model)
        goal.check_unmet(graph.cost, latency_ms)
        with self.averages.shown(model):
            file = self._keeper.keep(model, 0)
        self._progress.start = replace(self._progress.start, file=file, latency_ms=latency_ms)

    def to_dict(self) -> dict[str, Any]:
        """Return all but values of variables, as lists, texts and numbers."""
        plans = {"asked": self._asked_plan, "refused": self._refused_plan}
        paces = {"pace": self._pace, "kept_pace": self._kept_pace}
        return {
            "progress": self._progress.to_dict(),
            "ended": [each.to_dict() for each in self.ended],
            "open": [each.to_dict() for each in self.open],
            "undone": None if self._undone is None else self._undone.to_dict(),
            "is_finished": self.is_finished,
            "is_refused": self.refused,
            "is_used_up": self._is_used_up,
            "plans": {name: plan and plan.to_dict() for name, plan in plans.items()},
            "paces": {name: [pace.scale, pace.number] for name, pace in paces.items()},
            "spreads": [[asdict(each) for each in s] for s in (self.spread, self._first_spread)],
        }

    def values(self, model: Any) -> dict[str, Any]:
        """Return what variables hold; see `Progress.values`."""
        return self._progress.values(model)

    def resume(self, model: Any, stored: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Bring the course of a model that is at its start to where another one was.

        Args:
            model: the model.
            stored: what `to_dict` returned.
            values: what `values` returned.

        Raises:
            ValueError: if they do not fit the model.
        """
        self._progress.resume(model, stored["progress"], values)
        self.ended, self.open = (
            [Round.from_dict(each) for each in stored[name]] for name in ("ended", "open")
        )
        self._undone = stored["undone"] and Round.from_dict(stored["undone"])
        self.is_finished, self.refused = stored["is_finished"], stored["is_refused"]
        self._is_used_up = stored.get("is_used_up", False)  # which older files do not tell
        plans = stored["plans"]
        self._asked_plan = plans["asked"] and Plan.from_dict(plans["asked"])
        self._refused_plan = plans["refused"] and Plan.from_dict(plans["refused"])
        for name in ("pace", "kept_pace"):
            scale, number = stored["paces"][name]
            setattr(self, f"_{name}", replace(self._pace, scale=scale, number=number))
        self.spread, self._first_spread = (
            tuple(_distribution(each) for each in spreads) for spreads in stored["spreads"]
        )
        self._cut_at = time.perf_counter()

    @property
    def told(self) -> list[Round]:
        """The rounds whose cuts the model shows, oldest first."""
        first = math.inf if self._undone is None else self._undone.number
        return [each for each in self.ended if each.kept or each.number >= first] + self.open

    def go_on(self, model: Any, cutter: Cutter) -> None:
        """Take the model as it stands for good, as another fit begins."""
        if (cutter.goal, cutter.limits) != (self._cutter.goal, self._cutter.limits):
            self.is_finished = cutter.goal.is_met(self._progress)
            self._refused_plan = None
        self._cutter, self._left = cutter, _NO_EPOCHS
        self.averages.forget()
        self._progress.mark(model, self._progress.metric)

    def is_of(self, model: Any, graph: Graph) -> bool:
        """Tell whether a model is this one, with the widths that it was left with."""
        return self._progress.is_of(model, graph)

    @property
    def averages(self) -> Averages:
        """What shows the averages that the optimizer keeps, and hides them."""
        return self._progress.averages

    @property
    def cost(self) -> Cost:
        """What the model costs as it is now."""
        return self._progress.graph.cost

    @property
    def plan(self) -> Plan:
        """What is left as the model is now, counted in the model at the start."""
        return self._progress.plan

    @property
    def original(self) -> Cost:
        """What shares are counted from."""
        return self._cutter.goal.target(self._progress.original).whole

    @property
    def counts(self) -> dict[str, float]:
        """How many rounds were begun and rolled back by now, and the seconds that cuts took."""
        begun = [*self.ended, *self.open]
        undone = sum(not each.kept for each in self.ended)
        seconds = sum(each.seconds for each in begun)
        return {"round": len(begun), "rolled_back": undone, "pruning_seconds": seconds}

    @property
    def widths(self) -> dict[str, int]:
        """Path of the layer -> number of units at the start."""
        return self._progress.start.widths

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers as they are now, and what each of them reads."""
        return self._begun.after(self._progress.plan)["layers"]

    @property
    def metric(self) -> float | None:
        """The monitored metric of the last good state; None if it is not known."""
        return self._progress.metric

    def mark(self, model: Any, metric: float | None) -> None:
        """Take the present state as the good one."""
        self._progress.mark(model, metric)

    @property
    def is_done(self) -> bool:
        """Whether the target is met as the last open round stands."""
        return self._cutter.goal.is_met(self._progress, self.open[-1].latency_ms)

    def frontier(self, metric: float | None) -> list[Point]:
        """Return what the model was at the start, with its metric, and what each round came to."""
        if metric is None and self.ended:
            metric = self.ended[0].metric_before
        return walked(replace(self._progress.start, metric=metric), self.ended)

    def report(self, name: str, frontier: Sequence[Point], monitor: str) -> Report:
        """Return what is gone so far, counted in the model at the start."""
        done, graph, goal = self._progress, self._progress.graph, self._cutter.goal
        why = self._left
        if self.is_finished:
            bound = f"no further cut held the bound of {monitor}"
            why = _USED_UP if self._is_used_up else bound
        notes = missed(goal.target(done.original), graph.cost, why)
        if not self.ended and not goal.counted:
            notes += (f"nothing was cut: {why}",)
        way = self._cutter.way
        notes += goal.timed(frontier, why) + way.notes + self._said
        notes += self._cutter.unseen + graph.notes
        costs, points, scores = (done.original, graph.cost), tuple(frontier), way.scoring
        of, took = goal.shares_of, summed(each.phases for each in self.ended)
        steps = tuple(cost for each in self.ended if each.kept for cost in each.steps)
        told = {
            "scores": str(scores),
            "of": of,
            "seconds": took,
            "steps": steps,
            "distributions": self._first_spread,
            **self._begun.after(done.plan),
        }
        return Report(name, done.plan, *costs, graph.fixed, notes, points, **told)

    @property
    def _said(self) -> tuple[str, ...]:
        """What is to be said of the scores of rounds that were kept, each note once."""
        notes = [note for done in self.ended if done.kept for note in done.notes]
        return tuple(dict.fromkeys(notes))

    def begin(self, model: Any, epoch: int, batch: int) -> Round | None:
        """Cut the model and open a round; where nothing is left to cut, finish.

        Args:
            model: the model.
            epoch, batch: where the round begins, both counted from 0.

        Returns:
            The round, or None where nothing is left to cut.
        """
        self._time_last()
        begun, progress, watch = time.perf_counter(), self._progress, Stopwatch(self.shown)
        number = len(self.ended) + len(self.open) + 1
        with watch.phase("score"):
            cutter, scores, said = self._cutter.begin(model, progress, number - 1)
        with watch.phase("choose"):
            follows = cutter.follow(progress, scores, self._pace, number - 1)
        request, plan, pace = follows
        processes.check_plan(plan.to_dict())
        if plan.removed == 0 or plan == self._refused_plan:
            self.is_finished, self._is_used_up = True, plan.removed == 0
            return None
        self.spread = spread(progress.graph, scores, cutter.way.ranking, plan)
        self._first_spread = self._first_spread or self.spread
        before, metric = progress.graph.cost, progress.metric
        if not self.open:
            self._asked_plan = plan
        went = cutter.go(model, progress, request, plan, scores, number - 1, watch)
        after, seconds = progress.graph.cost, time.perf_counter() - begun
        fraction = pace.step if pace.schedule is None else 1 - after.neurons / before.neurons
        opened = Round(number, epoch, fraction, went.plan, before, after, metric, seconds)
        opened = replace(opened, phases=watch.seconds)
        widths = progress.plan.new_widths
        opened = replace(
            opened, batch=batch, widths=widths, notes=said + went.notes, steps=went.steps
        )
        self.open.append(opened)
        self._pace, self._cut_at = pace, time.perf_counter()
        return opened

    def measured(self, model: Any, metric: float | None) -> None:
        """Tell the last round that is open what its model is right after the cut.

        Args:
            model: the model, whose latency is measured where there is a target on it.
            metric: the monitored metric; None where that cannot be measured now.
        """
        latency_ms, begun = self._cutter.goal.measure(model), self._cut_at
        self._cut_at = time.perf_counter()
        phases = {**self.open[-1].phases, "judge": self._cut_at - begun}
        self.open[-1] = replace(
            self.open[-1], metric_cut=metric, latency_ms=latency_ms, phases=phases
        )

    def _time_last(self) -> None:
        """Tell the last round that is open how long its fine-tuning took."""
        if self.open:
            seconds = time.perf_counter() - self._cut_at
            self.open[-1] = replace(self.open[-1], fine_tuning_seconds=seconds)

    def count_epoch(self) -> None:
        """Tell the rounds that are open that they were fine-tuned for another epoch."""
        self.open = [replace(each, epochs=each.epochs + 1) for each in self.open]

    def keep(self, model: Any) -> None:
        """Write the model as the last open round ends, where models are written."""
        self._time_last()
        with self.averages.shown(model):
            file = self._keeper.keep(model, self.open[-1].number)
        self.open[-1] = replace(self.open[-1], file=file)

    def end(self, model: Any, metric: float | None, kept: bool, judged: bool = True) -> list[Round]:
        """End the rounds that are open; those before the last one ended within its epoch.

        Args:
            model: the model.
            metric: the monitored metric; None if it was not measured.
            kept: whether they stay.
            judged: whether that was found out, so that the next round is to cut less. Defaults to
                True.

        Returns:
            The rounds.
        """
        *others, last = self.open
        ended = [replace(each, kept=kept) for each in [*others, replace(last, metric=metric)]]
        with deferred():
            if kept:
                self._accept(model, ended[-1])
            else:
                self._take_back(ended[0])
            if judged and not kept:
                self._refuse(ended[0])
            self.ended += ended
            self.open = []
        return ended

    def _accept(self, model: Any, last: Round) -> None:
        self._progress.mark(model, last.metric)
        self._kept_pace = self._pace
        self.is_finished = self._cutter.goal.is_met(self._progress, last.latency_ms)

    def _take_back(self, first: Round) -> None:
        self.refused, self._undone = True, first
        self._pace, self._left = self._kept_pace, _CUT_SHORT

    def _refuse(self, first: Round) -> None:
        self._refused_plan, self._left = self._asked_plan, _NO_EPOCHS
        self._pace = self._kept_pace = self._kept_pace.halved()
        self.is_finished = first.fraction / 2 < self._min_fraction

    def undo(self) -> Round | None:
        """Go back to the last good state, if the present one is refused.

        Returns:
            The round that is undone, the first of several; None if there was none.
        """
        if not self.refused:
            return None
        with deferred():
            self._progress.go_back()
            undone, self._undone, self.refused = self._undone, None, False
        return undone

    def abandon(self) -> Round | None:
        """Go back to the last good state as it was judged, and forget the rounds that are open.

        Returns:
            The round that is undone, the first of several; None if there was none.
        """
        with deferred():
            self._progress.go_back(as_judged=True)
            undone = self.open[0] if self.open else self._undone
            self.open, self._pace, self._left = [], self._kept_pace, _FAILED
            self._undone, self.refused = None, False
        return undone


def _distribution(stored: Mapping[str, Any]) -> Distribution:
    told: dict[str, Any] = {"raw": tuple(stored["raw"]), "debiased": tuple(stored["debiased"])}
    return Distribution(**{**stored, **told})
