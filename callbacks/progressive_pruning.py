"""ProgressivePruning: cut a little, fine-tune, and go on, while `model.fit` runs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras

from prune_keras import _keras, criteria
from prune_keras.accounting import Cost
from prune_keras.callbacks.judging import Judge
from prune_keras.callbacks.rounds import Round, line
from prune_keras.data import check_data
from prune_keras.graph import Graph
from prune_keras.limits import (
    Limits,
    Ranking,
    budget_of,
    check_count,
    check_number,
    check_request,
    check_share,
    meets,
)
from prune_keras.plan import Plan
from prune_keras.recalibration import recalibrate
from prune_keras.report import Report
from prune_keras.scoring import score_graph
from prune_keras.selection import check_reachable, choose
from prune_keras.surgery import (
    State,
    capture,
    check_alone,
    check_optimizer,
    restore,
    thinned,
)
from prune_keras.tracing import trace


class ProgressivePruning(keras.callbacks.Callback):
    """Make the model that is being fitted physically thinner, round by round.

    A round scores every neuron, cuts the lowest in place together with the optimizer's state,
    recalibrates batch normalization if there is `data`, and fine-tunes. Rounds go on until the
    target is met. With `max_drop` or `floor`, a round that ends below the bound is undone and the
    fraction halved; pruning stops when it falls below `min_fraction`, and at the end of `fit` the
    model stands at the last good round. Each epoch's logs gain `neurons`, `params` and `flops`.

    Args:
        target: share that may remain, at most, of one or more of `{"params", "flops",
            "neurons"}`, each in (0, 1). Defaults to None: prune as far as the bound allows.
        fraction: share of the neurons still there to remove in a round, in (0, 1). Defaults
            to 0.1.
        epochs_per_round: epochs of fine-tuning after a cut. Defaults to 1.
        criterion: one of `{"l1", "l2", "random", "apoz", "mean_activation", "taylor"}`, or what
            `prune_keras.criteria.get` takes. Defaults to `"l2"`.
        debias: one of `{"none", "mean", "l2", "zscore", "rank"}`, or a function. Defaults to
            `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of coupled units. Defaults to
            `"mean"`.
        scope: one of `{"global", "layerwise", "uniform"}`. Defaults to `"global"`.
        monitor: metric to judge rounds by. Defaults to `"val_accuracy"`.
        mode: one of `{"auto", "min", "max"}`; `"auto"` asks the model's metric. Defaults to
            `"auto"`.
        max_drop: how far the metric may fall behind its start, in its own units: 0.01 is one point
            of accuracy. Defaults to None: not judged by this.
        floor: the worst value of the metric allowed. Defaults to None: not judged by this.
        baseline: the metric at the start. Defaults to None: measured in a first epoch without a
            cut, if there is a `max_drop` or `floor`.
        min_fraction: pruning ends when the fraction was halved below this. Defaults to 0.01.
        data: inputs, `(inputs, targets)` or a dataset of batches, for data-driven criteria and for
            batch normalization, whose statistics are left to training if it is None.
        recalibration_steps: batches of `data` for batch normalization. Defaults to 10.
        min_units: units that every layer keeps at least. Defaults to 1.
        max_layer_fraction: share of its original units that a layer loses at most, over all
            rounds. Defaults to 1.
        exclude: layers that keep all units: path, pattern, several of them, or a function of the
            path. Defaults to none.
        round_to: a family keeps a multiple of this many neurons. Defaults to 1.
        seed: seed of `criterion="random"`.
        verbose: 1 prints a line a round, 0 nothing. Defaults to 1.

    Attributes:
        report: a `Report` of what is gone, counted in the original; after `fit` has begun.
        rounds: a list of `Round`.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, the
            model cannot be pruned, or the target cannot be reached.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import ProgressivePruning
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> pruning = ProgressivePruning(target={"neurons": 0.5}, fraction=0.25, verbose=0)
    >>> history = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=3, callbacks=[pruning], verbose=0
    ... )
    >>> [int(count) for count in history.history["neurons"]], model.get_layer("a").units
    ([12, 9, 8], 8)
    """

    def __init__(
        self,
        target: Mapping[str, float] | None = None,
        fraction: float = 0.1,
        epochs_per_round: int = 1,
        criterion: Any = "l2",
        debias: Any = "mean",
        combine: str = "mean",
        scope: str = "global",
        monitor: str = "val_accuracy",
        mode: str = "auto",
        max_drop: float | None = None,
        floor: float | None = None,
        baseline: float | None = None,
        min_fraction: float = 0.01,
        data: Any = None,
        recalibration_steps: int = 10,
        min_units: int = 1,
        max_layer_fraction: float = 1.0,
        exclude: Any = (),
        round_to: int = 1,
        seed: int | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        check_request(target, fraction)
        check_share("fraction", fraction)
        check_share("min_fraction", min_fraction)
        self.target = dict(target) if target else None
        self.fraction = fraction
        self.epochs_per_round = epochs_per_round
        self.criterion = criteria.get(criterion)
        self.ranking = Ranking(scope, debias, combine)
        self.limits = Limits(min_units, max_layer_fraction, exclude, round_to)
        self.monitor = monitor
        self.mode = mode
        self.max_drop = max_drop
        self.floor = floor
        self.baseline = baseline
        self.min_fraction = min_fraction
        self.data = data
        self.recalibration_steps = recalibration_steps
        self.seed = seed
        self.verbose = verbose
        self.rounds: list[Round] = []
        self._check_arguments()

    def _check_arguments(self) -> None:
        if self.target is None and self.max_drop is None and self.floor is None:
            raise ValueError(
                "Pruning must know where to stop. Received: target=None, max_drop=None, "
                'floor=None. Give target={"flops": 0.5}, max_drop=0.01, or both.'
            )
        for name in ("max_drop", "floor", "baseline"):
            check_number(name, getattr(self, name))
        if self.max_drop is not None and self.max_drop < 0:
            raise ValueError(f"`max_drop` must be at least 0. Received: max_drop={self.max_drop}.")
        for name in ("epochs_per_round", "recalibration_steps"):
            check_count(name, getattr(self, name))
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(
                f"`mode` must be one of ('auto', 'min', 'max'). Received: mode={self.mode!r}."
            )
        if criteria.needs_data(self.criterion) and self.data is None:
            raise ValueError(
                f"The criterion {self.criterion.__name__!r} looks at samples. Received: data=None. "
                "Pass data=inputs, (inputs, targets), or a dataset of batches."
            )

    @property
    def report(self) -> Report:
        """What is gone so far, counted in the model that `fit` began with."""
        return Report(
            self.model.name, self._plan, self._before, self._graph.cost, self._graph.fixed
        )

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        graph = trace(self.model)
        check_alone(self.model)
        _keras.build_optimizer(self.model)
        check_optimizer(self.model, graph)
        if self.data is not None:
            inputs = _keras.function_of(self.model).inputs
            check_data(self.data, inputs, self.recalibration_steps)
        check_reachable(graph, self.limits, budget_of(self.target, graph.cost))
        self._judge = Judge(self.monitor, self.mode, self.floor, self.max_drop, self.baseline)
        if self.mode != "auto":
            self._check_start()
        self._graph: Graph = graph
        self._before: Cost = graph.cost
        self._plan = Plan.everything(graph.widths)
        self._step = self.fraction
        self._open: tuple | None = None
        self._epochs_left = 0
        self._finished = False
        self.rounds = []
        self._good: State | None = capture(self.model, graph) if self._judge.judges else None
        self._good_plan, self._last_metric = self._plan, self.baseline
        self._refused: Plan | None = None

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        enough = epoch + self.epochs_per_round <= self.params.get("epochs", epoch + 1)
        if self._open is None and not self._finished and not self._judge.waits and enough:
            self._begin_round(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update({k: v for k, v in vars(self._graph.cost).items() if v is not None})
        self._last_metric = self._measure(logs)
        if self._open is not None:
            self._epochs_left -= 1
            if self._epochs_left == 0:
                self._end_round()
        elif self._judge.waits:
            self._start(self._last_metric)
        elif self._judge.judges and self._judge.accepts(self._last_metric):
            self._good = capture(self.model, self._graph)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._open is not None:
            self._end_round(complete=False)
        elif self._judge.judges and not self._judge.accepts(self._last_metric):
            self._go_back()

    def _measure(self, logs: dict[str, Any]) -> float | None:
        """Read the metric; a model that cannot be judged is put back as it was."""
        try:
            metric = self._judge.read(logs)
            if self._judge.judges and self._judge.mode == "auto":
                # Keras makes a model's metrics with the first batch, not before.
                mode = _keras.direction(self.model, self.monitor)
                self._judge = replace(self._judge, mode=mode)
                self._check_start()
        except ValueError:
            self._go_back()
            raise
        return metric

    def _start(self, metric: float | None) -> None:
        """Take the first epoch's metric as the start that `max_drop` counts from."""
        if metric is None or not math.isfinite(metric):
            raise ValueError(
                f"The metric must be a number before pruning. Received: {self.monitor}={metric}. "
                "Train the model, or pass baseline=."
            )
        self._judge = self._judge.started(metric)
        self._check_start()
        self._good = capture(self.model, self._graph)

    def _check_start(self) -> None:
        start = self._judge.start
        if start is not None and not self._judge.accepts(start):
            raise ValueError(
                f"The model must hold the floor before pruning. Received: {self.monitor}={start} "
                f"for floor={self.floor}. Train it further, or lower the floor."
            )

    def _begin_round(self, epoch: int) -> None:
        begun = time.perf_counter()
        plan = self._choose()
        if plan.removed == 0 or plan == self._refused:
            self._finished = True
            return
        before = self._graph.cost
        restore(self.model, thinned(self.model, self._graph, plan))
        self._graph = trace(self.model)
        self._plan = self._plan.then(plan)
        if self.data is not None:
            recalibrate(self.model, self.data, self.recalibration_steps)
        self._open = (epoch, plan, before, time.perf_counter() - begun)
        self._epochs_left = self.epochs_per_round

    def _choose(self) -> Plan:
        """Choose what to cut: the fraction, or the least that can go where that is more."""
        seed = None if self.seed is None else self.seed + len(self.rounds)
        scores = score_graph(self.model, self._graph, self.criterion, self.data, seed)
        share, plan = self._step, self._chosen(scores, self._step)
        while plan.removed == 0 and share < 1:
            share *= 2
            plan = self._chosen(scores, share)
        return plan

    def _chosen(self, scores: Mapping[str, Any], fraction: float) -> Plan:
        return choose(
            self._graph,
            scores,
            self.ranking,
            self.limits,
            budget_of(self.target, self._before),
            fraction,
            turn=len(self.rounds),
            original=self._plan.widths,
        )

    def _end_round(self, complete: bool = True) -> None:
        epoch, plan, before, seconds = self._open or (0, self._plan, self._before, 0.0)
        metric, judge = self._last_metric if complete else None, self._judge
        kept = judge.accepts(metric)
        after = self._graph.cost
        number = len(self.rounds) + 1
        done = Round(number, epoch, self._step, plan, before, after, metric, kept, seconds)
        self.rounds.append(done)
        self._open = None
        if kept:
            self._keep()
        else:
            self._undo(plan)
        if self.verbose:
            print("\n" + line(done, self._before, judge))

    def _keep(self) -> None:
        self._good_plan = self._plan
        if self._judge.judges:
            self._good = capture(self.model, self._graph)
        if self.target and meets(self._graph.cost, budget_of(self.target, self._before)):
            self._finished = True

    def _undo(self, plan: Plan) -> None:
        self._go_back()
        self._refused = plan
        self._step /= 2
        if self._step < self.min_fraction:
            self._finished = True

    def _go_back(self) -> None:
        """Bring back the last good round: structure, weights, and the optimizer's state."""
        if self._good is not None:
            restore(self.model, self._good)
            self._graph = trace(self.model)
            self._plan = self._good_plan
