"""Progress: what is left of a model, and the last good state to go back to."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.graph import Family, Graph
from prune_keras.interrupts import deferred
from prune_keras.plan import Plan
from prune_keras.rounds.averages import Averages
from prune_keras.surgery import (
    State,
    capture,
    restore,
    thinned,
    trained_variables,
    values_of,
)
from prune_keras.tracing import trace


class Families:
    """The families of a model at its start, found again in what is left of it.

    Args:
        graph: the trace of the model at its start.
    """

    def __init__(self, graph: Graph) -> None:
        owners = np.full(graph.ids, -1)
        for number, family in enumerate(graph.families):
            owners[family.neurons] = number
        self._owners = {path: owners[p.neurons] for path, p in graph.producers.items()}
        self._known = [(family.name, family.size) for family in graph.families]

    def of(self, family: Family, graph: Graph, plan: Plan) -> Family:
        """Return a family of a thin model under the name it had, with how many neurons have gone.

        Args:
            family: the family.
            graph: the thin model.
            plan: what is left of the model at its start.
        """
        path = family.paths[0]
        place = int(np.flatnonzero(graph.producers[path].neurons == family.neurons[0])[0])
        number = self._owners[path][plan.kept[path][place]] if path in plan.kept else -1
        if number < 0:  # of units that could not go before
            return family
        name, size = self._known[number]
        return replace(family, name=name, gone=max(size - family.size, 0))


class Progress:
    """How far a model has come on its way to a thinner one.

    Args:
        model: a built functional or Sequential model, at its start.
        graph: its trace.
        metric: the monitored metric at the start, if it is known.

    Attributes:
        graph: the trace of the model as it is now.
        original: the cost of the model at the start.
        start: the first point of the frontier.
        plan: what is left, counted in the model at the start.
        metric: the monitored metric of the good state; None if it is not known.
        averages: what shows the optimizer's averages in the model; a state is kept without them.
    """

    def __init__(self, model: Any, graph: Graph, metric: float | None = None) -> None:
        self._model = weakref.ref(model)
        self.averages = Averages()
        self.graph = graph
        self.original = graph.cost
        self.plan = Plan.everything(graph.widths)
        self._at_start = Families(graph)
        self.start = Point(0, True, metric, graph.cost, graph.widths)
        self.mark(model, metric)

    def is_of(self, model: Any, graph: Graph) -> bool:
        """Tell whether a model is this one, with the widths that it was left with."""
        return self._model() is model and graph.widths == self.graph.widths

    def cut(self, model: Any, plan: Plan, views: Sequence[Any] | None = None) -> None:
        """Cut the model in place, with its optimizer's state; see `surgery.restore` for `views`."""
        with deferred():
            restore(model, thinned(model, self.graph, plan), views)
            self.plan = self.plan.then(plan)
            self.graph = self._traced(model)

    def mark(self, model: Any, metric: float | None) -> None:
        """Take the present state as the good one."""
        with deferred(), self.averages.hidden(model):
            self._good = capture(model, self.graph), self.plan
            self.metric = metric

    def go_back(self, as_judged: bool = False) -> None:
        """Bring back the good state: structure, weights, statistics, the optimizer's state.

        Args:
            as_judged: whether weights become the averages that the optimizer keeps, if it keeps
                any. Defaults to False: the weights that training goes on with.
        """
        model = self._model()
        if model is None:
            return
        state, plan = self._good
        with deferred():
            self.averages.forget()
            restore(model, state)
            if as_judged:
                _keras.finalize(model)
            self.plan = plan
            self.graph = self._traced(model)

    def _traced(self, model: Any) -> Graph:
        """Trace a model, whose families go by the names that they had at the start."""
        graph = trace(model)
        families = tuple(self._at_start.of(each, graph, self.plan) for each in graph.families)
        return replace(graph, families=families)

    def to_dict(self) -> dict[str, Any]:
        """Return all but values of variables, as lists, texts and numbers."""
        plans = {"plan": self.plan.to_dict(), "good": self._good[1].to_dict()}
        start = self.start.to_dict()
        return {**plans, "metric": self.metric, "original": vars(self.original), "start": start}

    def values(self, model: Any) -> dict[str, np.ndarray]:
        """Return what variables hold, and what they held in the good state where that differs."""
        with self.averages.hidden(model):
            _keras.sync(model)
            variables = trained_variables(model)
            now = values_of(variables)
        state = self._good[0]
        good = {id(variable): value for variable, value in state.variables + state.spare}
        before = [good[id(variable)] for variable in variables]
        pairs = enumerate(zip(before, now, strict=True))
        changed = {f"good/{n}": old for n, (old, new) in pairs if not _is_same(old, new)}
        return {f"now/{n}": value for n, value in enumerate(now)} | changed

    def resume(self, model: Any, stored: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Bring a model that is at its start to where another one was.

        Args:
            model: the model.
            stored: what `to_dict` returned.
            values: what `values` returned.

        Raises:
            ValueError: if they do not fit the model.
        """
        self.start, self.original = Point.from_dict(stored["start"]), Cost(**stored["original"])
        good, plan = Plan.from_dict(stored["good"]), Plan.from_dict(stored["plan"])
        now = {n: values[f"now/{n}"] for n in range(len(trained_variables(model)))}
        with deferred():
            self._come_to(model, good, {n: values.get(f"good/{n}", v) for n, v in now.items()})
            self.mark(model, stored["metric"])
            self._come_to(model, plan, now)

    def _come_to(self, model: Any, plan: Plan, values: Mapping[int, np.ndarray]) -> None:
        step = plan.since(self.plan, self.graph.widths)
        if step.removed:
            self.cut(model, step)
        pairs = zip(trained_variables(model), values.values(), strict=True)
        restore(model, State(tuple((v, _fitting(v, value)) for v, value in pairs), ()))


def _is_same(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether arrays hold the same bits."""
    return first.shape == second.shape and first.tobytes() == second.tobytes()


def _fitting(variable: Any, value: np.ndarray) -> np.ndarray:
    """Return a value that was read as one of the variable's type."""
    held = keras.ops.convert_to_numpy(variable.value)
    # Types that NumPy does not have, such as bfloat16, are read as bytes.
    raw = value.view(held.dtype) if value.dtype.kind == "V" else value
    if raw.shape != held.shape or raw.dtype != held.dtype:
        raise ValueError(
            "The values of a backup must fit the model. Received: "
            f"{raw.dtype} of shape {raw.shape} for {variable.path}, which is {held.dtype} of shape "
            f"{held.shape}. Delete the backup to begin anew."
        )
    return raw
