"""Blocks: neurons of one family that go together, their order, and which of them limits let go."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prune_keras import debias as debiasing
from prune_keras.graph import Family, Graph
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking
from prune_keras.selection.targets import meets


@dataclass(frozen=True)
class Block:
    """Neurons of one family that go together: their positions, and their place in the order."""

    family: int
    positions: tuple[int, ...]
    key: tuple[float, ...]


def begins_of(size: int, round_to: int) -> list[int]:
    """Return where the blocks of a family begin; the first one leaves a multiple of `round_to`."""
    return [0, *range(size % round_to or round_to, size, round_to)]


def removable(
    graph: Graph, blocks: Iterable[Block], limits: Limits, original: Mapping[str, int], allowed: int
) -> list[Block]:
    """Return the blocks to remove, in order, each within all limits when it goes."""
    costs = graph.costs
    lengths, floors = costs.lengths(graph.sizes), floors_of(graph, limits, original)
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


def floors_of(graph: Graph, limits: Limits, original: Mapping[str, int]) -> np.ndarray:
    """Return the least length of every axis, `(axes,)`."""
    floors = graph.costs.least.copy()
    for path, axis in graph.unit_axes.items():
        if path in original:
            lost = min(_of(graph, limits, "max_layer_fraction", path), default=1.0)
            share = int(np.ceil((1 - lost) * original[path] - 1e-9))
            floors[axis] = max(floors[axis], share, *_of(graph, limits, "min_units", path))
    return floors


def steps(graph: Graph, limits: Limits) -> list[int]:
    """Return of how many neurons each family keeps a multiple."""
    return [
        math.lcm(f.multiple, *(n for path in f.paths for n in _of(graph, limits, "round_to", path)))
        for f in graph.families
    ]


def _of(graph: Graph, limits: Limits, name: str, path: str) -> list:
    return limits.of(name, path, type(graph.producers[path].layer).__name__, graph.producers)


def sizes_after(graph: Graph, removed: Iterable[Block]) -> np.ndarray:
    sizes = graph.sizes
    for block in removed:
        sizes[block.family] -= len(block.positions)
    return sizes


def first_turn(
    graph: Graph, blocks: list[Block], limits: Limits, original: Mapping[str, int]
) -> list[Block]:
    """Return what the first family in the order that has something to lose can lose in a turn."""
    turns: dict[int, list[Block]] = defaultdict(list)
    for block in blocks:
        turn, place, _ = block.key
        if turn == 1:
            turns[int(place)].append(block)
    ways = (removable(graph, turns[p], limits, original, graph.neurons) for p in sorted(turns))
    return next((removed for removed in ways if removed), [])


def blocks_of(
    families: Sequence[Family],
    combined: Sequence[np.ndarray],
    debiased: Sequence[np.ndarray],
    ranking: Ranking,
    sizes: list[int],
    fraction: float | None,
    turn: int,
    saved: Sequence[np.ndarray] | None = None,
) -> Iterable[Block]:
    """Yield the blocks of all families.

    Args:
        families: the families; shares of them are counted with what went in earlier rounds.
        combined, debiased: `(neurons,)` scores a family.
        ranking: how they are put in order.
        sizes: how many neurons a block of each family has.
        fraction: see `choose`.
        turn: the family whose turn is the first, with `scope="layerwise"`.
        saved: what each block saves, `(blocks,)` a family, to put blocks in order by their scores
            over it. Defaults to None: by their mean score.
    """
    for family, (scores, values) in enumerate(zip(combined, debiased, strict=True)):
        ranks = debiasing.rank(scores)
        ascending = np.argsort(ranks)
        begins = begins_of(len(scores), sizes[family])
        ends = [*begins[1:], len(scores)]
        sums = np.add.reduceat(values[ascending], begins)
        # Rounding must not let a block go before a lower one of its family.
        keys = [np.maximum.accumulate(sums / np.subtract(ends, begins))]
        if saved is not None:
            keys = [pooled(sums, saved[family])]
        gone, each = families[family].share_gone, fraction or 0.1
        tops = gone + (1 - gone) * ranks[ascending][np.subtract(ends, 1)]
        if ranking.scope == "uniform":
            keys = [tops]
        if ranking.scope == "layerwise":
            place = np.full(len(begins), (family - turn) % len(combined))
            first = max(after(gone, each), furthest(families))
            laps = 1 + np.maximum(np.ceil((tops - first) / each - 1e-9), 0)
            keys = [laps, place, *keys]
        positions = ascending.tolist()
        for begin, end, *key in zip(begins, ends, *(k.tolist() for k in keys), strict=True):
            yield Block(family, tuple(positions[begin:end]), tuple(key))


def furthest(families: Iterable[Family]) -> float:
    """Return the largest share that earlier rounds took of a family, up to which others may go."""
    return max((family.share_gone for family in families), default=0.0)


def after(gone: float, fraction: float) -> float:
    """Return the share that is gone once a fraction of what is left has followed."""
    return 1 - (1 - gone) * (1 - fraction)


def pooled(sums: np.ndarray, saved: np.ndarray) -> np.ndarray:
    """Return the sums of blocks over what they save, never falling.

    Where a block costs less than those before it, it is worth to take them together: they share
    their ratio, so that the ratios are the slopes of the lower convex hull.

    Example:

    >>> pooled(np.array([1.0, 5.0, 3.0, 9.0]), np.ones(4))
    array([1., 4., 4., 9.])
    """
    pools: list[list[float]] = []  # sum, saving, and number of blocks of each
    for block in zip(sums.tolist(), saved.tolist(), [1] * len(sums), strict=True):
        pools.append([*block])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    return np.repeat([total / saving for total, saving, _ in pools], [int(p[2]) for p in pools])


def ordered(blocks: Iterable[Block]) -> list[Block]:
    """Sort by key; ties stay in the order of families, and of blocks in a family."""
    return sorted(blocks, key=lambda block: block.key)


def offered(
    graph: Graph, blocks: list[Block], scope: str, fraction: float | None
) -> tuple[list[Block], int]:
    """Return the blocks that a fraction lets go, and how many neurons of them at most.

    With `"uniform"` a layer that keeps all its units makes no other one lose more.
    """
    if fraction is None or scope == "layerwise":
        return blocks, graph.neurons
    if scope == "uniform":
        most = after(furthest(graph.families), fraction)
        return [b for b in blocks if b.key[0] <= most + 1e-9], graph.neurons
    return blocks, int(fraction * graph.neurons + 1e-9)


def needed(graph: Graph, removed: list[Block], budget: Mapping[str, float]) -> int:
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
