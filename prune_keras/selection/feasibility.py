"""Feasibility: how far limits and fixed layers let a model go, and what stands in the way."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from prune_keras.accounting import Cost
from prune_keras.graph import Graph
from prune_keras.selection.blocks import Block, begins_of, removable, sizes_after, steps
from prune_keras.selection.limits import Limits
from prune_keras.selection.targets import Target

MOST_FIXED = 5  # layers that one message lists


def check_reachable(
    graph: Graph,
    limits: Limits,
    target: Target,
    original: Mapping[str, int] | None = None,
) -> None:
    """Raise a ValueError if nothing may be pruned, or not enough to meet the target."""
    if not graph.families:
        shown = [*graph.fixed[:MOST_FIXED], *graph.notes[:MOST_FIXED]]
        reasons = "; ".join(map(str, shown)) or "it has no layers with units"
        raise ValueError(
            f"The model must have prunable neurons. Received: {graph.name!r}: {reasons}."
        )
    limits.check_fits({path: type(p.layer).__name__ for path, p in graph.producers.items()})
    if limits.excluded(graph.widths) >= set(graph.widths):
        raise ValueError(
            "At least one layer must be left to prune. Received: "
            f"exclude={limits.exclude}, which leaves none of {list(graph.widths)}."
        )
    if target.asked:
        least = _least(graph, limits, original)
        if not target.is_met_by(least):
            raise ValueError(_unreachable(graph, least, target, limits, original))


def _least(graph: Graph, limits: Limits, original: Mapping[str, int] | None = None) -> Cost:
    """Return what the model costs at least, once everything is gone that may go.

    Families that share a layer may each go as far as its limit lets one of them, since which of
    them does is a matter of scores: less is possible of no metric.
    """
    removed: list[Block] = []
    for family, (size, step) in enumerate(
        zip(graph.sizes.tolist(), steps(graph, limits), strict=True)
    ):
        ends = itertools.pairwise([*begins_of(size, step), size])
        blocks = [Block(family, tuple(range(*each)), ()) for each in ends]
        removed += removable(graph, blocks, limits, original or graph.widths, graph.neurons)
    return graph.costs.at(sizes_after(graph, removed))


def _unreachable(
    graph: Graph, least: Cost, target: Target, limits: Limits, original: Mapping[str, int] | None
) -> str:
    ways = _limits_in_the_way(graph, least, limits, original, target)
    ways += [str(fixed) for fixed in graph.fixed[:MOST_FIXED]]
    more = len(graph.fixed) - MOST_FIXED
    ways += [f"{more} more, all in prune_keras.trace(model).fixed"] if more > 0 else []
    return (
        f"The target must be reachable. Received: target={target}, while the closest that can be "
        f"reached is {target.told(least)}. "
        f"In the way: {'; '.join(ways) or 'every layer keeps one unit'}. "
        "Ask for less to be removed, or loosen what is in the way."
    )


def _limits_in_the_way(
    graph: Graph, least: Cost, limits: Limits, original: Mapping[str, int] | None, target: Target
) -> list[str]:
    """Return each limit that costs something by itself, or else all of them together."""
    looser = [(text, _least(graph, each, original)) for text, each in limits.looser()]
    alone = [f"{text} (without it: {target.told(cost)})" for text, cost in looser if cost != least]
    free = _least(graph, Limits(), original)
    if alone or free == least:
        return alone
    together = " and ".join(text for text, _ in looser)
    return [f"{together} (without them: {target.told(free)})"]
