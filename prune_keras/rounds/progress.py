"""Progress: what is left of a model, and the last good state to go back to."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from prune_keras import _keras
from prune_keras.frontier import Point
from prune_keras.graph import Graph
from prune_keras.interrupts import deferred
from prune_keras.plan import Plan
from prune_keras.rounds.averages import Averages
from prune_keras.surgery import capture, restore, thinned
from prune_keras.tracing import trace


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
        self.start = Point(0, True, metric, graph.cost, graph.widths)
        self.mark(model, metric)

    def is_of(self, model: Any, graph: Graph) -> bool:
        """Tell whether a model is this one, with the widths that it was left with."""
        return self._model() is model and graph.widths == self.graph.widths

    def cut(self, model: Any, plan: Plan, views: Sequence[Any] | None = None) -> None:
        """Cut the model in place, with its optimizer's state; see `surgery.restore` for `views`."""
        with deferred():
            restore(model, thinned(model, self.graph, plan), views)
            self.graph = trace(model)
            self.plan = self.plan.then(plan)

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
            self.graph = trace(model)
            self.plan = plan
