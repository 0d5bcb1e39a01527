"""Heeding: a training step that never asks for the loss, to which a teacher adds, is refused."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops


@contextlib.contextmanager
def heeding(model: Any, is_heard: Callable[[], bool]) -> Iterator[None]:
    """Refuse a step that is run, or traced, within if it did not compute the model's loss.

    Args:
        model: the student, which is then given back what the step changed.
        is_heard: tells whether `compute_loss` was called.

    Raises:
        ValueError: if it was not.
    """
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *(optimizer.variables if optimizer else [])]
    if keras.backend.backend() == "jax":  # whose steps change no variable, and find none
        variables = []
    before = [(variable, ops.copy(variable.value)) for variable in variables]
    yield
    if is_heard():
        return
    for variable, value in before:
        variable.assign(value)
    raise ValueError(
        "The training step must call `self.compute_loss`, to which a teacher adds what it says. "
        f"Received: {model.name!r}, a {type(model).__name__} with a `train_step` that did not. "
        "Call self.compute_loss(x, y, y_pred, sample_weight) there, or fit without a teacher."
    )
