"""ProgressivePruning: cut a little, fine-tune, and go on, while `model.fit` runs."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.accounting import SIZES
from prune_keras.automatic import Scoring
from prune_keras.callbacks.arguments import FRACTION, check_arguments, check_batches
from prune_keras.callbacks.cutting import Cutter
from prune_keras.callbacks.interruption import Interruption
from prune_keras.callbacks.judging import Judge
from prune_keras.callbacks.keeping import Keeper
from prune_keras.callbacks.measuring import Measuring
from prune_keras.callbacks.neighbours import check_neighbours
from prune_keras.callbacks.pacing import Pace
from prune_keras.callbacks.progress import Progress
from prune_keras.callbacks.rounds import Round, line, walked
from prune_keras.frontier import Point, pick
from prune_keras.limits import Limits, Ranking, split_target
from prune_keras.plan import Plan
from prune_keras.reaching import missed
from prune_keras.report import Report
from prune_keras.surgery import check_alone, check_optimizer
from prune_keras.tracing import trace


@dataclass(eq=False, repr=False)
class ProgressivePruning(keras.callbacks.Callback):
    """Make the model that is being fitted physically thinner, round by round.

    A round scores every neuron, cuts the lowest in place together with the optimizer's state,
    recalibrates batch normalization if there is `data`, and fine-tunes. Rounds go on until the
    target is met. With `max_drop` or `floor`, a round that ends below the bound is undone and the
    fraction halved; pruning stops when it falls below `min_fraction`, and at the end of `fit` the
    model stands at the last good round, or at the last good epoch after it. Each epoch's logs gain
    `neurons`, `params` and `flops`.

    A round is judged as an epoch ends, and undone or followed by the next cut as the next epoch
    begins, so that every callback, before or after this one, meets the model that was measured.
    Nothing is cut where no fine-tuning would follow. Undoing brings back structure, weights,
    statistics, and the optimizer's state and iteration count; learning rates that a callback set
    stay. A loss that is NaN or infinite, and Ctrl-C, end `fit` at the last good round. In a second
    `fit` of the same model the callback goes on from where the first one ended.

    Args:
        target: share that may remain, at most, of one or more of `{"params", "flops", "neurons",
            "weight_bytes", "activation_bytes"}`, each in (0, 1); see `Cost`. And
            `"latency_ms"`, the most milliseconds, measured on this machine after each cut. Defaults
            to None: prune as far as the bound allows.
        fraction: share of the neurons still there to remove in a round, in (0, 1). Defaults
            to 0.1.
        schedule: instead of `fraction`, how much of the target's metrics may remain after each
            round; see `prune_keras.schedules`. Defaults to None.
        epochs_per_round: epochs of fine-tuning after a cut. Defaults to 1.
        batches_per_round: instead, batches of fine-tuning after a cut; all rounds of an epoch are
            judged together as it ends. Defaults to None.
        max_epochs_per_round: a round that is not back within the bound by then goes on until it
            is, at most for this many epochs. Defaults to None: `epochs_per_round`.
        criterion: name of a criterion, or what else `prune_keras.criteria.get` takes. Defaults
            to `"auto"`: `"l2"` without `data`, `"taylor"` where it has targets and the model is
            compiled with a loss, else `"reconstruction"`.
        debias: name or function; see `prune_keras.debias`. Defaults to `"mean"`.
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
        data: inputs, `(inputs, targets)` or a dataset of batches, to score and to fuse with and
            for batch normalization, whose statistics are left to training if it is None.
        recalibration_steps: batches of `data` for batch normalization. Defaults to 10.
        fuse: one of `{"auto", "weights", "bias", None}`: let the weights that read neurons that
            stay make up for those that go, or only the bias, for their mean. Defaults to `"auto"`:
            `"weights"` where there is `data`, else None.
        min_units: units that a layer keeps at least; one number, or numbers by path, pattern or
            type of layer: `{"block1_*": 16, "Dense": 8}`. Defaults to 1.
        max_layer_fraction: share of its original units that a layer loses at most, over all
            rounds; one number, or several as above. Defaults to 1.
        exclude: layers that keep all units: path, pattern, several of them, or a function of the
            path. Defaults to none.
        round_to: a family keeps a multiple of this many neurons; one number, or several as above,
            all of which hold. Defaults to 1.
        seed: seed of `criterion="random"`. Defaults to None: different in each run.
        latency_batch_size: number of samples whose latency is measured. Defaults to 1.
        keep_rounds: folder for the model at the start and at the end of each round that ends with
            an epoch, undone ones too: `round-000.keras` and so on, and `frontier.json`. Files of
            the same names are replaced. Defaults to None: no files.
        log_dir: folder for `rounds.json`, written anew after each round; made if it is not there.
            Defaults to None: no file.
        verbose: 1 prints what neurons are scored by and a line a round, 0 nothing. Defaults to 1.

    Attributes:
        report: a `Report` of what is gone, counted in the original; after `fit` has begun.
        rounds: a list of `Round`, over all fits of the same model.
        frontier: a list of `prune_keras.frontier.Point`: the start and what each round came to.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, the
            model or its optimizer cannot be pruned, the target cannot be reached, there is nothing
            to judge by, or another callback keeps weights of the older shape.

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

    target: Mapping[str, float] | None = None
    fraction: float = FRACTION
    schedule: Any = None
    epochs_per_round: int = 1
    batches_per_round: int | None = None
    max_epochs_per_round: int | None = None
    criterion: Any = "auto"
    debias: Any = "mean"
    combine: str = "mean"
    scope: str = "global"
    monitor: str = "val_accuracy"
    mode: str = "auto"
    max_drop: float | None = None
    floor: float | None = None
    baseline: float | None = None
    min_fraction: float = 0.01
    data: Any = None
    recalibration_steps: int = 10
    fuse: str | None = "auto"
    min_units: int | Mapping[str, int] = 1
    max_layer_fraction: float | Mapping[str, float] = 1.0
    exclude: Any = ()
    round_to: int | Mapping[str, int] = 1
    seed: int | None = None
    latency_batch_size: int = 1
    keep_rounds: str | Path | None = None
    log_dir: str | Path | None = None
    verbose: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        check_arguments(self)
        shares, most = split_target(self.target)
        self._cutter = Cutter(
            dict(shares) if shares else None,
            Scoring(self.criterion, self.fuse),
            Ranking(self.scope, self.debias, self.combine),
            Limits(self.min_units, self.max_layer_fraction, self.exclude, self.round_to),
            self.data,
            self.recalibration_steps,
            self.seed,
            most,
            self.latency_batch_size,
        )
        self._cutter.check_needs()
        self._keeper = Keeper(self.log_dir, self.keep_rounds)
        self._judge: Judge = self._new_judge()
        self.rounds: list[Round] = []
        self._begun: Progress | None = None

    @property
    def report(self) -> Report:
        """What is gone so far, counted in the model that pruning began with."""
        done, graph = self._progress, self._progress.graph
        name, notes = self.model.name, self._missed + graph.notes
        walked = tuple(self.frontier)
        fixed, scores = graph.fixed, str(self._cutter.scoring)
        return Report(name, done.plan, done.original, graph.cost, fixed, notes, walked, scores)

    @property
    def frontier(self) -> list[Point]:
        """What the model was at the start and what each round came to, undone ones too."""
        start, first = self._progress.start, self._judge.start
        if first is None and self.rounds:
            first = self.rounds[0].metric_before
        return walked(replace(start, metric=first), self.rounds)

    def pick(
        self, number: int | None = None, metric: float | None = None, by: str = "params"
    ) -> Any:
        """Return the model of one round, read from `keep_rounds`; it is not compiled.

        Args:
            number: the round whose model to take, 0 for the model at the start.
            metric: instead, the worst metric allowed: of the models that hold it, the cheapest.
            by: what is cheapest; see `prune_keras.frontier.pick`. Defaults to `"params"`.

        Raises:
            ValueError: if no round fits, or its model was not kept.
        """
        mode = self._judge.mode
        if mode == "auto" and metric is not None:
            mode = _keras.direction(self.model, self.monitor)
        return pick(self.frontier, number, metric, mode, by).load()

    @property
    def _missed(self) -> tuple[str, ...]:
        """What the report says of a target that is not reached."""
        why = "fit had no epochs left for another round, and the next fit goes on from here"
        if self._finished:
            why = f"no further cut held the bound of {self.monitor}"
        progress, cutter = self._progress, self._cutter
        notes = missed(cutter.target, progress.original, progress.graph.cost, why)
        return notes + cutter.timed(self.frontier, why)

    @property
    def _progress(self) -> Progress:
        if self._begun is None:
            raise ValueError(
                "There is a report once fit has begun. Received: a callback that no fit has used. "
                "Pass it to fit first."
            )
        return self._begun

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        graph = trace(self.model)
        fit = _keras.running_fit(self.model)
        check_neighbours(self, fit.callbacks)
        check_alone(self.model)
        _keras.build_optimizer(self.model)
        check_optimizer(self.model, graph)
        self._cutter.check_data(self.model)
        scoring = Scoring(self.criterion, self.fuse).settled(self.model, self.data)
        self._cutter = replace(self._cutter, scoring=scoring)
        self._measuring = Measuring(fit, self.monitor)
        if self.max_drop is not None or self.floor is not None:
            self._measuring.check()
        check_batches(self.batches_per_round, self.params.get("steps"))
        if self._begun is not None and self._begun.is_of(self.model, graph):
            self._begun.mark(self.model, self._begun.metric)
        else:
            self._start_over(graph)
        self._open: list[Round] = []
        self._undoing = False
        self._metric = self._progress.metric
        self._keeper.write(self.rounds, self.frontier)
        if self.verbose:
            print(f"\nScores: {scoring}")
        self._interruption = Interruption(self.model, self._abandon)
        self._interruption.begin()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._undo()
        self._epoch, self._cut_batch = epoch, 0
        if not self._open and self._may_cut(epoch):
            self._begin_round()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        every = self.batches_per_round
        if every is None or not self._open or batch < self._cut_batch + every:
            return
        steps = self.params.get("steps")
        fits = steps is None or batch + every <= steps
        done = self._cutter.is_done(self._progress, self._open[-1].latency_ms)
        if fits and not done and self._may_cut(self._epoch):
            _keras.sync(self.model)
            self._begin_round(batch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        cost = vars(self._progress.graph.cost)
        logs.update({name: cost[name] for name in SIZES if cost[name] is not None})
        if not math.isfinite(logs.get("loss", 0.0)):
            self._give_up(epoch, logs["loss"])
            return
        measured = self._measuring.ends(epoch)
        self._metric = self._measure(logs) if measured else None
        if self._open:
            self._open = [replace(each, epochs=each.epochs + 1) for each in self._open]
            if self._is_over(self._open[-1], measured):
                self._end_rounds(self._metric, self._judge.accepts(self._metric))
        elif measured and self._judge.waits:
            self._judge = self._judge.started(self._metric)
            self._progress.mark(self.model, self._metric)
            self._keeper.keep(self.model, 0)  # as it was measured
        elif self._judge.accepts(self._metric):
            self._progress.mark(self.model, self._metric)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._interruption.end()
        if self._open:
            self._end_rounds(None, kept=not self._judge.judges)
        elif not self._judge.accepts(self._metric):
            self._undoing = True
        if self._undoing:
            self._undo()
            _keras.finalize(self.model)

    def _start_over(self, graph: Any) -> None:
        self._cutter.check_reachable(graph)
        self._judge = self._new_judge()
        self._pace = self._kept_pace = Pace(self.fraction, self.schedule)
        self._finished = False
        self._refused: Plan | None = None
        self.rounds = []
        latency_ms = self._cutter.measure(self.model)
        self._cutter.check_latency(latency_ms)
        self._begun = Progress(self.model, graph, self.baseline)
        start = Point(
            0,
            True,
            self.baseline,
            graph.cost,
            graph.widths,
            self._keeper.keep(self.model, 0),
            latency_ms,
        )
        self._begun.start = start

    def _new_judge(self) -> Judge:
        judge = Judge(self.monitor, self.mode, self.floor, self.max_drop, self.baseline)
        return judge if self.mode == "auto" else judge.directed(self.mode)

    def _measure(self, logs: dict[str, Any]) -> float | None:
        """Read the metric; a model that cannot be judged is put back as it was."""
        try:
            metric = self._judge.read(logs)
            if self._judge.judges and self._judge.mode == "auto":
                # Keras makes a model's metrics with the first batch, not before.
                self._judge = self._judge.directed(_keras.direction(self.model, self.monitor))
        except ValueError:
            self._interruption.end()
            self._progress.go_back(self.model)
            raise
        return metric

    def _may_cut(self, epoch: int) -> bool:
        """Tell whether a round that begins now can come to its end."""
        epochs = self.params.get("epochs", epoch + 1)
        ends = range(epoch + self.epochs_per_round - 1, epochs)
        judged = any(self._measuring.ends(end) for end in ends)
        can_end = judged if self._judge.judges else len(ends) > 0
        return can_end and not self._finished and not self._judge.waits

    def _begin_round(self, batch: int = 0) -> None:
        begun, progress = time.perf_counter(), self._progress
        number = len(self.rounds) + len(self._open) + 1
        plan, pace = self._cutter.follow(self.model, progress, self._pace, number - 1)
        if plan.removed == 0 or plan == self._refused:
            self._finished = True
            return
        before, metric = progress.graph.cost, progress.metric
        self._cutter.cut(self.model, progress, plan)
        after, seconds = progress.graph.cost, time.perf_counter() - begun
        fraction = pace.step if pace.schedule is None else 1 - after.neurons / before.neurons
        opened = Round(number, self._epoch, fraction, plan, before, after, metric, seconds)
        self._time_last()
        self._pace, self._cut_batch = pace, batch
        self._open.append(
            replace(
                opened,
                metric_cut=None if batch else self._measuring.now(self.model),
                batch=batch,
                widths=progress.plan.new_widths,
                latency_ms=self._cutter.measure(self.model),
            )
        )
        self._cut_at = time.perf_counter()

    def _time_last(self) -> None:
        """Tell the last round that is open how long its fine-tuning took."""
        if self._open:
            seconds = time.perf_counter() - self._cut_at
            self._open[-1] = replace(self._open[-1], fine_tuning_seconds=seconds)

    def _is_over(self, opened: Round, measured: bool) -> bool:
        """Tell whether the round has come to its end."""
        if opened.epochs < self.epochs_per_round or (self._judge.judges and not measured):
            return False
        most = self.max_epochs_per_round or self.epochs_per_round
        return opened.epochs >= most or self._judge.accepts(self._metric)

    def _end_rounds(self, metric: float | None, kept: bool) -> None:
        """End the rounds that are open; those before the last one ended within its epoch."""
        self._time_last()
        file = self._keeper.keep(self.model, self._open[-1].number)
        self._open[-1] = replace(self._open[-1], metric=metric, file=file)
        ended, self._open = [replace(each, kept=kept) for each in self._open], []
        self.rounds += ended
        if kept:
            self._kept_pace = self._pace
            self._progress.mark(self.model, metric)
            self._finished = self._cutter.is_done(self._progress, ended[-1].latency_ms)
        else:
            self._refuse(ended[0])
        self._keeper.write(self.rounds, self.frontier)
        for done in ended if self.verbose else ():
            print("\n" + line(done, self._progress.original, self._judge))

    def _refuse(self, first: Round) -> None:
        self._undoing = True
        self._refused = first.plan
        self._pace = self._kept_pace = self._kept_pace.halved()
        self._finished = first.fraction / 2 < self.min_fraction

    def _undo(self) -> None:
        """Go back to the last good state, if the present one was judged to be worse."""
        if self._undoing:
            self._undoing = False
            self._progress.go_back(self.model)

    def _give_up(self, epoch: int, loss: float) -> None:
        """End the fit at the last good state because the loss is no number."""
        if self._open:
            self._end_rounds(None, kept=False)
        self._undoing = True
        self.model.stop_training = True
        warnings.warn(
            f"The loss is {loss} in epoch {epoch + 1}: training stops, and the model goes back to "
            "its last good state. Lower the learning rate or the fraction, and fit again to go on.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _abandon(self) -> None:
        """Go back to the last good state because the fit is interrupted."""
        self._open, self._undoing, self._pace = [], False, self._kept_pace
        self._progress.go_back(self.model)
        cost = self._progress.graph.cost
        left = f"{cost.neurons} neurons, {cost.params} parameters"
        print(f"\nInterrupted: the model is back at its last good state, {left}.")
