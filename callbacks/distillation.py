"""Distillation: learn from another model while `model.fit` runs, without a model around both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.callbacks.copying import Copied
from prune_keras.plan import Plan
from prune_keras.teaching import Lessons, Teacher
from prune_keras.tracing import trace


@dataclass(eq=False, repr=False)
class Distillation(Copied, keras.callbacks.Callback):
    """Let the model that is being fitted learn from a teacher, too.

    The training loss that is logged includes what is learnt from the teacher; validation, metrics
    and files of the model know nothing of it, and once `fit` ends, however it does, nothing of it
    is left. A step takes about as much longer as the teacher takes to predict.

    In a fit that prunes, pass the teacher to `ProgressivePruning`, which knows which channels are
    left.

    Args:
        teacher: a `prune_keras.callbacks.Teacher`, or what its `model` may be: a model, or
            `"start"`. Defaults to `"start"`.

    Raises:
        ValueError: at construction or before the first batch, if the teacher does not fit the
            model, or the fit prunes.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import Distillation, Teacher
    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.default_rng(0).normal(size=(16, 4))
    >>> teacher, student = (
    ...     keras.Sequential([keras.Input((4,)), keras.layers.Dense(units), keras.layers.Dense(2)])
    ...     for units in (8, 3)
    ... )
    >>> student.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    >>> distillation = Distillation(Teacher(teacher, logits=1.0, temperature=1.0))
    >>> history = student.fit(
    ...     x, np.eye(2)[[0, 1] * 8], epochs=20, callbacks=[distillation], verbose=0
    ... )
    >>> history.history["loss"][-1] < history.history["loss"][0]
    True
    """

    teacher: Any = "start"

    def __post_init__(self) -> None:
        super().__init__()
        self._lessons = Lessons(_teacher(self.teacher))

    def before_fit(self, model: Any, arguments: dict[str, Any]) -> None:
        """Called by `fit` before it makes batches of its data."""
        self._lessons.before_fit(model, arguments)

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        check_no_pruning(self)
        graph = trace(self.model)
        plan = Plan.everything(graph.widths)
        self._lessons.meet(self.model, graph)
        self._lessons.begin(self.model, lambda: plan)
        _keras.keep_values(self.model)
        _keras.on_failure(self.model, self._lessons.forget)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._lessons.forget()


def check_no_pruning(callback: Any) -> None:
    """Raise a ValueError if the fit that a callback runs in prunes, too."""
    for other in _keras.running_fit(callback.model).callbacks:
        if any(kind.__name__ == "ProgressivePruning" for kind in type(other).__mro__):
            kind = type(callback).__name__
            instead = _INSTEAD[kind]
            raise ValueError(
                f"A fit with {kind} must not prune beside it. Received: {kind} beside "
                f"{type(other).__name__}. {instead}"
            )


_INSTEAD = {
    "Distillation": "Pass the teacher as ProgressivePruning(teacher=...).",
    "QuantizationAware": "Prune in one fit, and fine-tune for eight bits in another one after it.",
}


def lessons_of(teacher: Any) -> Lessons | None:
    """Return what a model is to learn from while it is pruned; None for nothing."""
    return None if teacher is None else Lessons(_teacher(teacher))


def _teacher(given: Any) -> Teacher:
    return given if isinstance(given, Teacher) else Teacher(given)


# At import: `model.fit(..., callbacks=[Distillation()])` looks up `fit` before it makes one.
_keras.watch_fits()
