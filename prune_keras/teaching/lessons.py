"""Lessons: what a student learns in each step of a `fit`, as long as that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops, tree

from prune_keras import _backend, _keras
from prune_keras.plan import Plan
from prune_keras.surgery import shrink
from prune_keras.teaching.comparing import Comparison
from prune_keras.teaching.losses import Softened
from prune_keras.teaching.outputs import activations, families, output_names
from prune_keras.teaching.teacher import Teacher
from prune_keras.tracing import trace

Planned = Callable[[], Plan]


class Lessons:
    """A teacher at work in the training steps of one model.

    The teacher is run in the compiled step, before what gradients are taken of; outputs inside of
    both models are taken as they pass. Nothing is added to the model: what stands around its
    training step is gone after `end`.

    Args:
        teacher: which model to learn from, and by what.
    """

    def __init__(self, teacher: Teacher) -> None:
        self.teacher = teacher
        self._model: Any = None if teacher.model == "start" else teacher.model
        self._seen: tuple[Any, Any] = (None, None)
        self._take_away: Callable[[], None] = lambda: None

    def begin(self, model: Any, planned: Planned, goes_on: bool = False) -> None:
        """Let a model learn from now on.

        Args:
            model: the student, compiled.
            planned: returns what is left of the model that training began with, at any time.
            goes_on: whether the teacher `"start"` is that of an earlier fit. Defaults to False.

        Raises:
            ValueError: if the teacher does not fit the student.
        """
        self.end()
        if self.teacher.model is model:
            raise ValueError(
                "A model must not be its own teacher, which would learn what it learns. Received: "
                f"{model.name!r} for both. Pass 'start' for the model as it is now."
            )
        if self.teacher.model == "start" and not (goes_on and self._model is not None):
            self._model = _copy(model)
        _check_ends(model, self._model)
        self._softened = self._losses(model)
        self._seen = (None, None)
        self._comparison(model, planned())  # which raises before the first step
        self._take_away = _keras.surround(
            model, ["train_step"], lambda _, batch: self._taught(model, planned(), batch)
        )

    def end(self) -> None:
        """Leave the model as it is without a teacher."""
        self._take_away()
        self._take_away = lambda: None

    def _losses(self, model: Any) -> list[Softened]:
        kinds = families(model, self._model, self.teacher.outputs)
        told = zip(kinds, activations(self._model), activations(model), strict=True)
        heat = self.teacher.temperature
        return [Softened(kind, (a == kind, b == kind), heat) for kind, a, b in told]

    def _comparison(self, model: Any, plan: Plan) -> Comparison | None:
        """Return what is compared inside of both, for the student as a plan left it."""
        if not self.teacher.compares:
            return None
        if self._seen[0] is not plan:
            self._seen = plan, Comparison.of(self.teacher, self._model, model, plan)
        return self._seen[1]

    @contextlib.contextmanager
    def _taught(self, model: Any, plan: Plan, batch: Any) -> Iterator[None]:
        """Let a step of the student run with what the teacher says of its batch."""
        comparison = self._comparison(model, plan)
        x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
        with comparison.listening("teacher") if comparison else contextlib.nullcontext():
            told = _asked(self._model, x)
        compute = model.compute_loss

        def taught(
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            arguments = {"training": training} if model._compute_loss_has_training_arg else {}
            loss = compute(x, y, y_pred, sample_weight, **arguments)
            loss = self._blend(model, loss, told, y_pred, sample_weight)
            return loss + comparison.loss() if comparison else loss

        with contextlib.ExitStack() as held:
            held.enter_context(_keras.replaced(model, "compute_loss", taught))
            if comparison:
                held.enter_context(comparison.listening("student"))
            yield

    def _blend(self, model: Any, loss: Any, told: Any, y_pred: Any, sample_weight: Any) -> Any:
        """Return the loss with the teacher's outputs taking over their share of it."""
        share = self.teacher.logits
        if not share:
            return loss
        outputs = zip(self._softened, tree.flatten(told), tree.flatten(y_pred), strict=True)
        weights = _weights(model, sample_weight)
        apart = sum(
            softened(teacher, student, weight)
            for (softened, teacher, student), weight in zip(outputs, weights, strict=True)
        )
        added = sum(ops.cast(ops.sum(each), loss.dtype) for each in model.losses)
        return loss + share * (ops.cast(apart, loss.dtype) - (loss - added))


def _asked(teacher: Any, x: Any) -> Any:
    """Return what a teacher gives; no gradients are taken, and nothing of it is updated."""

    def ask() -> Any:
        with keras.StatelessScope():
            told = teacher(x, training=False)
        return tree.map_structure(ops.stop_gradient, told)

    return _backend.without_gradients(ask)()


def _copy(model: Any) -> Any:
    with _keras.strategy_scope(model):
        return shrink(model, Plan.everything(trace(model).widths))


def _weights(model: Any, sample_weight: Any) -> list:
    names = output_names(model)
    if isinstance(sample_weight, dict):
        return [sample_weight.get(name) for name in names]
    flat = [sample_weight] if sample_weight is None else tree.flatten(sample_weight)
    return flat if len(flat) == len(names) else flat[:1] * len(names)


def _check_ends(model: Any, teacher: Any) -> None:
    _keras.check_model(teacher)
    if _keras.graph_of(teacher) is None:
        trace(teacher)  # which looks into a `call` of its own
    for which in ("inputs", "outputs"):
        graphs = [_keras.graph_of(each) for each in (model, teacher)]
        mine, other = ([tuple(t.shape) for t in getattr(graph, which)] for graph in graphs)
        if len(mine) != len(other) or not all(map(_alike, mine, other)):
            raise ValueError(
                f"A teacher must have {which} like the student's. Received: {teacher.name!r} with "
                f"{which} of shapes {other}, for {model.name!r} with {mine}. Take a teacher of "
                "the same task."
            )


def _alike(shape: tuple, other: tuple) -> bool:
    sizes = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(a == b or None in (a, b) for a, b in sizes)
