"""Choice: which units stay, as a plan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from prune_keras.accounting import Cost
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.selection.allocation import Allocation
from prune_keras.selection.blocks import (
    Block,
    blocks_of,
    first_turn,
    needed,
    offered,
    ordered,
    removable,
    steps,
)
from prune_keras.selection.feasibility import check_reachable
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import BY_COST, Ranking, combine_members, ranked
from prune_keras.selection.targets import (
    Target,
    check_reached,
    check_request,
    check_unmet,
    target_of,
)


def select(
    graph: Graph,
    scores: Mapping[str, np.ndarray],
    target: Mapping[str, float] | None = None,
    fraction: float | None = None,
    scope: str = "global",
    debias: Any = "auto",
    combine: str = "mean",
    min_units: int | Mapping[str, int] = 1,
    max_layer_fraction: float | Mapping[str, float] = 1.0,
    exclude: Any = (),
    round_to: int | Mapping[str, int] = 1,
    of: Cost | None = None,
    running: bool = False,
) -> Plan:
    """Choose the units to keep.

    Args:
        graph: the traced model.
        scores: path -> `(units,)` scores, higher = keep; one entry a producer, as `score` gives.
        target: what may remain, at most, of one or more of `{"params", "flops", "neurons",
            "weight_bytes", "activation_bytes"}`: a share in (0, 1), or a whole number above 1 for
            an amount; see `Cost`.
        fraction: share of the neurons to remove, in (0, 1). With `scope="layerwise"` it is the
            share of a layer's neurons that goes before the next layer has its turn, by default
            0.1; without a target only the first layer has one. Give `target`, `fraction` or both;
            with both, removal ends at whichever is first.
        scope: `"global"` ranks all neurons together, `"per_cost"` does so by score over what goes
            of the target's metrics with a neuron, `"optimal"` searches the widths that meet the
            target for the least sum of scores that go, `"layerwise"` takes one layer after another,
            `"uniform"` takes the same fraction from all. Sums and ratios say something of scores
            alone that are parts of one loss, so that those of different layers compare: `"oracle"`,
            `"taylor"` and `"taylor_weights"` with `debias="none"`, or a measured
            `prune_keras.sensitivity` as the debias. Defaults to `"global"`.
        debias: name or function; see `prune_keras.debias`. Defaults to `"auto"`: `"none"` for
            `running` scores and with `scope="optimal"`, else `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`. Defaults to `"mean"`.
        min_units: see `prune`, as for the next three.
        max_layer_fraction: share of its units that a layer loses at most.
        exclude: layers that keep all units.
        round_to: multiples of this many are kept.
        of: what shares are of, for a model that was pruned before: `prune_keras.cost(original)`,
            or `report.before`. Defaults to None: the model's own cost.
        running: whether scores are what a family has lost once a neuron is gone, the ones before it
            included, and not what is lost with it; see `criteria.Criterion`. Defaults to False.

    Returns:
        A `Plan` that removes at least one neuron.

    Raises:
        ValueError: if an argument is out of range, the target is met already or cannot be reached,
            or nothing would be removed.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> graph = prune_keras.trace(model)
    >>> prune_keras.select(graph, {"a": np.array([0.3, 0.1, 0.2])}, fraction=0.4).kept
    {'a': array([0, 2])}
    """
    if not isinstance(graph, Graph):
        raise ValueError(
            "`graph` must be a traced model. Received: an argument of type "
            f"{type(graph).__name__}. Pass prune_keras.trace(model)."
        )
    check_request(target, fraction, of)
    ranking = Ranking(scope, debias, combine, running)
    limits = Limits(min_units, max_layer_fraction, exclude, round_to)
    goal = target_of(target, of, graph.cost)
    return plan_for(graph, scores, ranking, limits, goal, fraction)


def plan_for(
    graph: Graph,
    scores: Mapping[str, np.ndarray],
    ranking: Ranking,
    limits: Limits,
    goal: Target,
    fraction: float | None,
) -> Plan:
    """Choose with the checks of `select`, whose arguments these are; without a target, in turns."""
    check_reachable(graph, limits, goal)
    check_unmet(goal, graph.cost)
    turn = None if goal.asked else 0
    plan = choose(graph, scores, ranking, limits, goal.budget, fraction, turn)
    if plan.removed == 0:
        raise ValueError(
            "A plan must remove at least one neuron. Received: "
            f"fraction={fraction}, target={dict(goal.asked) or None} for {graph.neurons} neurons, "
            f"of which none may go under {limits}. Ask for more, or loosen a limit."
        )
    left = graph.costs.at(sizes_left(graph, plan))
    if fraction is None:
        check_reached(goal, left)
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
    done: Plan | None = None,
) -> Plan:
    """Choose without the checks of `select`; the plan may remove nothing.

    Args:
        budget: metric -> the most that may remain, absolute; empty for no budget.
        turn: with `scope="layerwise"`, cut one family only: this one, or the first one after it
            that has something to lose. Defaults to None: one family after another.
        original: path -> width that `max_layer_fraction` counts from. Defaults to the graph's.
        done: what is gone by now of the model that the graph is of; it goes first, and counts in
            all that is asked for. Scores are those of the units that are left then. Defaults to
            None: nothing.
    """
    combined = combine_members(graph, scores, ranking.combine, done)
    values = ranked(graph, combined, ranking)
    sizes = steps(graph, limits)
    blocks = ordered(
        blocks_of(graph.families, combined, values, ranking, sizes, fraction, turn or 0)
    )
    original = original or graph.widths
    if ranking.scope in BY_COST:
        case = Allocation(graph, combined, values, ranking, limits, original, budget, fraction)
        return _plan(graph, case.optimal() if ranking.scope == "optimal" else case.per_cost())
    if ranking.scope == "layerwise" and turn is not None:
        removed = first_turn(graph, blocks, limits, original)
    else:
        blocks, allowed = offered(graph, blocks, ranking.scope, fraction)
        removed = removable(graph, blocks, limits, original, allowed)
    return _plan(graph, removed[: needed(graph, removed, budget)])


def _plan(graph: Graph, removed: Iterable[Block]) -> Plan:
    gone = [graph.families[b.family].neurons[list(b.positions)] for b in removed]
    last = max((int(graph.producers[path].neurons.max()) for path in graph.widths), default=0)
    stays = np.ones(1 + last, bool)
    stays[np.concatenate([np.zeros(0, int), *gone])] = False
    kept = {path: np.flatnonzero(stays[graph.producers[path].neurons]) for path in graph.widths}
    return Plan(kept, graph.widths)


def sizes_left(graph: Graph, plan: Plan) -> np.ndarray:
    """Return `(families,)`, the neurons that a plan leaves of each."""
    firsts = [graph.producers[family.paths[0]] for family in graph.families]
    pairs = zip(graph.families, firsts, strict=True)
    return np.array([np.isin(f.neurons, p.neurons[plan.kept[p.path]]).sum() for f, p in pairs])
