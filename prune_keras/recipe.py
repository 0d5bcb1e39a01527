"""Recipe: prune in rounds, learn from what the model was, fine-tune for eight bits, and export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from prune_keras import _keras, atomic
from prune_keras.backups import Backup
from prune_keras.callbacks import Distillation, ProgressivePruning, QuantizationAware, Teacher
from prune_keras.exporting import export
from prune_keras.plan import Plan
from prune_keras.quantizing import Quantization, calibrate, check_model
from prune_keras.report import Report
from prune_keras.schedules import Geometric
from prune_keras.stages import Judged, Stage, check_classifier
from prune_keras.surgery import shrink
from prune_keras.tracing import trace
from prune_keras.validation import check_count

COMPARED = 32  # samples that outputs of files are compared on
INT8_RATE = 0.1  # of the highest learning rate that training had
LITERT = ("dense.tflite", "thin.tflite", "after.tflite", "aware.tflite")


@dataclass(frozen=True)
class Shrunk:
    """What a recipe came to.

    Args:
        model: the thin model, compiled as the original is; that of `thin.keras`.
        stages: the dense model, the thin one, and those in eight bits.
        report: what pruning removed, and what the stages came to.
    """

    model: Any
    stages: tuple[Stage, ...]
    report: Report

    def render(self) -> str:
        """Return the report on pruning, with the stages, as text."""
        return self.report.render()

    def __str__(self) -> str:
        return self.render()


def shrink_to(
    model: Any,
    target: Mapping[str, float],
    data: tuple[Any, Any],
    validation: tuple[Any, Any],
    folder: str | Path,
    *,
    epochs: int = 5,
    rounds: int | None = None,
    teacher: Any = "start",
    int8: bool = False,
    int8_epochs: int = 1,
    batch_size: int = 64,
    backup_dir: str | Path | Backup | None = None,
    verbose: int = 1,
) -> Shrunk:
    """Make a classifier small: prune in rounds, distil, fine-tune for eight bits, export.

    Each model is written, read back and compared, and judged on the validation samples;
    `folder` gets `dense.keras`, `thin.keras`, `stages.json`, the report on pruning as `report.json`
    and `report.html`, and LiteRT files where eight bits are asked for: of both models as they are,
    of the thin one in eight bits, and of a copy of it that was fine-tuned for them, at a tenth of
    the highest learning rate that pruning had. None of these files of an earlier call stays there.

    Args:
        model: a built model, compiled with a loss; it is not changed.
        target: what may remain; see `ProgressivePruning`.
        data: training inputs and labels, integers or one-hot.
        validation: the same, to judge by.
        folder: where files are written; made if it is not there.
        epochs: epochs with pruning, and fine-tuning after the last cut. Defaults to 5.
        rounds: number of rounds that lead to the target, one an epoch. Defaults to None: half of
            the epochs.
        teacher: a `prune_keras.callbacks.Teacher` or what its `model` may be; None for none.
            Defaults to `"start"`.
        int8: whether to go on to eight bits, in LiteRT files. Defaults to False.
        int8_epochs: epochs of fine-tuning for eight bits. Defaults to 1.
        batch_size: samples a batch. Defaults to 64.
        backup_dir: folder in which pruning is written down as it goes on, or a
            `prune_keras.callbacks.Backup`; see `ProgressivePruning`. A call that is made again
            after its process died goes on from there; fine-tuning for eight bits begins anew.
            Defaults to None: nothing is written.
        verbose: as in `fit`. Defaults to 1.

    Returns:
        A `Shrunk`.

    Raises:
        ValueError: before anything is trained, if an argument is out of range, the model is not
            compiled or no classifier of one input, labels are not of its classes, or eight bits
            are asked for where their files cannot be written.

    Example:

    >>> import keras, numpy as np, prune_keras, tempfile
    >>> x, y = np.random.default_rng(0).normal(size=(64, 4)), np.array([0, 1] * 32)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2, activation="softmax")]
    ... )
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     shrunk = prune_keras.shrink_to(
    ...         model, {"neurons": 0.5}, (x, y), (x, y), folder, epochs=2, verbose=0
    ...     )
    >>> [stage.name for stage in shrunk.stages], shrunk.report.after.neurons
    (['dense', 'thin'], 4)
    """
    for name, count in {"epochs": epochs, "int8_epochs": int8_epochs, "rounds": rounds}.items():
        if count is not None:
            check_count(name, count)
    _check(model, {"data": data, "validation": validation}, int8)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fit = {"batch_size": batch_size, "verbose": verbose}
    thin = shrink(model, Plan.everything(trace(model).widths))
    pruning = ProgressivePruning(
        target=dict(target),
        schedule=Geometric(rounds or max(1, epochs // 2)),
        teacher=teacher,
        data=data,
        backup_dir=backup_dir,
        verbose=verbose,
    )
    thin.fit(*data, validation_data=validation, epochs=epochs, callbacks=[pruning], **fit)
    judged = Judged.of(model, validation)
    for name in LITERT:  # of an earlier call, which would lie beside other models
        (folder / name).unlink(missing_ok=True)
    stages = tuple(
        judged.kept(name, each, export(each, folder / f"{name}.keras"))
        for name, each in (("dense", model), ("thin", thin))
    )
    shrunk = _written(folder, Shrunk(thin, stages, pruning.report))
    if not int8:
        return shrunk
    behind = _teacher_behind(teacher, model, pruning.report.plan)
    aware, quantization = _aware(thin, behind, data, validation, int8_epochs, fit)
    files = _in_eight_bits(model, thin, aware, quantization, data, folder)
    return _written(folder, replace(shrunk, stages=judged.interpreted(files)))


def _check(model: Any, pairs: Mapping[str, Any], int8: bool) -> None:
    for name, pair in pairs.items():
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"`{name}` must be inputs and labels. Received: {type(pair).__name__}"
                f"{f' of {len(pair)}' if isinstance(pair, tuple | list) else ''}. "
                "Pass two arrays, (x, y)."
            )
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model must be compiled, so that it can be trained. Received: "
            f"{model.name!r}, which is not. Call model.compile first."
        )
    trace(model)  # which looks into a `call` of its own
    for name, pair in pairs.items():
        check_classifier(model, name, pair)
    if int8 and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Eight bits are written in LiteRT files, by TensorFlow. Received: int8=True with "
            f"backend {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow, or leave int8 out."
        )
    if int8:
        check_model(model)


def _teacher_behind(teacher: Any, model: Any, plan: Plan) -> Teacher | None:
    """Return the teacher of a thin model as it goes on: the one that it had as it was pruned."""
    if teacher is None:
        return None
    asked = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
    if asked.model == "start":
        asked = replace(asked, model=model)
    if asked.plan is not None:
        return replace(asked, plan=asked.plan.then(plan))
    is_alike = trace(asked.model).widths == plan.widths
    return replace(asked, plan=plan) if is_alike else asked


def _aware(
    thin: Any,
    teacher: Teacher | None,
    data: tuple,
    validation: tuple,
    epochs: int,
    fit: dict[str, Any],
) -> tuple[Any, Quantization]:
    """Return a copy of a thin model that was fine-tuned for eight bits, and its scales."""
    twin = shrink(thin, Plan.everything(trace(thin).widths))
    rate = INT8_RATE * _keras.highest_rate(thin.optimizer)  # a schedule may have come to zero
    _keras.compile_like(twin, thin, rate)
    aware = QuantizationAware(np.asarray(data[0]))
    callbacks = [aware] if teacher is None else [aware, Distillation(teacher)]
    twin.fit(*data, validation_data=validation, epochs=epochs, callbacks=callbacks, **fit)
    return twin, cast(Quantization, aware.quantization)


def _in_eight_bits(
    model: Any, thin: Any, aware: Any, quantization: Quantization, data: tuple, folder: Path
) -> dict[str, Path]:
    """Write LiteRT files, and return them by name."""
    x = np.asarray(data[0])
    few = x[:COMPARED]
    wide, narrow, after, trained = (folder / name for name in LITERT)
    return {
        "dense": export(model, wide, few),
        "thin": export(thin, narrow, few),
        "thin, int8 after training": export(thin, after, few, int8=calibrate(thin, x)),
        "thin, int8 aware": export(aware, trained, few, int8=quantization),
    }


def _written(folder: Path, shrunk: Shrunk) -> Shrunk:
    """Write what a recipe came to, and return it with its stages in the report."""
    outcomes = {each.name: each.measured for each in shrunk.stages}
    told = replace(shrunk, report=shrunk.report.with_outcomes(outcomes))
    atomic.write_json(folder / "stages.json", [asdict(each) for each in told.stages])
    told.report.save(folder / "report.json")
    told.report.to_html(folder / "report.html")
    return told
