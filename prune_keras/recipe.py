"""Recipe: prune in rounds, learn from what the model was, fine-tune for eight bits, and export."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from prune_keras import _keras, atomic
from prune_keras.backups import Backup
from prune_keras.callbacks import Distillation, ProgressivePruning, QuantizationAware
from prune_keras.exporting import export
from prune_keras.plan import Plan
from prune_keras.quantizing import calibrate
from prune_keras.quantizing.litert import Interpreted
from prune_keras.report import Report
from prune_keras.schedules import Geometric
from prune_keras.surgery import shrink
from prune_keras.tracing import trace
from prune_keras.validation import check_count

REPEATS = 50
COMPARED = 32  # samples that outputs of files are compared on
LOOKED_AT = 2000  # samples of validation that files are judged by, one by one


@dataclass(frozen=True)
class Stage:
    """One model on the way.

    Args:
        name: what was done to it.
        accuracy: share of validation samples that its file classifies correctly.
        bytes: size of its file.
        milliseconds: median time of one sample in LiteRT's interpreter, with one thread; None where
            there is no such file.
        file: name of its file.
    """

    name: str
    accuracy: float
    bytes: int
    milliseconds: float | None
    file: str

    @property
    def measured(self) -> dict[str, float | None]:
        """What a report shows of it."""
        took = {"ms": self.milliseconds}
        return {"validation accuracy": self.accuracy, "bytes": self.bytes} | took


@dataclass(frozen=True)
class Shrunk:
    """What a recipe came to.

    Args:
        model: the thin model, compiled as the original is.
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
    and `report.html`, and LiteRT files in eight bits where they are asked for: made after training,
    and of a model that was fine-tuned for them.

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
            compiled, or eight bits are asked for where their files cannot be written.

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
    _check(model, epochs, int8_epochs, int8)
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
    stages = [
        _stage(name, each, validation, export(each, folder / f"{name}.keras"))
        for name, each in (("dense", model), ("thin", thin))
    ]
    if int8:
        stages = _in_eight_bits(model, thin, data, validation, folder, teacher, int8_epochs, fit)
    outcomes = {each.name: each.measured for each in stages}
    shrunk = Shrunk(thin, tuple(stages), pruning.report.with_outcomes(outcomes))
    atomic.write_json(folder / "stages.json", [asdict(each) for each in stages])
    shrunk.report.save(folder / "report.json")
    shrunk.report.to_html(folder / "report.html")
    return shrunk


def _check(model: Any, epochs: int, int8_epochs: int, int8: bool) -> None:
    check_count("epochs", epochs)
    check_count("int8_epochs", int8_epochs)
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model must be compiled, so that it can be trained. Received: "
            f"{model.name!r}, which is not. Call model.compile first."
        )
    if int8 and keras.backend.backend() != "tensorflow":
        raise ValueError(
            "Eight bits are written in LiteRT files, by TensorFlow. Received: int8=True with "
            f"backend {keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow, or leave int8 out."
        )


def _in_eight_bits(
    model: Any,
    thin: Any,
    data: tuple,
    validation: tuple,
    folder: Path,
    teacher: Any,
    epochs: int,
    fit: dict[str, Any],
) -> list[Stage]:
    """Return the stages as LiteRT files, after fine-tuning the thin model for eight bits."""
    x = np.asarray(data[0])
    few, grids = x[:COMPARED], calibrate(thin, x)
    files = {
        "dense": export(model, folder / "dense.tflite", few),
        "thin": export(thin, folder / "thin.tflite", few),
        "thin, int8 after training": export(thin, folder / "after.tflite", few, int8=grids),
    }
    aware = QuantizationAware(x)
    callbacks = [aware] if teacher is None else [aware, Distillation(teacher)]
    thin.fit(*data, validation_data=validation, epochs=epochs, callbacks=callbacks, **fit)
    files["thin, int8 aware"] = export(thin, folder / "aware.tflite", few, int8=aware.quantization)
    return _interpreted(files, validation)


def _stage(name: str, model: Any, validation: tuple, file: Path) -> Stage:
    with _keras.undisturbed(model):
        given = model.predict(validation[0], verbose=0)
    return Stage(name, _accuracy(given, validation[1]), file.stat().st_size, None, file.name)


def _interpreted(files: Mapping[str, Path], validation: tuple) -> list[Stage]:
    """Judge LiteRT files; their times are taken in turns, so that ratios are of one machine."""
    runs = {name: Interpreted(file.read_bytes()) for name, file in files.items()}
    x, y = (np.asarray(each)[:LOOKED_AT] for each in validation)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            begun = time.perf_counter()
            run(x[:1])
            times[name].append(1000 * (time.perf_counter() - begun))
    return [
        Stage(
            name,
            _accuracy(run(x), y),
            files[name].stat().st_size,
            statistics.median(times[name]),
            files[name].name,
        )
        for name, run in runs.items()
    ]


def _accuracy(given: np.ndarray, labels: Sequence | np.ndarray) -> float:
    labels = np.asarray(labels)
    if given.shape[-1] == 1:  # one class or not
        return float(np.mean((given.reshape(-1) > 0.5) == (labels.reshape(-1) > 0.5)))
    labels = labels.argmax(-1) if labels.shape[-1:] == given.shape[-1:] else labels
    return float(np.mean(given.argmax(-1).reshape(-1) == labels.reshape(-1)))
