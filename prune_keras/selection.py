"""Selection: from scores to a plan, under limits and within a budget.

Everything here is arithmetic on arrays. Neurons are sorted by debiased score and removed from the
lowest up, in blocks of `round_to`, until the budget is met; a family that meets a limit is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from prune_keras import debias as debiasing
from prune_keras.blocks import Block, begins_of, removable, sizes_after, steps
from prune_keras.graph import Graph
from prune_keras.limits import COMBINATIONS, Limits, Ranking, budget_of, check_request, meets
from prune_keras.plan import Plan
from prune_keras.reaching import check_reachable


def select(
    graph: Graph,
    scores: Mapping[str, np.ndarray],
    target: Mapping[str, float] | None = None,
    fraction: float | None = None,
    scope: str = "global",
    debias: Any = "mean",
    combine: str = "mean",
    min_units: int | Mapping[str, int] = 1,
    max_layer_fraction: float | Mapping[str, float] = 1.0,
    exclude: Any = (),
    round_to: int | Mapping[str, int] = 1,
) -> Plan:
    """Choose the units to keep.

    Args:
        graph: the traced model.
        scores: path -> `(units,)` scores, higher = keep; one entry a producer, as `score` gives.
        target: share that may remain, at most, of one or more of `{"params", "flops", "neurons",
            "weight_bytes", "activation_bytes"}`, each in (0, 1); see `Cost`.
        fraction: share of the neurons to remove, in (0, 1). With `scope="layerwise"` it is the
            share of a layer's neurons that goes before the next layer has its turn, by default
            0.1; without a target only the first layer has one. Give `target`, `fraction` or both;
            with both, removal ends at whichever is first.
        scope: `"global"` ranks all neurons together, `"layerwise"` takes one layer after another,
            `"uniform"` takes the same fraction from all. Defaults to `"global"`.
        debias: name or function; see `prune_keras.debias`. Defaults to `"mean"`.
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
    left = graph.costs.at(_sizes_left(graph, plan))
    if fraction is None and not meets(left, budget):
        raise ValueError(
            f"The target must be reachable in the order of the scores. Received: target={target}, "
            f"while the limits leave {left.share_of(graph.cost)} where neurons of coupled layers "
            "go in that order. Loosen a limit, or give coupled layers the same round_to."
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
    values = _ranked(graph, combined, ranking)
    sizes = steps(graph, limits)
    blocks = _ordered(_blocks(combined, values, ranking, sizes, fraction, turn or 0))
    original = original or graph.widths
    if ranking.scope == "layerwise" and turn is not None:
        removed = _first_turn(graph, blocks, limits, original)
    else:
        blocks, allowed = _offered(graph, blocks, ranking.scope, fraction)
        removed = removable(graph, blocks, limits, original, allowed)
    return _plan(graph, removed[: _needed(graph, removed, budget)])


def _first_turn(graph: Graph, blocks: list[Block], limits: Limits, original) -> list[Block]:
    """Return what the first family in the order that has something to lose can lose in a turn."""
    turns: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        turn, place, _ = block.key
        if turn == 1:
            turns[int(place)].append(block)
    ways = (removable(graph, turns[p], limits, original, graph.neurons) for p in sorted(turns))
    return next((removed for removed in ways if removed), [])


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


def _ranked(graph: Graph, combined: list[np.ndarray], ranking: Ranking) -> list[np.ndarray]:
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


def _blocks(
    combined, debiased, ranking: Ranking, sizes: list[int], fraction, turn: int
) -> Iterable[Block]:
    for family, (scores, values) in enumerate(zip(combined, debiased, strict=True)):
        ranks = debiasing.rank(scores)
        ascending = np.argsort(ranks)
        begins = begins_of(len(scores), sizes[family])
        ends = [*begins[1:], len(scores)]
        means = np.add.reduceat(values[ascending], begins) / np.subtract(ends, begins)
        # Rounding must not let a block go before a lower one of its family.
        keys = [np.maximum.accumulate(means)]
        tops = ranks[ascending][np.subtract(ends, 1)]
        if ranking.scope == "uniform":
            keys = [tops]
        if ranking.scope == "layerwise":
            place = np.full(len(begins), (family - turn) % len(combined))
            keys = [np.ceil(tops / (fraction or 0.1) - 1e-9), place, *keys]
        positions = ascending.tolist()
        for begin, end, *key in zip(begins, ends, *(k.tolist() for k in keys), strict=True):
            yield Block(family, tuple(positions[begin:end]), tuple(key))


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


def _needed(graph: Graph, removed: list[Block], budget: Mapping[str, float]) -> int:
    """Return how many of the blocks must go to meet the budget, all if it is not met."""
    if not budget:
        return len(removed)
    low, high = 0, len(removed)
    while low < high:
        middle = (low + high) // 2
        if meets(graph.costs.at(sizes_after(graph, removed[:middle])), budget):
            high = middle
        else:
            low = middle + 1
    return low


def _plan(graph: Graph, removed: Iterable[Block]) -> Plan:
    gone = [graph.families[b.family].neurons[list(b.positions)] for b in removed]
    last = max((int(graph.producers[path].neurons.max()) for path in graph.widths), default=0)
    stays = np.ones(1 + last, bool)
    stays[np.concatenate([np.zeros(0, int), *gone])] = False
    kept = {path: np.flatnonzero(stays[graph.producers[path].neurons]) for path in graph.widths}
    return Plan(kept, graph.widths)


def _sizes_left(graph: Graph, plan: Plan) -> np.ndarray:
    """Return `(families,)`, the neurons that a plan leaves of each."""
    firsts = [graph.producers[family.paths[0]] for family in graph.families]
    pairs = zip(graph.families, firsts, strict=True)
    return np.array([np.isin(f.neurons, p.neurons[plan.kept[p.path]]).sum() for f, p in pairs])


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
