"""Lessons: what a student learns in each step of a `fit`, as long as that runs."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.samples.inputs import fixed_size
from prune_keras.surgery import shrink
from prune_keras.teaching.answers import Answers
from prune_keras.teaching.comparing import Comparison
from prune_keras.teaching.heeding import heeding
from prune_keras.teaching.teacher import Teacher
from prune_keras.teaching.transfer import Transfer
from prune_keras.tracing import trace
from prune_keras.unfolding import unfolded
from prune_keras.validation import agree

Planned = Callable[[], Plan]
AT_ONCE = 64  # samples that a teacher is asked for together


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
        self._model: Any = None
        self._transfer: Transfer | None = None
        self._x = self._stored = None
        self._seen: tuple[Any, Any] = (None, None)
        self._answers: Answers | None = None
        self._is_heard = False
        self._take_away: Callable[[], None] = lambda: None

    def before_fit(self, model: Any, arguments: dict[str, Any]) -> None:
        """Let batches of a `fit` tell which samples they have, if a teacher is asked once.

        Raises:
            ValueError: if the order of samples is not known.
        """
        if self.teacher.store:
            self._x = _keras.number(model, arguments)

    def meet(
        self,
        model: Any,
        graph: Graph,
        goes_on: bool = False,
        stored: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        """Get a teacher ready for a model that is at its beginning; the model stays as it is.

        Args:
            model: the student, compiled.
            graph: its trace.
            goes_on: whether an earlier fit goes on, with its teacher. Defaults to False.
            stored: what `fixed` returned where training began. Defaults to None: it begins.

        Raises:
            ValueError: if the teacher does not fit the student.
        """
        self.end()
        _check_another(model, self.teacher.model)
        if goes_on and self._model is not None:
            return
        is_start, factors = self.teacher.model == "start", self.teacher.factors
        self._model = teacher = _copy(model) if is_start else self.teacher.model
        _check_ends(model, teacher)
        _check_images(model, self.teacher)
        self._transfer = None if factors is None else Transfer(factors, teacher, model, graph)
        self._new_answers(model)  # which raises before any training, as the next one does
        self._comparison(model, Plan.everything(graph.widths))
        if stored is not None:
            _assign(self._lasting, stored, "fixed")
        elif self._transfer is not None:
            self._transfer.learn()

    def begin(self, model: Any, planned: Planned) -> None:
        """Let a model learn from the teacher that it met, from now on.

        Args:
            model: the student, compiled.
            planned: returns what is left of the model that training began with, at any time.

        Raises:
            ValueError: if the teacher does not fit the student.
        """
        self._answers, self._seen = self._new_answers(model), (None, None)
        self._is_heard = False
        comparison = self._comparison(model, planned())  # which raises before the first step
        x, self._x = self._x, None
        self._stored = self._store(comparison, x) if self.teacher.store else None
        with contextlib.ExitStack() as held:
            held.callback(_keras.carry_along(model, self._moving))
            taught = functools.partial(self._taught, model, planned)
            held.callback(_keras.surround(model, ["train_step"], taught))
            self._take_away = held.pop_all().close

    def fixed(self) -> dict[str, np.ndarray]:
        """Return what stays as it was when training began, and what it began with is gone."""
        return _numbered(self._lasting, "fixed")

    def values(self) -> dict[str, np.ndarray]:
        """Return what training changes beside the student."""
        return _numbered(self._moving, "taught")

    def resume(self, values: Mapping[str, np.ndarray]) -> None:
        """Let what training changes beside the student be what `values` returned."""
        _assign(self._moving, values, "taught")

    @property
    def _lasting(self) -> list[Any]:
        teacher = self._model.weights if self.teacher.model == "start" else []
        return [*teacher, *(self._transfer.paraphraser.weights if self._transfer else [])]

    @property
    def _moving(self) -> list[Any]:
        return [*self._transfer.variables] if self._transfer else []

    def forget(self) -> None:
        """Let go of the teacher, which the next fit meets anew, too."""
        self.end()
        self._model = self._transfer = None
        self._seen = (None, None)

    def end(self) -> None:
        """Leave the model as it is without a teacher."""
        self._stored = None
        self._take_away()
        self._take_away = lambda: None

    def _new_answers(self, model: Any) -> Answers | None:
        is_taught = self.teacher.logits
        return Answers.of(self.teacher, self._model, model) if is_taught else None

    def _comparison(self, model: Any, plan: Plan) -> Comparison | None:
        """Return what is compared inside of both, for the student as a plan left it."""
        if not self.teacher.compares:
            return None
        if self._seen[0] is not plan:
            told = None if self._transfer is None else self._transfer.told(plan)
            self._seen = plan, Comparison.of(self.teacher, self._model, model, plan, told)
        return self._seen[1]

    @contextlib.contextmanager
    def _taught(self, model: Any, planned: Planned, _: str, batch: Any) -> Iterator[Any]:
        """Let a step of the student run with what the teacher says of its batch."""
        comparison = self._comparison(model, planned())
        batch, numbers = _keras.numbers(batch)
        if self._stored is None:
            x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
            told, heard = self._ask(comparison, x)
        else:
            told, heard = tree.map_structure(
                lambda held: _backend.take(held, numbers, 0), self._stored
            )
        if comparison:
            comparison.hear("teacher", heard)
        compute = model.compute_loss

        def taught(
            x: Any = None,
            y: Any = None,
            y_pred: Any = None,
            sample_weight: Any = None,
            training: bool = True,
        ) -> Any:
            self._is_heard = True
            arguments = {"training": training} if model._compute_loss_has_training_arg else {}
            loss = compute(x, y, y_pred, sample_weight, **arguments)
            loss = self._blend(model, loss, told, y_pred, sample_weight)
            return loss + comparison.loss(_of_samples(sample_weight)) if comparison else loss

        with contextlib.ExitStack() as held:
            held.enter_context(_keras.replaced(model, "compute_loss", taught))
            if comparison:
                held.enter_context(comparison.listening("student"))
            if not self._is_heard:
                held.enter_context(heeding(model, lambda: self._is_heard))
            yield batch

    def _ask(self, comparison: Comparison | None, x: Any) -> tuple[Any, list[Any]]:
        """Return what a teacher gives, and what was heard inside of it."""
        if comparison is None:
            return _asked(self._model, x), []
        with comparison.listening("teacher"):
            told = _asked(self._model, x)
        return told, comparison.heard_of("teacher")

    def _store(self, comparison: Comparison | None, x: Any) -> Any:
        """Return what a teacher says of all samples, in their order.

        Raises:
            ValueError: if no samples were numbered.
        """
        if x is None:
            raise ValueError(
                "Outputs are stored for arrays that a `fit` of Keras is given. Received: "
                "Teacher(store=True) in a loop of another make. Leave store out."
            )
        parts = []
        count = len(tree.flatten(x)[0])
        at_once = fixed_size(_keras.graph_of(self._model).inputs) or AT_ONCE
        with _keras.passing(lambda x: self._ask(comparison, x), self._model) as ask:
            for start in range(0, count, at_once):
                some = tree.map_structure(lambda each: each[start : start + at_once], x)  # noqa: B023
                said = ask(tree.map_structure(ops.convert_to_tensor, some))
                parts.append(tree.map_structure(ops.convert_to_numpy, said))
        whole = tree.map_structure(lambda *each: np.concatenate(each), *parts)
        return tree.map_structure(ops.convert_to_tensor, whole)

    def _blend(self, model: Any, loss: Any, told: Any, y_pred: Any, sample_weight: Any) -> Any:
        """Return the loss with the teacher's outputs taking over their share of it."""
        if self._answers is None:
            return loss
        apart = self._answers.loss(model, told, y_pred, sample_weight)
        added = sum(ops.cast(ops.sum(each), loss.dtype) for each in model.losses)
        added = added + _keras.paid(model)
        return loss + self.teacher.logits * (ops.cast(apart, loss.dtype) - (loss - added))


