"""Blocks: neurons of one family that go together, and which of them limits let go."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from prune_keras.graph import Graph
from prune_keras.limits import Limits


@dataclass(frozen=True)
class Block:
    """Neurons of one family that go together: their positions, and their place in the order."""

    family: int
    positions: tuple[int, ...]
    key: tuple[float, ...]


def begins_of(size: int, round_to: int) -> list[int]:
    """Return where the blocks of a family begin; the first one leaves a multiple of `round_to`."""
    return [0, *range(size % round_to or round_to, size, round_to)]


def removable(graph: Graph, blocks, limits: Limits, original, allowed: int) -> list[Block]:
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
            lost = min(_of(graph, limits, "max_layer_fraction", path), default=1.0)
            share = int(np.ceil((1 - lost) * original[path] - 1e-9))
            floors[axis] = max(floors[axis], share, *_of(graph, limits, "min_units", path))
    return floors


def steps(graph: Graph, limits: Limits) -> list[int]:
    """Return of how many neurons each family keeps a multiple."""
    return [
        math.lcm(*(step for path in f.paths for step in _of(graph, limits, "round_to", path)))
        for f in graph.families
    ]


def _of(graph: Graph, limits: Limits, name: str, path: str) -> list:
    return limits.of(name, path, type(graph.producers[path].layer).__name__)


def sizes_after(graph: Graph, removed: Iterable[Block]) -> np.ndarray:
    sizes = graph.sizes
    for block in removed:
        sizes[block.family] -= len(block.positions)
    return sizes
