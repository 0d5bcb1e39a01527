"""Stages: what models on the way to a device come to, as models and as LiteRT files."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.quantizing.litert import Interpreted
from prune_keras.teaching.outputs import activated, losses
from prune_keras.validation import agree

REPEATS = 50
LOOKED_AT = 2000  # samples that files are judged by, one by one


@dataclass(frozen=True)
class Stage:
    """One model on the way.

    Args:
        name: what was done to it.
        accuracy: share of validation samples that its file classifies correctly; LiteRT files are
            judged by 2,000 of them, evenly spaced, where there are more.
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
class Judged:
    """What models and files are judged by.

    Args:
        x: validation samples.
        y: their labels, integers or one-hot.
        least: above what a model with one output number says that its class holds.
    """

    x: np.ndarray
    y: np.ndarray
    least: float

    @classmethod
    def of(cls, model: Any, validation: tuple) -> Judged:
        """Return what a compiled classifier, and those that are made of it, are judged by."""
        gives_logits = activated(model, losses(model))[0] is False
        x, y = map(np.asarray, validation)
        return cls(x, y, 0.0 if gives_logits else 0.5)

    def kept(self, name: str, model: Any, file: Path) -> Stage:
        """Return the stage of a model that was written to a file."""
        with _keras.undisturbed(model):
            given = model.predict(self.x, verbose=0)
        return Stage(name, self.accuracy(given, self.y), file.stat().st_size, None, file.name)

    def interpreted(self, files: Mapping[str, Path]) -> tuple[Stage, ...]:
        """Return the stages of LiteRT files by name.

        Their times are taken in turns, so that ratios are of one machine.
        """
        runs = {name: Interpreted(file.read_bytes()) for name, file in files.items()}
        places = np.unique(np.linspace(0, len(self.x) - 1, LOOKED_AT).astype(int))
        x, y = self.x[places], self.y[places]
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(REPEATS):
            for name, run in runs.items():
                times[name].append(_milliseconds(run, x[:1]))
        return tuple(
            Stage(
                name,
                self.accuracy(run(x), y),
                files[name].stat().st_size,
                statistics.median(times[name]),
                files[name].name,
            )
            for name, run in runs.items()
        )

    def accuracy(self, given: np.ndarray, labels: np.ndarray) -> float:
        """Return the share of outputs that say what labels do."""
        if given.shape[-1] == 1:  # whether one class holds
            said, holds = given.reshape(-1) > self.least, labels.reshape(-1) > 0.5
            return float(np.mean(said == holds))
        is_one_hot = labels.ndim == given.ndim and labels.shape[-1] > 1
        classes = labels.argmax(-1) if is_one_hot else labels
        return float(np.mean(given.argmax(-1).reshape(-1) == classes.reshape(-1)))


def _milliseconds(run: Interpreted, x: np.ndarray) -> float:
    begun = time.perf_counter()
    run(x)
    return 1000 * (time.perf_counter() - begun)


def check_classifier(model: Any, name: str, pair: tuple) -> None:
    """Raise a ValueError for samples and labels that a model cannot be judged by.

    Args:
        model: a traced model, compiled with a loss.
        name: of the argument that they were given as.
        pair: samples and labels.
    """
    graph = _keras.graph_of(model)
    inputs, outputs = len(graph.inputs), len(graph.outputs)
    if (inputs, outputs) != (1, 1):
        raise ValueError(
            "A classifier judged by its files must have one input and one output. Received: "
            f"{model.name!r} with {inputs} and {outputs}. Use ProgressivePruning in `fit`, and "
            "prune_keras.export."
        )
    x, y = map(np.asarray, pair)
    samples, labels = (len(np.atleast_1d(each)) for each in (x, y))
    if samples != labels:
        raise ValueError(
            f"`{name}` must have a label for each sample. Received: {samples} samples and "
            f"{labels} labels."
        )
    _check_labels(name, y, tuple(graph.outputs[0].shape), getattr(model.loss, "ignore_class", None))


def _check_labels(name: str, labels: np.ndarray, shape: tuple, ignored: int | None) -> None:
    classes, positions = shape[-1], shape[1:-1]
    if classes > 1 and agree(labels.shape[1:], shape[1:]):  # one-hot
        return
    fits = any(agree(labels.shape[1:], (*positions, *last)) for last in ((), (1,)))
    wrong = _wrong(labels if ignored is None else labels[labels != ignored], classes)
    if not fits or len(wrong):
        what = f"integers in [0, {classes}), or one-hot," if classes > 1 else "0 or 1"
        raise ValueError(
            f"Labels of `{name}` must be {what} for outputs of shape {shape}. Received: labels of "
            f"shape {labels.shape} and type {labels.dtype}"
            f"{f', {wrong[0]!s} among them' if len(wrong) else ''}. Number the classes from 0, as "
            "many as the model has."
        )


def _wrong(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return labels that are of no class."""
    if not (np.issubdtype(labels.dtype, np.number) or labels.dtype == bool):
        return labels.reshape(-1)
    if classes == 1:  # those of hinge losses are -1 or 1, and smoothed ones between
        return labels[~(np.abs(labels) <= 1)]
    return labels[(labels < 0) | (labels >= classes) | (labels % 1 != 0)]