def _of_samples(sample_weight: Any) -> Any:
    """Return `(batch,)` weights: means over positions, and over outputs; None for none."""
    given = [each for each in tree.flatten(sample_weight) if each is not None]
    rows = [ops.reshape(each, (ops.shape(each)[0], -1)) for each in given]
    means = [ops.mean(ops.cast(row, "float32"), axis=-1) for row in rows]
    return sum(means) / len(means) if means else None


def _asked(teacher: Any, x: Any) -> Any:
    """Return what a teacher gives; no gradients are taken, and nothing of it is updated."""

    def ask() -> Any:
        with keras.StatelessScope():
            told = teacher(x, training=False)
        return tree.map_structure(ops.stop_gradient, told)

    return _backend.without_gradients(ask)()


def _numbered(variables: Sequence[Any], name: str) -> dict[str, np.ndarray]:
    return {f"{name}/{n}": ops.convert_to_numpy(v.value) for n, v in enumerate(variables)}


def _assign(variables: Sequence[Any], values: Mapping[str, np.ndarray], name: str) -> None:
    for number, variable in enumerate(variables):
        value = values[f"{name}/{number}"]
        held = ops.convert_to_numpy(variable.value).dtype
        # Types that NumPy does not have, such as bfloat16, are read as bytes.
        variable.assign(value.view(held) if value.dtype.kind == "V" else value)


