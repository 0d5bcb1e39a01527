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

from prune_keras import _keras, criteria
from prune_keras.callbacks.cutting import Cutter
from prune_keras.callbacks.interruption import Interruption
from prune_keras.callbacks.judging import Judge
from prune_keras.callbacks.neighbours import check_neighbours
from prune_keras.callbacks.progress import Progress
from prune_keras.callbacks.rounds import Round, line, write
from prune_keras.limits import (
    Limits,
    Ranking,
    check_count,
    check_number,
    check_request,
    check_share,
)
from prune_keras.plan import Plan
from prune_keras.reaching import missed
from prune_keras.report import Report
from prune_keras.surgery import check_alone, check_optimizer
from prune_keras.tracing import trace

_LOGGED = ("neurons", "params", "flops")


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
            "weight_bytes", "activation_bytes"}`, each in (0, 1); see `Cost`. Defaults to
            None: prune as far as the bound allows.
        fraction: share of the neurons still there to remove in a round, in (0, 1). Defaults
            to 0.1.
        epochs_per_round: epochs of fine-tuning after a cut. Defaults to 1.
        max_epochs_per_round: a round that is not back within the bound by then goes on until it
            is, at most for this many epochs. Defaults to None: `epochs_per_round`.
        criterion: name of a criterion, or what else `prune_keras.criteria.get` takes. Defaults
            to `"l2"`.
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
        data: inputs, `(inputs, targets)` or a dataset of batches, for data-driven criteria and for
            batch normalization, whose statistics are left to training if it is None.
        recalibration_steps: batches of `data` for batch normalization. Defaults to 10.
        fuse: one of `{None, "weights", "bias"}`: with `data`, let the weights that read neurons
            that stay make up for those that go, or only the bias, for their mean. Defaults to None.
        min_units: units that a layer keeps at least; one number, or numbers by path, pattern or
            type of layer: `{"block1_*": 16, "Dense": 8}`. Defaults to 1.
        max_layer_fraction: share of its original units that a layer loses at most, over all
            rounds; one number, or several as above. Defaults to 1.
        exclude: layers that keep all units: path, pattern, several of them, or a function of the
            path. Defaults to none.
        round_to: a family keeps a multiple of this many neurons; one number, or several as above,
            all of which hold. Defaults to 1.
        seed: seed of `criterion="random"`. Defaults to None: different in each run.
        log_dir: folder for `rounds.json`, written anew after each round; made if it is not there.
            Defaults to None: no file.
        verbose: 1 prints a line a round, 0 nothing. Defaults to 1.

    Attributes:
        report: a `Report` of what is gone, counted in the original; after `fit` has begun.
        rounds: a list of `Round`, over all fits of the same model.

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
    fraction: float = 0.1
    epochs_per_round: int = 1
    max_epochs_per_round: int | None = None
    criterion: Any = "l2"
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
    fuse: str | None = None
    min_units: int | Mapping[str, int] = 1
    max_layer_fraction: float | Mapping[str, float] = 1.0
    exclude: Any = ()
    round_to: int | Mapping[str, int] = 1
    seed: int | None = None
    log_dir: str | Path | None = None
    verbose: int = 1

    def __post_init__(self) -> None:
        super().__init__()
        _check_arguments(self)
        self._cutter = Cutter(
            dict(self.target) if self.target else None,
            criteria.get(self.criterion),
            Ranking(self.scope, self.debias, self.combine),
            Limits(self.min_units, self.max_layer_fraction, self.exclude, self.round_to),
            self.data,
            self.recalibration_steps,
            self.fuse,
            self.seed,
        )
        self._cutter.check_needs()
        self._judge: Judge = self._new_judge()
        self.rounds: list[Round] = []
        self._begun: Progress | None = None

    @property
    def report(self) -> Report:
        """What is gone so far, counted in the model that pruning began with."""
        done, graph = self._progress, self._progress.graph
        name, notes = self.model.name, self._missed + graph.notes
        return Report(name, done.plan, done.original, graph.cost, graph.fixed, notes)

    @property
    def _missed(self) -> tuple[str, ...]:
        """What the report says of a target that is not reached."""
        why = "fit had no epochs left for another round, and the next fit goes on from here"
        if self._finished:
            why = f"no further cut held the bound of {self.monitor}"
        return missed(self.target, self._progress.original, self._progress.graph.cost, why)

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
        self._fit = _keras.running_fit(self.model)
        check_neighbours(self, self._fit.callbacks)
        check_alone(self.model)
        _keras.build_optimizer(self.model)
        check_optimizer(self.model, graph)
        self._cutter.check_data(self.model)
        self._check_validation()
        if self._begun is not None and self._begun.is_of(self.model, graph):
            self._begun.mark(self.model, self._begun.metric)
        else:
            self._start_over(graph)
        self._open: Round | None = None
        self._undoing = False
        self._metric = self._progress.metric
        self._write_rounds()
        self._interruption = Interruption(self.model, self._abandon)
        self._interruption.begin()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._undo()
        if self._open is None and self._may_cut(epoch):
            self._begin_round(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update(
            {
                k: v
                for k, v in vars(self._progress.graph.cost).items()
                if k in _LOGGED and v is not None
            }
        )
        if not math.isfinite(logs.get("loss", 0.0)):
            self._give_up(epoch, logs["loss"])
            return
        measured = self._is_measured(epoch)
        self._metric = self._measure(logs) if measured else None
        if self._open is not None:
            self._open = replace(self._open, epochs=self._open.epochs + 1)
            if self._is_over(self._open, measured):
                self._end_round(self._open, self._metric, self._judge.accepts(self._metric))
        elif measured and self._judge.waits:
            self._judge = self._judge.started(self._metric)
            self._progress.mark(self.model, self._metric)
        elif self._judge.accepts(self._metric):
            self._progress.mark(self.model, self._metric)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._interruption.end()
        if self._open is not None:
            self._end_round(self._open, None, kept=not self._judge.judges)
        elif not self._judge.accepts(self._metric):
            self._undoing = True
        if self._undoing:
            self._undo()
            _keras.finalize(self.model)

    def _start_over(self, graph: Any) -> None:
        self._cutter.check_reachable(graph)
        self._judge = self._new_judge()
        self._step = self.fraction
        self._finished = False
        self._refused: Plan | None = None
        self.rounds = []
        self._begun = Progress(self.model, graph, self.baseline)

    def _new_judge(self) -> Judge:
        judge = Judge(self.monitor, self.mode, self.floor, self.max_drop, self.baseline)
        return judge if self.mode == "auto" else judge.directed(self.mode)

    def _check_validation(self) -> None:
        judges = self.max_drop is not None or self.floor is not None
        if judges and self._fit.runs and self._validates and self._fit.validation is None:
            raise ValueError(
                "There must be validation data to judge rounds by. Received: "
                f"monitor={self.monitor!r}, while fit has no validation_data. "
                "Pass validation_data or validation_split to fit, or monitor='loss'."
            )

    @property
    def _validates(self) -> bool:
        """Whether the metric is one of validation."""
        return self.monitor.startswith("val_")

    def _is_measured(self, epoch: int) -> bool:
        return not self._validates or self._fit.validates(epoch)

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
        judged = any(self._is_measured(end) for end in ends)
        can_end = judged if self._judge.judges else len(ends) > 0
        return can_end and not self._finished and not self._judge.waits

    def _begin_round(self, epoch: int) -> None:
        begun = time.perf_counter()
        number = len(self.rounds) + 1
        plan = self._cutter.choose(self.model, self._progress, self._step, number - 1)
        if plan.removed == 0 or plan == self._refused:
            self._finished = True
            return
        before, metric = self._progress.graph.cost, self._progress.metric
        self._cutter.cut(self.model, self._progress, plan)
        after, seconds = self._progress.graph.cost, time.perf_counter() - begun
        opened = Round(number, epoch, self._step, plan, before, after, metric, seconds)
        self._open = replace(opened, metric_cut=self._measure_cut())
        self._cut_at = time.perf_counter()

    def _measure_cut(self) -> float | None:
        if not self._validates:
            return None
        return self._fit.evaluate(self.model).get(self.monitor.removeprefix("val_"))

    def _is_over(self, opened: Round, measured: bool) -> bool:
        """Tell whether the round has come to its end."""
        if opened.epochs < self.epochs_per_round or (self._judge.judges and not measured):
            return False
        most = self.max_epochs_per_round or self.epochs_per_round
        return opened.epochs >= most or self._judge.accepts(self._metric)

    def _end_round(self, opened: Round, metric: float | None, kept: bool) -> None:
        seconds = time.perf_counter() - self._cut_at
        done = replace(opened, metric=metric, kept=kept, fine_tuning_seconds=seconds)
        self._open = None
        self.rounds.append(done)
        if kept:
            self._progress.mark(self.model, metric)
            self._finished = self._cutter.is_done(self._progress)
        else:
            self._refuse(done.plan)
        self._write_rounds()
        if self.verbose:
            print("\n" + line(done, self._progress.original, self._judge))

    def _write_rounds(self) -> None:
        if self.log_dir is not None:
            write(self.rounds, Path(self.log_dir))

    def _refuse(self, plan: Plan) -> None:
        self._undoing = True
        self._refused = plan
        self._step /= 2
        self._finished = self._step < self.min_fraction

    def _undo(self) -> None:
        """Go back to the last good state, if the present one was judged to be worse."""
        if self._undoing:
            self._undoing = False
            self._progress.go_back(self.model)

    def _give_up(self, epoch: int, loss: float) -> None:
        """End the fit at the last good state because the loss is no number."""
        if self._open is not None:
            self._end_round(self._open, None, kept=False)
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
        self._open, self._undoing = None, False
        self._progress.go_back(self.model)
        cost = self._progress.graph.cost
        left = f"{cost.neurons} neurons, {cost.params} parameters"
        print(f"\nInterrupted: the model is back at its last good state, {left}.")


def _check_arguments(given: ProgressivePruning) -> None:
    check_request(given.target, given.fraction)
    check_share("fraction", given.fraction)
    check_share("min_fraction", given.min_fraction)
    if given.target is None and given.max_drop is None and given.floor is None:
        raise ValueError(
            "Pruning must know where to stop. Received: target=None, max_drop=None, "
            'floor=None. Give target={"flops": 0.5}, max_drop=0.01, or both.'
        )
    for name in ("max_drop", "floor", "baseline"):
        check_number(name, getattr(given, name))
    if given.max_drop is not None and given.max_drop < 0:
        raise ValueError(f"`max_drop` must be at least 0. Received: max_drop={given.max_drop}.")
    if given.mode not in ("auto", "min", "max"):
        raise ValueError(
            f"`mode` must be one of ('auto', 'min', 'max'). Received: mode={given.mode!r}."
        )
    check_count("epochs_per_round", given.epochs_per_round)
    check_count("recalibration_steps", given.recalibration_steps)
    if given.max_epochs_per_round is not None:
        _check_most(given.max_epochs_per_round, given.epochs_per_round)


def _check_most(most: int, least: int) -> None:
    check_count("max_epochs_per_round", most)
    if most < least:
        raise ValueError(
            "`max_epochs_per_round` must be at least epochs_per_round. Received: "
            f"max_epochs_per_round={most}, epochs_per_round={least}."
        )
