"""Scores of neurons: combined from those of their members, and made comparable by a debias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras import debias as debiasing
from prune_keras.graph import Graph
from prune_keras.plan import Plan

SCOPES = ("global", "per_cost", "optimal", "layerwise", "uniform")
BY_COST = ("per_cost", "optimal")
BY_RANK = ("layerwise", "uniform")


AUTO = "auto"
WITHOUT_ZERO = (debiasing.zscore, debiasing.minmax, debiasing.rank, debiasing.robust)
COMBINATIONS = {"mean": np.add, "sum": np.add, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class Ranking:
    """How neurons are put in order.

    Args:
        scope: one of `{"global", "per_cost", "optimal", "layerwise", "uniform"}`.
        debias: name or function; see `prune_keras.debias`. `"layerwise"` and `"uniform"` do not use
            it. Defaults to `"auto"`; see `by`.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of a neuron from its members'.
        running: whether a score is what the family has lost once the neuron is gone, those before
            it included. Where scores are summed, what is summed are their differences then.
            Defaults to False: what is lost with the neuron.
        measure: the metric that costs are counted in where there is no budget of any. Defaults to
            `"neurons"`.
    """

    scope: str = "global"
    debias: Any = AUTO
    combine: str = "mean"
    running: bool = False
    measure: str = "neurons"

    def __post_init__(self) -> None:
        if not self._is_auto:
            object.__setattr__(self, "debias", debiasing.get(self.debias))
        for name, known in (("scope", SCOPES), ("combine", tuple(COMBINATIONS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"`{name}` must be one of {known}. Received: {name}={getattr(self, name)!r}."
                )
        if self.scope in BY_COST and self.by in WITHOUT_ZERO:
            raise ValueError(
                f"scope={self.scope!r} counts what scores lose, so that one of zero must mean "
                f"nothing lost. Received: debias={self.by.__name__!r}. "
                'Pass debias="none", or scope="global".'
            )

    @property
    def _is_auto(self) -> bool:
        return isinstance(self.debias, str) and self.debias == AUTO

    @property
    def by(self) -> Any:
        """The debias as a function; `"auto"` leaves scores as they are that are parts of one loss.

        Those that run over a family are, and those whose sum is asked for have to be. Others are
        divided by their family's mean.
        """
        if not self._is_auto:
            return self.debias
        return debiasing.none if self.running or self.scope == "optimal" else debiasing.mean


def combine_members(
    graph: Graph, scores: Mapping[str, np.ndarray], how: str, done: Plan | None = None
) -> list[np.ndarray]:
    """Return the score of each neuron from those of its members, `(neurons,)` a family.

    Args:
        graph: the model.
        scores: path -> scores; of the units that are left, where some are gone.
        how: one of `{"mean", "sum", "max", "min"}`.
        done: what is gone of the model by now. Neurons that are get a score of minus infinity, so
            that they are the first to go. Defaults to None: nothing.
    """
    if done is None:
        check_scores(graph.widths, scores)
    else:
        scores = _widened(scores, done)
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


def _widened(scores: Mapping[str, np.ndarray], done: Plan) -> dict[str, np.ndarray]:
    """Return scores of all units, from those of the units that a plan keeps."""
    check_scores({p: w for p, w in done.new_widths.items() if p in scores}, scores)
    widened = {path: np.full(width, -np.inf) for path, width in done.widths.items()}
    for path, kept in done.kept.items():
        widened[path][kept] = scores.get(path, 0.0)  # without, what is left of it is fixed
    return widened


def ranked(graph: Graph, combined: list[np.ndarray], ranking: Ranking) -> list[np.ndarray]:
    """Return debiased scores, `(neurons,)` a family; ranks where families are not compared."""
    if ranking.scope in BY_RANK:
        return [debiasing.rank(scores) for scores in combined]
    debias = ranking.by
    if ranking.scope not in BY_COST:
        return debiased(graph, combined, debias)
    if isinstance(debias, debiasing.Sensitivity):
        return debiased(graph, combined, debias.parts)
    values = debiased(graph, combined, debias)
    return [_parts(each) for each in values] if ranking.running else values


def _parts(running: np.ndarray) -> np.ndarray:
    """Return what running sums are the sums of; what is gone, minus infinity, stays so."""
    parts, left = running.copy(), np.flatnonzero(np.isfinite(running))
    order = left[np.argsort(running[left], kind="stable")]
    parts[order] = np.diff(running[order], prepend=0.0)
    return parts


def debiased(graph: Graph, combined: list[np.ndarray], debias: Any) -> list[np.ndarray]:
    """Return scores that a debias has made comparable, `(neurons,)` a family."""
    left = [np.isfinite(scores) for scores in combined]
    sizes = np.array([each.sum() for each in left], int)
    found = [np.full(len(scores), -np.inf) for scores in combined]
    for values, scores, here, saving in zip(
        found, combined, left, savings(graph, sizes), strict=True
    ):
        if here.any():
            applied = debiasing.apply(debias, scores[here], saving)
            values[here] = _checked(applied, int(here.sum()), saving.family)
    return found


def _checked(applied: Any, count: int, family: str) -> np.ndarray:
    values = np.asarray(ops.convert_to_numpy(applied), float)
    if values.size != count or not np.isfinite(values).all():
        raise ValueError(
            f"A debias must return a finite number for each neuron, {count} of {family!r}. "
            f"Received: shape {values.shape}, of which {int((~np.isfinite(values)).sum())} are NaN "
            "or infinite. Where it divides, look for families whose scores are all zero."
        )
    return np.reshape(values, count)


def savings(graph: Graph, sizes: np.ndarray | None = None) -> list[debiasing.Saving]:
    """Return what goes with one neuron of each family, as the model stands or with other sizes."""
    sizes = graph.sizes if sizes is None else sizes
    found, now = [], graph.costs.at(sizes)
    for number, family in enumerate(graph.families):
        fewer = sizes.copy()
        fewer[number] -= 1
        less = graph.costs.at(fewer)
        flops = None if now.flops is None or less.flops is None else now.flops - less.flops
        found.append(debiasing.Saving(family.name, now.params - less.params, flops))
    return found


def check_scores(widths: Mapping[str, int], scores: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError unless there is one finite score a unit of every prunable layer."""
    if not isinstance(scores, Mapping):
        raise ValueError(
            "`scores` must map paths of layers to scores of their units. Received: scores of type "
            f"{type(scores).__name__}. Use prune_keras.score(model, criterion)."
        )
    for path, width in widths.items():
        if path not in scores:
            raise ValueError(
                f"`scores` must have an entry for every prunable layer. Received: {list(scores)}, "
                f"without {path!r}. Use prune_keras.score(model, criterion)."
            )
        values = np.asarray(scores[path])
        if values.dtype.kind not in "biuf":
            raise ValueError(
                f"The scores of {path!r} must be {width} finite numbers. Received: an array of "
                f"{values.dtype}. Use prune_keras.score(model, criterion)."
            )
        if values.shape != (width,) or not np.isfinite(values).all():
            raise ValueError(
                f"The scores of {path!r} must be {width} finite numbers. Received: shape "
                f"{values.shape}, {int((~np.isfinite(values)).sum())} of them not finite."
            )
