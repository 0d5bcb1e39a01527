"""What `prune-keras score` tells: scores of neurons, before and after the debias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import prune_keras
from prune_keras.auto import AUTO, Scoring
from prune_keras.graph import Graph
from prune_keras.scoring import score_graph
from prune_keras.selection.scores import combine_members, ranked
from prune_keras.ways import Way

if TYPE_CHECKING:
    from prune_keras.models.records import Row

LOWEST = 0.1


@dataclass(frozen=True)
class Scored:
    """Scores of a model's units, and how its families compare.

    Args:
        criterion: what units were scored by.
        debias: what makes families comparable.
        scores: path of the layer -> `(units,)` scores.
        rows: a dictionary a family, with its median before and after the debias, and the share of
            its neurons that is among the lowest tenth of all.
    """

    criterion: str
    debias: str
    scores: dict[str, np.ndarray]
    rows: list[Row]

    def save(self, path: str | Path) -> None:
        """Write the scores to an `.npz` file, an array a layer."""
        arrays: dict = dict(self.scores)  # which no option of savez is named like
        np.savez(path, **arrays)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON holds it."""
        return {
            "criterion": self.criterion,
            "debias": self.debias,
            "families": self.rows,
            "scores": {path: values.tolist() for path, values in self.scores.items()},
        }


def scored(
    model: Any, data: Any, criterion: str = "auto", debias: str = "auto", seed: int = 0
) -> Scored:
    """Return the scores of a model's units; arguments are those of `prune_keras.prune`.

    By `"auto"` they are those for a target on FLOPs.
    """
    graph = prune_keras.trace(model)
    way = Way.of(Scoring(criterion), (AUTO, debias, "mean"), model, data, {"flops": 0.5})
    way, scores = way.scored(
        lambda each: score_graph(model, graph, each.scoring.criterion, data, seed)
    )
    ranking = replace(way.ranking, scope="global")
    before = combine_members(graph, scores, "mean")
    after = ranked(graph, before, ranking)
    return Scored(way.scoring.name, ranking.by.__name__, scores, _rows(graph, before, after))


def _rows(graph: Graph, before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> list[Row]:
    lowest = np.quantile(np.concatenate(after), LOWEST) if after else 0.0
    return [
        {
            "family": family.name,
            "neurons": family.size,
            "median": float(np.median(raw)),
            "debiased_median": float(np.median(made)),
            "debiased_lowest": float(made.min()),
            "among_the_lowest": f"{np.mean(made <= lowest):.0%}",
        }
        for family, raw, made in zip(graph.families, before, after, strict=True)
    ]
