"""ProgressivePruning: cut a little, fine-tune, and go on, while `model.fit` runs."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.accounting import SIZES, Cost
from prune_keras.backups import Backup, Kept
from prune_keras.callbacks.arguments import FRACTION, check_arguments, check_batches, judge_of
from prune_keras.callbacks.backing_up import BackingUp
from prune_keras.callbacks.board import check_folder
from prune_keras.callbacks.copying import Copied
from prune_keras.callbacks.distillation import lessons_of
from prune_keras.callbacks.failing import cleanly
from prune_keras.callbacks.following import Followers
from prune_keras.callbacks.judging import Judging
from prune_keras.callbacks.other_callbacks import check_files, check_other_callbacks
from prune_keras.callbacks.other_optimizers import check_other_optimizers
from prune_keras.callbacks.telling import Telling
from prune_keras.callbacks.workers import check_one_process
from prune_keras.frontier import Point, pick
from prune_keras.graph import Graph
from prune_keras.interrupts import deferred
from prune_keras.report import Report
from prune_keras.reporting.origins import call_of, origin
from prune_keras.rounds.course import Course
from prune_keras.rounds.cutter import Cutter, check_asked
from prune_keras.rounds.fine_tuning import FineTuning, Tuning
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.keeper import Keeper
from prune_keras.rounds.pace import Pace
from prune_keras.rounds.round import Round
from prune_keras.surgery import check_alone, check_optimizer
from prune_keras.text import printable
from prune_keras.tracing import trace
from prune_keras.validation import plain


@dataclass(eq=False, repr=False)
class ProgressivePruning(Copied, keras.callbacks.Callback):
    """Make the model that is being fitted physically thinner, round by round.

    A round scores every neuron, cuts the lowest in place together with the optimizer's state,
    recalibrates batch normalization if there is `data`, and fine-tunes. Rounds go on until the
    target is met. With `max_drop` or `floor`, a round that ends below the bound is undone and the
    fraction halved; pruning stops when it falls below `min_fraction`, and at the end of `fit` the
    model stands at the last good round, or at the last good epoch after it. Each epoch's logs gain
    `neurons`, `params` and `flops`, and how many rounds there were by then and what they took:
    `round`, `rolled_back` and `pruning_seconds`.

    A round is judged as an epoch ends, and undone or followed by the next cut as the next epoch
    begins, so that every callback, before or after this one, meets the model that was measured.
    Nothing is cut where no fine-tuning would follow. Undoing brings back structure, weights,
    statistics, and the optimizer's state and iteration count; learning rates that a callback set
    stay. Whatever ends `fit` early, a loss that is NaN or infinite, an error of any origin, or
    Ctrl-C, leaves the model at its last good state. In a second `fit` of the same model the
    callback goes on from where the first one ended. A copy of it begins anew.

    Another callback of the `fit` may have the methods `on_cut(round, logs=None)`, called after each
    cut, and `on_rollback(round, logs=None)`, called after a `Round`, and what followed it, was
    undone; `logs` are `neurons`, `params` and `flops` of the model as it is now.

    Args:
        target: what may remain, at most, of one or more of `{"params", "flops", "neurons",
            "weight_bytes", "activation_bytes"}`: a share in (0, 1), or a whole number above 1 for
            an amount; see `Cost`. And `"latency_ms"`, the most milliseconds, measured on this
            machine after each cut. Defaults to None: prune as far as the bound allows.
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
            to `"auto"`: `"l2"` without `data`, and with it `"reconstruction"` unless it has
            targets and the model is compiled with a loss. Then `"obs"` where the scope is
            `"optimal"`, or is `"auto"` and may be; else the mean of `"taylor"` and
            `"reconstruction"`. The report's notes tell why.
        debias: name or function; see `prune_keras.debias`. Defaults to `"auto"`: `"none"` for
            `"obs"`, whose scores compare as they are, and with `scope="optimal"`, else `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of coupled units. Defaults to
            `"mean"`.
        scope: one of `{"auto", "global", "per_cost", "optimal", "layerwise", "uniform"}`; see
            `prune_keras.select`. Defaults to `"auto"`: `"optimal"` for `"obs"`, named or by itself,
            else `"global"`. By itself, both are where `data` hold at least 256 samples with
            targets, the model is compiled with a loss, weights are fused or fitted anew, no debias
            is named, and the target is on parameters, FLOPs, bytes or latency.
        monitor: metric to judge rounds by. Defaults to `"val_accuracy"`.
        mode: one of `{"auto", "min", "max"}`; `"auto"` asks the model's metric. Defaults to
            `"auto"`.
        max_drop: how far the metric may fall behind its start, in its own units: 0.01 is one point
            of accuracy. Defaults to None: not judged by this.
        floor: the worst value of the metric allowed. Defaults to None: not judged by this.
        baseline: the metric at the start. Defaults to None: measured in a first epoch without a
            cut, if there is a `max_drop` or `floor`.
        judge: instead of `monitor`, `mode`, `max_drop`, `floor` and `baseline`, a
            `prune_keras.callbacks.Judge`, which can also count from the best metric so far, and
            let a model train before the first cut. Defaults to None.
        min_fraction: pruning ends when the fraction was halved below this. Defaults to 0.01.
        data: inputs, `(inputs, targets)` or a dataset of batches, to score and to fuse with and
            for batch normalization, whose statistics are left to training if it is None. Of
            arrays, 4,096 samples are looked at. Losses are weighted by its sample weights, or else
            by the `class_weight` of `fit`.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: that of `fit`, or 32 where `fit` is given batches.
        recalibration_steps: batches of `data` for batch normalization. Defaults to None: as many
            as hold 1,280 samples.
        fuse: one of `{"auto", "weights", "bias", "sequential", None}`: let the weights that read
            neurons that stay make up for those that go, or only the bias, for their mean; or fit
            all weights behind the cut anew, layer after layer, which takes longer and leaves a
            better model, and of which `prune_keras.repair.Refit` bounds the memory. True stands
            for `"weights"`, False for None. Defaults to `"auto"`: None without `data`, and with it
            `"sequential"` where there are at least 256 samples, else `"weights"`.
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
        verbose: 1 prints what neurons are scored by and a line a round, and shows on a terminal
            what a cut is at and for how long still; 2 prints the widths of all layers, too; 0
            nothing, unless the fit is interrupted. Defaults to 1.
        of: what shares of the target are of, for a model that was pruned before, such as the
            checkpoint of an interrupted fit: `prune_keras.cost(original)`. Defaults to None: the
            model as `fit` begins.
        steps_per_cut: in how many steps the cut of a round is made: each one scores what is left,
            cuts, and repairs, and leaves the same share of the target's metrics, or of the neurons
            where a fraction ends the round first. Takes as many times as long. Defaults to 1.
        tensorboard: folder for rounds as TensorBoard shows them: scalars, scores and widths, with
            rounds as steps. Defaults to None: `pruning` in the folder of the
            `keras.callbacks.TensorBoard` of the same `fit`; nothing, if there is none.
        teacher: a `prune_keras.callbacks.Teacher` that the model also learns from, `"start"` for
            the model as it is before the first cut, or any other model. Defaults to None: none.
        backup_dir: folder in which the run is written down as it goes on, at each epoch's end; or
            a `prune_keras.callbacks.Backup`, which can also do so within epochs. If the process
            dies, the same script goes on from there, and ends as it would have. What a fit came
            to stays there too; delete the folder to begin anew. Takes the place of
            `keras.callbacks.BackupAndRestore`. Defaults to None: no files.
        fine_tuning: a `prune_keras.callbacks.FineTuning`: whether learning rates go back after each
            cut, and whether only scales and biases are trained as `fit` ends. Defaults to None:
            all is trained, as the optimizer says.

    Attributes:
        report: a `Report` of what is gone, counted in the original; after `fit` has begun.
        rounds: a list of `Round`, over all fits of the same model.
        frontier: a list of `prune_keras.frontier.Point`: the start and what each round came to.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, the
            model or its optimizer cannot be pruned, the target is met already or cannot be reached,
            there is nothing to judge by, or another callback keeps weights of the older shape, or
            files of the model that a cut would make unreadable.

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
    debias: Any = "auto"
    combine: str = "mean"
    scope: str = "auto"
    monitor: str = "val_accuracy"
    mode: str = "auto"
    max_drop: float | None = None
    floor: float | None = None
    baseline: float | None = None
    min_fraction: float = 0.01
    data: Any = None
    data_batch_size: int | None = None
    recalibration_steps: int | None = None
    fuse: Any = "auto"
    min_units: int | Mapping[str, int] = 1
    max_layer_fraction: float | Mapping[str, float] = 1.0
    exclude: Any = ()
    round_to: int | Mapping[str, int] = 1
    seed: int | None = None
    latency_batch_size: int = 1
    keep_rounds: str | Path | None = None
    log_dir: str | Path | None = None
    verbose: int = 1
    of: Cost | None = None
    judge: Judge | None = None
    steps_per_cut: int = 1
    tensorboard: str | Path | None = None
    teacher: Any = None
    backup_dir: str | Path | Backup | None = None
    fine_tuning: FineTuning | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._asked = judge_of(self)
        check_arguments(self, self._asked)
        check_folder(self.tensorboard)
        if isinstance(self.exclude, Iterator):  # which is read more than once
            self.exclude = tuple(self.exclude)
        check_asked(self)
        self._keeper = Keeper(self.log_dir, self.keep_rounds)
        self._judging = Judging.of(self._asked, self.epochs_per_round, self.max_epochs_per_round)
        self._begun: Course | None = None
        self._followers, self._telling = Followers(), Telling(self.verbose)
        self._file_notes: tuple[str, ...] = ()
        self._tuning = Tuning(self.fine_tuning)
        self._epoch = self._cut_batch = 0
        self._runs = self._is_watched = False
        self._lessons = lessons_of(self.teacher)
        self._backup = Backup.of(self.backup_dir)
        self._backing = BackingUp(self._backup)
        self._untold: list[Round] = []

    @property
    def report(self) -> Report:
        """What is gone so far, counted in the model that pruning began with."""
        report = self._course.report(self.model.name, self.frontier, self._asked.monitor)
        training = self._telling.training(self._judging.judge, self.rounds)
        notes = report.notes + self._file_notes
        return replace(report, notes=notes, training=training, origin=origin(self._call))

    @property
    def _call(self) -> str:
        given = {each: getattr(self, each) for each in type(self).__dataclass_fields__}
        own = call_of(type(self).__name__, type(self), given)
        return f"model.fit(..., epochs={self.params.get('epochs', 1)}, callbacks=[{own}])"

    @property
    def rounds(self) -> list[Round]:
        """The rounds that are over."""
        return [] if self._begun is None else self._begun.ended

    @property
    def frontier(self) -> list[Point]:
        """What the model was at the start and what each round came to, undone ones too."""
        return self._course.frontier(self._judging.judge.start)

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
        mode = self._judging.judge.mode
        if mode == "auto" and metric is not None:
            mode = _keras.direction(self.model, self._asked.monitor)
        return pick(self.frontier, number, metric, mode, by).load()

    @property
    def _course(self) -> Course:
        if self._begun is None:
            raise ValueError(
                "There is a report once fit has begun. Received: a callback that no fit has used. "
                "Pass it to fit first."
            )
        return self._begun

    def before_fit(self, model: Any, arguments: dict[str, Any]) -> None:
        """Called by `fit` before it makes batches of its data."""
        if self._lessons is not None:
            self._lessons.before_fit(model, arguments)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._abandon()  # a loop of another make that never came to its end
        graph = trace(self.model)
        fit = _keras.running_fit(self.model)
        self._check(graph, fit)
        with self._as_before_on_error():
            self._start(graph, fit, Cutter.of(self, self.model, fit))
        self._runs = True
        self._is_watched = _keras.on_failure(self.model, self._abandon)

    @contextlib.contextmanager
    def _as_before_on_error(self) -> Iterator[None]:
        """Let a fit that is refused leave nothing that the next one would go on from."""
        before = self._begun, self._judging, self._backing
        try:
            yield
        except BaseException:
            self._begun, self._judging, self._backing = before
            raise

    def _start(self, graph: Graph, fit: _keras.Fit, cutter: Cutter) -> None:
        """Begin with the model as it stands, go on from an earlier fit, or from a backup."""
        goes_on = self._begun is not None and self._begun.is_of(self.model, graph)
        judging = self._judging.begun(self.model, self, fit, goes_on)
        _keras.start_averages(self.model)
        _keras.on_failure(self.model, self._tuning.end)
        self._tuning.begin(self.model)
        backing = BackingUp(self._backup, self._backing.number + 1)
        kept = backing.find(self, fit)
        if self._lessons is not None:
            self._lessons.meet(self.model, graph, goes_on, backing.start_of())
            backing.keep_start({} if goes_on else self._lessons.fixed())
        if goes_on:
            self._course.go_on(self.model, cutter)
        else:
            self._begun = self._new_course(graph, cutter)
        self._judging, self._backing = judging, backing
        self._telling.begin(self.tensorboard, fit.callbacks, goes_on)
        self._judging.metric, self._epoch = self._course.metric, -1
        if kept is not None:
            self._resume(kept)
        elif not goes_on:
            self._course.start(self.model)
        self._keeper.write(self.rounds, self.frontier)
        if self.verbose:
            print("\n" + "; ".join([f"Scores: {cutter.way.scoring}", *cutter.unseen]))
            print(*(f"Note: {note}\n" for note in self._file_notes), sep="", end="")
        self._followers = Followers(fit.callbacks)
        if self._lessons is not None:
            self._lessons.begin(self.model, lambda: self._course.plan)

    @cleanly
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._telling.flush()
        self._course.averages.hide(self.model)
        goes_on = self._backing.begin_epoch(self, epoch)
        self._catch_up()
        if not goes_on:
            self._undo()
            self._epoch, self._cut_batch = epoch, 0
            if not self._course.open and self._judging.may_cut(self._course, epoch, self._epochs):
                self._begin_round(epoch, 0)
        self._backing.epoch_begun()

    @cleanly
    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        every, course = self.batches_per_round, self._course
        course.averages.hide(self.model)  # if another callback had the model evaluated
        self._backing.begin_batch(self, self._epoch, batch)
        steps = self.params.get("steps")
        if self._epoch + 1 == self.params.get("epochs"):
            self._tuning.step(self.model, batch, steps)
        if every is None or not course.open or batch < self._cut_batch + every:
            return
        fits = steps is None or batch + every <= steps
        may_cut = self._judging.may_cut(course, self._epoch, self._epochs)
        if fits and not course.is_done and may_cut:
            _keras.sync(self.model)
            self._begin_round(self._epoch, batch)
            self._cut_batch = batch

    @cleanly
    def on_test_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._runs and self._is_watched:
            self._course.averages.show(self.model)

    @cleanly
    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        logs = {} if logs is None else logs
        logs.update(self._sizes)
        self._telling.epoch(logs)
        self._end_epoch(epoch, logs)
        logs.update(self._course.counts)

    def _end_epoch(self, epoch: int, logs: dict[str, Any]) -> None:
        """Judge the rounds that end with an epoch, or take it as a good state."""
        course, judging = self._course, self._judging
        if not math.isfinite(logs.get("loss", 0.0)):
            self._give_up(epoch, logs["loss"])
            return
        measured = judging.measure(self.model, epoch, logs)
        if course.open:
            course.count_epoch()
            if judging.is_over(course.open[-1], measured):
                self._end_rounds(judging.metric, judging.accepts)
        elif measured and judging.judge.waits and not judging.warms_up(course, epoch + 1):
            judging.start()
            course.mark(self.model, judging.metric)
            with course.averages.shown(self.model):
                self._keeper.keep(self.model, 0)  # as it was measured
        elif judging.holds(course, epoch):
            course.mark(self.model, judging.metric)
        if not judging.warms_up(course, epoch + 1):
            judging.see(course.metric)

    @cleanly
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._course.averages.forget()  # Keras has given them to the model for good
        if not self._backing.is_ended:
            self._end()
        self._backing.end(self)
        self._tuning.end()
        self._end_lessons()
        self._runs = False
        self._telling.close()
        self._let_go()

    def _let_go(self) -> None:
        """Hold nothing of a fit that is over, such as its data."""
        self._judging.forget()
        self._backing.forget()
        self._followers = Followers()

    def _end(self) -> None:
        if self._course.open:
            judges = self._asked.judges
            self._end_rounds(None, kept=not judges, judged=not judges)
        elif not self._judging.holds(self._course, self._epoch):
            self._course.refused = True
        if self._course.refused:
            self._undo()
            _keras.finalize(self.model)

    def to_dict(self) -> dict[str, Any]:
        """Return how far the fit that runs has come, as lists, texts and numbers."""
        told = {"course": self._course.to_dict(), "diary": self._telling.diary.to_dict()}
        told |= {"judging": self._judging.to_dict(), "tuning": self._tuning.to_dict()}
        return {**told, "at": {"epoch": self._epoch, "cut_batch": self._cut_batch}}

    def values(self) -> dict[str, Any]:
        """Return what the variables of the model, of its optimizer and beside them hold."""
        values = self._course.values(self.model)
        return values if self._lessons is None else values | self._lessons.values()

    def _resume(self, kept: Kept) -> None:
        """Come to where an earlier process wrote a backup."""
        self._course.resume(self.model, kept.state["course"], kept.values)
        if self._lessons is not None:
            self._lessons.resume(kept.values)
        self._telling.diary.resume(kept.state["diary"])
        self._judging.resume(kept.state["judging"])
        self._tuning.resume(kept.state["tuning"])
        self._epoch, self._cut_batch = (kept.state["at"][name] for name in ("epoch", "cut_batch"))
        self._untold = self._course.told
        self._backing.start(self.model)
        if self.verbose:
            left = f"{len(self.rounds)} rounds, {self._course.cost.neurons} neurons"
            print(f"\nGoes on from {printable(kept.file)}: epoch {kept.state['epoch']}, {left}")

    def _catch_up(self) -> None:
        """Tell those that follow of the cuts of an earlier process."""
        for each in self._untold:
            self._followers.cut(each, self._sizes)
        self._untold = []

    def _check(self, graph: Graph, fit: _keras.Fit) -> None:
        """Raise a ValueError, before the first batch, for what a cut would break."""
        check_one_process(self.model)
        check_other_callbacks(self, fit.callbacks)
        check_alone(self.model)
        _keras.build_optimizer(self.model)
        check_optimizer(self.model, graph)
        check_other_optimizers(self.model, graph)
        steps = self.params.get("steps")
        check_batches(self.batches_per_round, steps)
        self._tuning.check(self.model, steps, fit.callbacks)
        self._file_notes = check_files(self.model, graph, fit.callbacks, self.keep_rounds)

    def _new_course(self, graph: Graph, cutter: Cutter) -> Course:
        pace = Pace(plain(self.fraction), self.schedule)
        start, least = self._asked.start, plain(self.min_fraction)
        return Course(self.model, graph, cutter, self._keeper, pace, least, start)

    @property
    def _epochs(self) -> int:
        """How many epochs the fit has; in a loop of another make, those that have begun."""
        return self.params.get("epochs", self._epoch + 1)

    def _begin_round(self, epoch: int, batch: int) -> None:
        shown = self._course.shown = self._telling.phases(batch)
        opened = self._course.begin(self.model, epoch, batch)
        if opened is not None:
            self._followers.cut(opened, self._sizes)
            self._tuning.cut(self.model)
            with shown("judge"):
                metric = None if batch else self._judging.now(self.model, self._course)
            self._course.measured(self.model, metric)
            share = batch / (self.params.get("steps") or batch + 1)
            self._telling.cut(self._course, self._asked.monitor, share)

    def _end_rounds(self, metric: float | None, kept: bool, judged: bool = True) -> None:
        self._course.keep(self.model)
        with deferred():  # until the file tells what the model is
            ended = self._course.end(self.model, metric, kept, judged)
            self._keeper.write(self.rounds, self.frontier)
        self._telling.end(ended, self._course, self._judging.judge)

    def _give_up(self, epoch: int, loss: float) -> None:
        """End the fit at the last good state because the loss is no number."""
        if self._course.open:
            self._end_rounds(None, kept=False)
        self._course.refused = True
        self.model.stop_training = True
        warnings.warn(
            f"The loss is {loss} in epoch {epoch + 1}: training stops, and the model goes back to "
            "its last good state. Lower the learning rate or the fraction, and fit again to go on.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _undo(self) -> None:
        """Go back to the last good state, if the present one is refused."""
        goes_on = not self._asked.undo_steps
        stays = _keras.same_steps(self.model) if goes_on else contextlib.nullcontext()
        with deferred():  # until those that follow have done so
            with stays:
                undone = self._course.undo()
            self._followers.rolled_back(undone, self._sizes)

    def _abandon(self) -> None:
        """Go back to the last good state, unless fit came to its end."""
        self._end_lessons()
        self._tuning.end()
        if not self._runs:
            return
        with deferred():
            undone = self._course.abandon()
            self._runs = False
            cost = self._course.cost
            left = f"{cost.neurons} neurons, {cost.params} parameters"
            self._telling.close()
            print(f"\nInterrupted: the model is back at its last good state, {left}.")
            self._followers.rolled_back(undone, self._sizes)
            self._let_go()

    def _end_lessons(self) -> None:
        if self._lessons is not None:
            self._lessons.end()

    @property
    def _sizes(self) -> dict[str, int]:
        cost = vars(self._course.cost)
        return {name: cost[name] for name in SIZES if cost[name] is not None}


# At import: `model.fit(..., callbacks=[ProgressivePruning()])` looks up `fit` before it makes one.
_keras.watch_fits()
