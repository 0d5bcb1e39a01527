"""Private Keras, a running `fit`: what it was given, which Keras does not tell a callback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import keras

from prune_keras._keras.undisturbed import undisturbed


@dataclass(frozen=True)
class Fit:
    """What the `fit` that runs was given.

    Args:
        callbacks: all callbacks, in their order, those in lists of Keras too; empty if no `fit`
            of Keras runs.
        validation: arguments of `evaluate` for its validation data; None if there are none.
        validation_freq: number of epochs from one validation to the next, or the numbers of the
            epochs with one, the first epoch being 1.
        batch_size: samples a batch; None if the data come in batches.
        class_weight: class -> weight of its samples; None for none.
        batches: what it takes its batches from.
        initial_epoch: the epoch, counted from 0, that it was told to begin with.
    """

    callbacks: tuple[Any, ...] = ()
    validation: dict[str, Any] | None = None
    validation_freq: Any = 1
    batch_size: int | None = None
    class_weight: dict[int, float] | None = None
    batches: Any = None
    initial_epoch: int = 0

    @property
    def runs(self) -> bool:
        """Whether a `fit` of Keras runs."""
        return bool(self.callbacks)

    def validates(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 0, ends with a validation."""
        if isinstance(self.validation_freq, int):
            return (epoch + 1) % self.validation_freq == 0
        return epoch + 1 in self.validation_freq

    def evaluate(self, model: Any) -> dict[str, float]:
        """Evaluate on the validation data now; nothing if it cannot be read a second time."""
        if self.validation is None or hasattr(self.validation["x"], "__next__"):
            return {}
        with undisturbed(model):
            logs = model.evaluate(**self.validation, verbose=0, return_dict=True)
            model.reset_metrics()
        return logs


def running_fit(model: Any) -> Fit:
    """Return what the `fit` of this model was given that called the caller."""
    for frame in _fit_frames(model, sys._getframe()):
        given = frame.f_locals
        if isinstance(given.get("callbacks"), keras.callbacks.CallbackList):
            validation = given["validation_data"] is not None
            return Fit(
                tuple(_flat(given["callbacks"])),
                _validation(given) if validation else None,
                given["validation_freq"],
                _batch_size(given),
                given["class_weight"],
                given["epoch_iterator"],
                given["initial_epoch"],
            )
    return Fit()


def _batch_size(given: dict[str, Any]) -> int | None:
    """Return what the data adapter settled on: for arrays, where `fit` was told nothing, too."""
    return given["epoch_iterator"].data_adapter.batch_size


def _flat(callbacks: Any) -> Iterator[Any]:
    for callback in callbacks.callbacks:
        if isinstance(callback, keras.callbacks.CallbackList):
            yield from _flat(callback)
        else:
            yield callback


def _validation(given: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": given["val_x"],
        "y": given["val_y"],
        "sample_weight": given["val_sample_weight"],
        "batch_size": given["validation_batch_size"] or given["batch_size"],
        "steps": given["validation_steps"],
    }


def _fit_frames(model: Any, frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        if frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model:
            yield frame
        frame = frame.f_back