def _copy(model: Any) -> Any:
    """Return a model of its own that gives in inference what a model gives now."""
    with _keras.strategy_scope(model):
        if _keras.function_of(model) is None:  # whose config need not make it again
            return unfolded(model, loses=lambda layer: True)
        return shrink(model, Plan.everything(trace(model).widths))


def _check_images(model: Any, asked: Teacher) -> None:
    """Raise a ValueError if maps would be compared that are of images that only a student sees."""
    moved = [each.name for each in _keras.all_layers(model) if type(each).__name__ in _MOVING]
    if moved and asked.compares:
        raise ValueError(
            "Features, attention and factors must be of the same images in both models. Received: "
            f"{model.name!r} with {moved[0]!r}, which moves those of the student alone. Augment "
            "images in the dataset, or learn by logits."
        )


_MOVING = (
    *("RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom", "RandomCrop"),
    *("RandomShear", "RandomPerspective", "RandomElasticTransform", "CutMix", "MixUp"),
)


def _check_another(model: Any, teacher: Any) -> None:
    """Raise a ValueError for a teacher that is the student, or another model of its layers."""
    held = {id(variable) for variable in model.variables}
    taught = [] if teacher == "start" else [id(variable) for variable in teacher.variables]
    if teacher is model or (taught and held.issuperset(taught)):
        raise ValueError(
            "A model must not be its own teacher, which would learn what it learns. Received: "
            f"{model.name!r}, with the variables of the teacher. Pass 'start' for the model as it "
            "is now."
        )


def _check_ends(model: Any, teacher: Any) -> None:
    _keras.check_model(teacher)
    if _keras.graph_of(teacher) is None:
        trace(teacher)  # which looks into a `call` of its own
    for which in ("inputs", "outputs"):
        graphs = [_keras.graph_of(each) for each in (model, teacher)]
        mine, other = ([tuple(t.shape) for t in getattr(graph, which)] for graph in graphs)
        if len(mine) != len(other) or not all(map(agree, mine, other)):
            raise ValueError(
                f"A teacher must have {which} like the student's. Received: {teacher.name!r} with "
                f"{which} of shapes {other}, for {model.name!r} with {mine}. Take a teacher of "
                "the same task."
            )
