"""Spread: how the scores of each family lie, before and after they are made comparable."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.reporting.parts import Distribution
from prune_keras.selection.scores import Ranking, combine_members, ranked
from prune_keras.surgery import kept_neurons

LEVELS = np.linspace(0, 1, 21)


def spread(
    graph: Graph, scores: Mapping[str, np.ndarray], ranking: Ranking, plan: Plan
) -> tuple[Distribution, ...]:
    """Return how scores lie that a plan was chosen by, family by family.

    Args:
        graph: the model that was scored.
        scores: path of the layer -> `(units,)` scores.
        ranking: how they are combined and made comparable.
        plan: what was chosen to be kept.
    """
    raw = combine_members(graph, scores, ranking.combine)
    debiased, kept = ranked(graph, raw, ranking), kept_neurons(graph, plan)
    return tuple(
        Distribution(
            family.name,
            family.size,
            int((~kept[family.neurons]).sum()),
            quantiles(before),
            quantiles(after),
        )
        for family, before, after in zip(graph.families, raw, debiased, strict=True)
    )


def quantiles(values: np.ndarray) -> tuple[float, ...]:
    """Return 21 quantiles, those of 0, 5, 10, ... 100 %; none of no finite values.

    Example:

    >>> quantiles(np.arange(41.0))[:3], quantiles(np.array([np.inf]))
    ((0.0, 2.0, 4.0), ())
    """
    finite = np.asarray(values, float)[np.isfinite(values)]
    return tuple(np.quantile(finite, LEVELS).tolist()) if len(finite) else ()
