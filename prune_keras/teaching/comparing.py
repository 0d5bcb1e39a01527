"""Comparing: outputs inside of a student with those of its teacher, channel by channel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.surgery import kept_neurons
from prune_keras.teaching.losses import Attention, Features, weighted_mean
from prune_keras.teaching.masked import meaning, of_meant, without
from prune_keras.teaching.stages import calls_of, channel_axis, stage_ends
from prune_keras.teaching.teacher import Teacher
from prune_keras.tracing import trace


@dataclass(frozen=True)
class Told:
    """What is learnt of the last call of a layer in both models.

    Args:
        pair: path in the student, and path in the teacher.
        loss: from the teacher's output, the student's and weights of samples to a scalar.
    """

    pair: tuple[str, str]
    loss: Callable[[Any, Any, Any], Any]


@dataclass(frozen=True)
class Kept:
    """The channels of a teacher's output that the student has: indices along an axis, or all."""

    axis: int | None = None
    indices: np.ndarray | None = None

    def of(self, value: Any) -> Any:
        """Return a teacher's output without the channels that the student has not."""
        if self.axis is None or self.indices is None:
            return value
        return _backend.take(value, self.indices, self.axis)


@dataclass(frozen=True)
class Comparison:
    """What is compared inside of a teacher and a student.

    Args:
        weights: of `"features"` and `"attention"`, by name.
        calls: calls that are listened to, in the order they are run, by `"teacher"` and
            `"student"`.
        pairs: path in the student -> path in the teacher.
        kept: path in the teacher -> what the student has of each call's output.
        factors: what is learnt of the teacher's factors; from features of both to a loss.
    """

    weights: dict[str, float]
    calls: dict[str, list[_keras.Place]]
    pairs: dict[str, str]
    kept: dict[str, list[Kept]]
    factors: Told | None = None
    heard: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        asked: Teacher,
        teacher: Any,
        student: Any,
        plan: Plan,
        factors: Told | None = None,
    ) -> Comparison:
        """Return what is compared, for a student as a plan left it.

        Args:
            asked: what the user asked for.
            teacher: the model.
            student: the model, as it is now.
            plan: what is left of the student since training began.
            factors: what is learnt of the teacher's factors. Defaults to None: nothing.

        Raises:
            ValueError: if layers are not found, or outputs cannot be compared.
        """
        graph = trace(teacher)
        weights = {"features": asked.features, "attention": asked.attention}
        pairs = {}
        if any(weights.values()):
            pairs = asked.pairs or {path: path for path in stage_ends(teacher, graph)}
        mine, others = {*pairs}, {*pairs.values()}
        if factors is not None:
            mine, others = mine | {factors.pair[0]}, others | {factors.pair[1]}
        calls = {
            "teacher": calls_of(teacher, others, "teacher"),
            "student": calls_of(student, mine, "student"),
        }
        kept = _kept(graph, asked.plan, plan, calls["teacher"])
        made = cls(weights, calls, pairs, kept, factors)
        made._check()
        return made

    def _check(self) -> None:
        """Raise a ValueError for outputs that cannot be compared, before any step."""
        for mine, other in self.pairs.items():
            shapes = [
                [tuple(place.tensor.shape) for place in self.calls[who] if place.path == path]
                for who, path in (("student", mine), ("teacher", other))
            ]
            if len(shapes[0]) != len(shapes[1]):
                raise ValueError(
                    "Layers that are compared must be called as often in both models. Received: "
                    f"{mine!r}, called {len(shapes[0])} times, and the teacher's {other!r}, "
                    f"called {len(shapes[1])} times. Name others in Teacher(layers=...)."
                )
            for kept, student, teacher in zip(self.kept[other], *shapes, strict=True):
                self._check_shapes(mine, student, teacher, kept)

    def _check_shapes(self, path: str, student: tuple, teacher: tuple, kept: Kept) -> None:
        left = list(teacher)
        if kept.axis is not None and kept.indices is not None:
            left[kept.axis] = len(kept.indices)
        if self.weights["features"] and list(student) != left:
            raise ValueError(
                "Features must have the channels that the student is known to have kept. "
                f"Received: {path!r} of shape {student}, for a teacher's of {teacher}, of which "
                f"{tuple(left)} is left. Pass Teacher(plan=...), or attention= in its place."
            )
        if self.weights["attention"] and len(student) < 3:
            raise ValueError(
                f"Attention must be compared on maps. Received: {path!r} of shape {student}. "
                "Name layers with positions in Teacher(layers=...), or leave attention out."
            )

    @contextlib.contextmanager
    def listening(self, who: str) -> Iterator[None]:
        """Take the outputs of the calls of a model, as it is run within."""
        heard = self.heard[who] = []

        def answer(operation: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
            value = call(*args, **kwargs)
            heard.append((operation, value))
            return value

        operations = {id(place.operation): place.operation for place in self.calls[who]}
        try:
            with _keras.answering([*operations.values()], answer):
                yield
        finally:
            if who == "student":
                self.heard.clear()  # tensors of a step that is over

    def heard_of(self, who: str) -> list[Any]:
        """Return what was heard of a model, call by call.

        Raises:
            ValueError: if layers were not run as the graph says.
        """
        self._by_path(who)
        return [value for _, value in self.heard[who]]

    def hear(self, who: str, values: Sequence[Any]) -> None:
        """Take values for what the calls of a model gave."""
        calls = zip(self.calls[who], values, strict=True)
        self.heard[who] = [(place.operation, value) for place, value in calls]

    def loss(self, weights: Any = None) -> Any:
        """Return the weighted losses of what was heard of both, means over the layers compared.

        What is learnt of factors comes to it.

        Args:
            weights: of samples, `(batch,)`. Defaults to None: all alike.
        """
        teacher, student = self._by_path("teacher"), self._by_path("student")
        heard = [
            each
            for mine, other in self.pairs.items()
            for each in zip(self.kept[other], teacher[other], student[mine], strict=True)
        ]
        terms = [(w, _LOSSES[name]) for name, w in self.weights.items() if w]
        means = ((w, [weighted_mean(of(*each), weights) for each in heard]) for w, of in terms)
        loss = sum(w * sum(each) / len(each) for w, each in means)
        if self.factors is not None:
            mine, other = self.factors.pair
            loss = loss + self.factors.loss(teacher[other][-1], student[mine][-1], weights)
        return loss

    def _by_path(self, who: str) -> dict[str, list[Any]]:
        heard, calls = self.heard[who], self.calls[who]
        if [id(each) for each, _ in heard] != [id(place.operation) for place in calls]:
            names = [getattr(each, "name", "?") for each, _ in heard]
            raise ValueError(
                "Layers that are compared must be run as the graph says. Received: calls of "
                f"{names} of the {who}, where {[p.path for p in calls]} were to be run. Name "
                "layers that are called once in Teacher(layers=...)."
            )
        found: dict[str, list[Any]] = {place.path: [] for place in calls}
        for place, (_, value) in zip(calls, heard, strict=True):
            found[place.path].append(value)
        return found


def _features(kept: Kept, told: Any, said: Any) -> Any:
    meant = meaning(said, kept.axis)
    told, said = (without(each, meant) for each in (kept.of(told), said))
    return Features(reduction=None)(told, said)


def _attention(kept: Kept, told: Any, said: Any) -> Any:
    axis, meant = -1 if kept.axis is None else kept.axis, meaning(said, kept.axis)
    told, said = (without(each, meant) for each in (told, said))
    return of_meant(Attention((axis, axis), reduction=None)(told, said), meant)


_LOSSES = {"features": _features, "attention": _attention}


def _kept(
    graph: Graph, first: Plan | None, since: Plan, calls: Sequence[_keras.Place]
) -> dict[str, list[Kept]]:
    """Return what a student has of each call's output, by the teacher's path."""
    records = {id(record.tensor): record for record in graph.tensors}
    plan = _whole_plan(graph, first, since)
    neurons = None if plan is None else kept_neurons(graph, plan)
    found: dict[str, list[Kept]] = {}
    for place in calls:
        record = records.get(id(place.tensor))
        axis = channel_axis(record)
        kept = Kept(axis)
        if record is not None and axis is not None and neurons is not None:
            left = neurons[record.neurons.reshape(-1)]
            kept = Kept(axis, None if left.all() else np.flatnonzero(left))
        found.setdefault(place.path, []).append(kept)
    return found


def _whole_plan(graph: Graph, first: Plan | None, since: Plan) -> Plan | None:
    """Return what the student has of the teacher; None where that is not known."""
    if first is not None:
        return first.then(since)
    return since if since.widths == graph.widths else None
