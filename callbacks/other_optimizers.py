"""Other optimizers: those of a model's own training step, whose state no cut would follow."""

from __future__ import annotations

from typing import Any

from prune_keras import _keras
from prune_keras.graph import Graph


def check_other_optimizers(model: Any, graph: Graph) -> None:
    """Raise a ValueError for an optimizer beside the compiled one, unless it trains nothing cut.

    Args:
        model: the model.
        graph: its trace.
    """
    cut = {id(weight.variable) for weight in graph.weights}
    for held in _keras.other_optimizers(model):
        weights = held.weights
        shared = [each.path for each in weights or () if id(each) in cut]
        if weights is None or shared:
            what = f", which trains {shared[0]}" if shared else ", of unknown weights"
            raise ValueError(
                "A model must be trained by the optimizer that it is compiled with alone, whose "
                f"state is cut with its weights. Received: {held.where}, a second one of type "
                f"{type(held.optimizer).__name__}{what}. Compile with "
                "keras.optimizers.MultiOptimizer, which has several; one that trains nothing of "
                "the pruned graph is let alone if it is built before fit: "
                "optimizer.build(variables)."
            )
