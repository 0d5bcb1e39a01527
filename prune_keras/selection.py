"""Selection: from scores to a plan, under limits and within a budget.

Everything here is arithmetic on arrays. Neurons are sorted by debiased score and removed from the
lowest up, in blocks of `round_to`, until the budget is met; a family that meets a limit is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras import debias as debiasing
from prune_keras.accounting import Cost
from prune_keras.graph import Graph
from prune_keras.limits import COMBINATIONS, Limits, Ranking, budget_of, check_request, meets
from prune_keras.plan import Plan


@dataclass(frozen=True)
class Block:
    """Neurons of one family that go together: their positions, and their place in the order."""

    family: int
    positions: tuple[int, ...]
    key: tuple[float, ...]


def select(
    graph: Graph,
    scores: Mapping[str, np.ndarray],
    target: Mapping[str, float] | None = None,
    fraction: float | None = None,
    scope: str = "global",
    debias: Any = "mean",
    combine: str = "mean",
    min_units: int = 1,
    max_layer_fraction: float = 1.0,
    exclude: Any = (),
    round_to: int = 1,
) -> Plan:
    """Choose the units to keep.

    Args:
        graph: the traced model.
        scores: path -> `(units,)` scores, higher = keep; one entry a producer, as `score` gives.
        target: share that may remain, at most, of one or more of `{"params", "flops",
            "neurons"}`, each in (0, 1).
        fraction: share of the neurons to remove, in (0, 1). With `scope="layerwise"` it is the
            share of a layer's neurons that goes before the next layer has its turn, by default
            0.1; without a target only the first layer has one. Give `target`, `fraction` or both;
            with both, removal ends at whichever is first.
        scope: `"global"` ranks all neurons together, `"layerwise"` takes one layer after another,
            `"uniform"` takes the same fraction from all. Defaults to `"global"`.
        debias: one of `{"none", "mean", "l2", "zscore", "rank"}` or a function. Defaults to
            `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`. Defaults to `"mean"`.
        min_units, max_layer_fraction, exclude, round_to: see `Limits`.

    Returns:
        A `Plan` that removes at least one neuron.

    Raises:
        ValueError: if an argument is out of range, the target cannot be reached, or nothing would
            be removed.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> graph = prune_keras.trace(model)
    >>> prune_keras.select(graph, {"a": np.array([0.3, 0.1, 0.2])}, fraction=0.4).kept
    {'a': array([0, 2])}
    """
    check_request(target, fraction)
    ranking = Ranking(scope, debias, combine)
    limits = Limits(min_units, max_layer_fraction, exclude, round_to)
    budget = budget_of(target, graph.cost)
    check_reachable(graph, limits, budget)
    turn = 0 if target is None else None
    plan = choose(graph, scores, ranking, limits, budget, fraction, turn)
    if plan.removed == 0:
        raise ValueError(
            "A plan must remove at least one neuron. Received: "
            f"fraction={fraction}, target={target} for {graph.neurons} neurons, of which none may "
            f"go under min_units={min_units}, max_layer_fraction={max_layer_fraction}, "
            f"exclude={exclude}, round_to={round_to}. Ask for more, or loosen a limit."
        )
    return plan


def choose(
    graph: Graph,
    scores: Mapping[str, np.ndarray],
    ranking: Ranking,
    limits: Limits,
    budget: Mapping[str, float],
    fraction: float | None = None,
    turn: int | None = None,
    original: Mapping[str, int] | None = None,
) -> Plan:
    """Choose without the checks of `select`; the plan may remove nothing.

    Args:
        budget: metric -> the most that may remain, absolute; empty for no budget.
        turn: with `scope="layerwise"`, cut one family only: this one, or the first one after it
            that has something to lose. Defaults to None: one family after another.
        original: path -> width that `max_layer_fraction` counts from. Defaults to the graph's.
    """
    combined = combine_members(graph, scores, ranking.combine)
    blocks = _ordered(_blocks(combined, ranking, limits.round_to, fraction, turn or 0))
    original = original or graph.widths
    if ranking.scope == "layerwise" and turn is not None:
        removed = _first_turn(graph, blocks, limits, original)
    else:
        blocks, allowed = _offered(graph, blocks, ranking.scope, fraction)
        removed = _removable(graph, blocks, limits, original, allowed)
    return _plan(graph, removed[: _needed(graph, removed, budget)])


def _first_turn(graph: Graph, blocks: list[Block], limits: Limits, original) -> list[Block]:
    """Return what the first family in the order that has something to lose can lose in a turn."""
    for place in range(len(graph.families)):
        own = [block for block in blocks if block.key[:2] == (1, place)]
        removed = _removable(graph, own, limits, original, graph.neurons)
        if removed:
            return removed
    return []


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


def _blocks(combined, ranking: Ranking, round_to: int, fraction, turn: int) -> Iterable[Block]:
    for family, scores in enumerate(combined):
        ranks = debiasing.rank(scores)
        values = ranking.debias(scores) if ranking.scope == "global" else ranks
        ascending = np.argsort(ranks)
        first = len(scores) % round_to or round_to
        cuts = range(first, len(scores), round_to)
        place = (family - turn) % len(combined)
        value = -np.inf
        for positions in np.split(ascending, cuts):
            # Rounding must not let a block go before a lower one of its family.
            value = max(value, float(values[positions].mean()))
            key: tuple[float, ...] = (value,)
            if ranking.scope == "uniform":
                key = (float(ranks[positions].max()),)
            if ranking.scope == "layerwise":
                turn_of = np.ceil(ranks[positions].max() / (fraction or 0.1) - 1e-9)
                key = (float(turn_of), place, key[0])
            yield Block(family, tuple(positions.tolist()), key)


def _ordered(blocks: Iterable[Block]) -> list[Block]:
    """Sort by key; ties stay in the order of families, and of blocks in a family."""
    return sorted(blocks, key=lambda block: block.key)


def _offered(
    graph: Graph, blocks: list[Block], scope: str, fraction: float | None
) -> tuple[list[Block], int]:
    """Return the blocks that a fraction lets go, and how many neurons of them at most.

    With `"uniform"` a layer that keeps all its units makes no other one lose more.
    """
    if fraction is None or scope == "layerwise":
        return blocks, graph.neurons
    if scope == "uniform":
        return [b for b in blocks if b.key[0] <= fraction + 1e-9], graph.neurons
    return blocks, int(fraction * graph.neurons + 1e-9)


def _removable(graph: Graph, blocks, limits: Limits, original, allowed: int) -> list[Block]:
    """Return the blocks to remove, in order, each within all limits when it goes."""
    costs = graph.costs
    lengths, floors = costs.lengths(graph.sizes), _floors(graph, limits, original)
    excluded = limits.excluded(graph.widths)
    closed = [bool(excluded & set(family.paths)) for family in graph.families]
    touched = [np.flatnonzero(column) for column in costs.members.T]
    removed = []
    for block in blocks:
        family, size = block.family, len(block.positions)
        if closed[family] or size > allowed:
            continue
        axes = touched[family]
        shorter = lengths[axes] - size * costs.members[axes, family]
        if (shorter < floors[axes]).any():
            closed[family] = True
            continue
        lengths[axes] = shorter
        allowed -= size
        removed.append(block)
    return removed


def _floors(graph: Graph, limits: Limits, original: Mapping[str, int]) -> np.ndarray:
    """Return the least length of every axis, `(axes,)`."""
    floors = graph.costs.least.copy()
    for path, axis in graph.unit_axes.items():
        if path in original:
            share = int(np.ceil((1 - limits.max_layer_fraction) * original[path] - 1e-9))
            floors[axis] = max(floors[axis], limits.min_units, share)
    return floors


def _needed(graph: Graph, removed: list[Block], budget: Mapping[str, float]) -> int:
    """Return how many of the blocks must go to meet the budget, all if it is not met."""
    if not budget:
        return len(removed)
    low, high = 0, len(removed)
    while low < high:
        middle = (low + high) // 2
        if meets(graph.costs.at(_sizes_after(graph, removed[:middle])), budget):
            high = middle
        else:
            low = middle + 1
    return low


def _sizes_after(graph: Graph, removed: Iterable[Block]) -> np.ndarray:
    sizes = graph.sizes
    for block in removed:
        sizes[block.family] -= len(block.positions)
    return sizes


def _plan(graph: Graph, removed: Iterable[Block]) -> Plan:
    gone = [graph.families[b.family].neurons[list(b.positions)] for b in removed]
    neurons = np.concatenate([np.zeros(0, int), *gone])
    kept = {
        path: np.flatnonzero(~np.isin(graph.producers[path].neurons, neurons))
        for path in graph.widths
    }
    return Plan(kept, graph.widths)


def check_reachable(
    graph: Graph,
    limits: Limits,
    budget: Mapping[str, float],
    original: Mapping[str, int] | None = None,
) -> None:
    """Raise a ValueError if nothing may be pruned, or not enough to meet the budget."""
    if not graph.families:
        reasons = "; ".join(map(str, graph.fixed[:5])) or "it has no layers with units"
        raise ValueError(
            f"The model must have prunable neurons. Received: {graph.name!r}: {reasons}."
        )
    if limits.excluded(graph.widths) >= set(graph.widths):
        raise ValueError(
            "At least one layer must be left to prune. Received: "
            f"exclude={limits.exclude}, which leaves none of {list(graph.widths)}."
        )
    blocks = _ordered(
        Block(f, tuple(p.tolist()), (f,))
        for f, size in enumerate(graph.sizes)
        for p in np.split(np.arange(size), range(size % limits.round_to, size, limits.round_to))
        if len(p)
    )
    least = _removable(graph, blocks, limits, original or graph.widths, graph.neurons)
    cost = graph.costs.at(_sizes_after(graph, least))
    if not meets(cost, budget):
        raise ValueError(_unreachable(graph, cost, budget, limits))


def _unreachable(graph: Graph, least: Cost, budget: Mapping[str, float], limits: Limits) -> str:
    asked = {m: round(most / getattr(graph.cost, m), 4) for m, most in budget.items()}
    closest = {m: round(share, 4) for m, share in least.share_of(graph.cost).items() if m in asked}
    stands = "; ".join(str(fixed) for fixed in graph.fixed[:5])
    return (
        f"The target must be reachable. Received: {asked} of what the model has now, while at "
        f"least {closest} remains with {limits}. What cannot be pruned: {stands or 'nothing'}. "
        "Ask for a larger share, or loosen the limits."
    )


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
