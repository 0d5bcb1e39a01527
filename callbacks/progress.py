"""Progress: what is left of a model, and the last good state to go back to."""

from __future__ import annotations

from typing import Any

from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.surgery import capture, restore, thinned
from prune_keras.tracing import trace


class Progress:
    """A model on its way to a thinner one.

    Args:
        model: a built functional or Sequential model; it is cut in place.
        graph: its trace.

    Attributes:
        graph: the trace of the model as it is now.
        original: the cost of the model at the start.
        plan: what is left, counted in the model at the start.
    """

    def __init__(self, model: Any, graph: Graph) -> None:
        self.model = model
        self.graph = graph
        self.original = graph.cost
        self.plan = Plan.everything(graph.widths)
        self.mark()

    def is_of(self, model: Any, graph: Graph) -> bool:
        """Tell whether a model is this one, with the widths that it was left with."""
        return model is self.model and graph.widths == self.graph.widths

    def cut(self, plan: Plan) -> None:
        """Cut the model in place, with its optimizer's state."""
        restore(self.model, thinned(self.model, self.graph, plan))
        self.graph = trace(self.model)
        self.plan = self.plan.then(plan)

    def mark(self) -> None:
        """Take the present state as the one to go back to."""
        self._good = capture(self.model, self.graph), self.plan

    def go_back(self) -> None:
        """Bring back the marked state: structure, weights, statistics, the optimizer's state."""
        state, plan = self._good
        restore(self.model, state)
        self.graph = trace(self.model)
        self.plan = plan
