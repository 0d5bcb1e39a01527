"""Scores of neurons: combined from those of their members, and made comparable by a debias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras import debias as debiasing
from prune_keras.graph import Graph

SCOPES = ("global", "layerwise", "uniform")


COMBINATIONS = {"mean": np.add, "sum": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Ranking:
    """How neurons are put in order.

    Args:
        scope: one of `{"global", "layerwise", "uniform"}`.
        debias: name or function; see `prune_keras.debias`. Only `"global"` uses it.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of a neuron from its members'.
    """

    scope: str = "global"
    debias: Any = "mean"
    combine: str = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "debias", debiasing.get(self.debias))
        for name, known in (("scope", SCOPES), ("combine", tuple(COMBINATIONS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {known}. Received: {name}={getattr(self, name)!r}."
                )


def combine_members(graph: Graph, scores: Mapping[str, np.ndarray], how: str) -> list[np.ndarray]:
    """Return the score of each neuron from those of its members, `(neurons,)` a family."""
    check_scores(graph, scores)
    ufunc = COMBINATIONS[how]
    size = 1 + max((int(p.neurons.max()) for p in graph.producers.values()), default=0)
    start = {"max": -np.inf, "min": np.inf}.get(how, 0.0)
    totals, counts = np.full(size, start), np.zeros(size)
    for path, producer in graph.producers.items():
        if producer.prunable.any():
            ufunc.at(totals, producer.neurons, np.asarray(scores[path], float))
            np.add.at(counts, producer.neurons, 1)
    if how == "mean":
        totals = totals / np.maximum(counts, 1)
    return [totals[family.neurons] for family in graph.families]


def ranked(graph: Graph, combined: list[np.ndarray], ranking: Ranking) -> list[np.ndarray]:
    """Return debiased scores, `(neurons,)` a family; ranks where families are not compared."""
    if ranking.scope != "global":
        return [debiasing.rank(scores) for scores in combined]
    return debiased(graph, combined, ranking.debias)


def debiased(graph: Graph, combined: list[np.ndarray], debias: Any) -> list[np.ndarray]:
    """Return scores that a debias has made comparable, `(neurons,)` a family."""
    pairs = zip(combined, savings(graph), strict=True)
    return [debiasing.apply(debias, scores, saving) for scores, saving in pairs]


def savings(graph: Graph) -> list[debiasing.Saving]:
    """Return what goes with one neuron of each family as the model stands."""
    found, now = [], graph.cost
    for number, family in enumerate(graph.families):
        sizes = graph.sizes
        sizes[number] -= 1
        less = graph.costs.at(sizes)
        flops = None if now.flops is None or less.flops is None else now.flops - less.flops
        found.append(debiasing.Saving(family.name, now.params - less.params, flops))
    return found


def check_scores(graph: Graph, scores: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError unless there is one finite score a unit of every prunable layer."""
    for path, width in graph.widths.items():
        if path not in scores:
            raise ValueError(
                f"`scores` must have an entry for every prunable layer. Received: {list(scores)}, "
                f"without {path!r}. Use prune_keras.score(model, criterion)."
            )
        values = np.asarray(scores[path])
        if values.shape != (width,) or not np.isfinite(values).all():
            raise ValueError(
                f"The scores of {path!r} must be {width} finite numbers. Received: shape "
                f"{values.shape}, {int((~np.isfinite(values)).sum())} of them not finite."
            )
