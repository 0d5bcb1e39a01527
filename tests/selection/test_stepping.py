"""A cut in several steps, as a choice: budgets on the way, and all of it as one plan."""

import keras
import numpy as np
import pytest
from keras import layers
from networks import Recipe

import prune_keras
from prune_keras import Plan, select, trace
from prune_keras.selection.choice import sizes_left
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking
from prune_keras.selection.stepping import Request
from prune_keras.selection.targets import target_of
from prune_keras.surgery import kept_neurons

SCOPES = ("global", "per_cost", "optimal", "uniform", "layerwise")
REQUESTS = (
    {"target": {"flops": 0.5}},
    {"target": {"params": 0.6, "activation_bytes": 0.7}},
    {"target": {"neurons": 20}},
    {"fraction": 0.4},
    {"target": {"flops": 0.3}, "fraction": 0.3},
)


def model_of():
    """A residual stage, a branch whose channels are joined, and a padded shortcut."""
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", name="s")(inputs)
    y = layers.Conv2D(7, 3, padding="same", activation="relu", name="a")(x)
    x = layers.Add()([x, layers.Conv2D(8, 3, padding="same", name="b")(y)])
    y = layers.Conv2D(11, 1, name="c")(x)
    x = layers.Add()([y, keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, 3]])])
    x = layers.Concatenate()([layers.Conv2D(5, 1, name="d")(x), x])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(9, name="e")(x)))


@pytest.fixture(scope="module")
def graph():
    return trace(model_of())


def of_kept(scores, done):
    """Scores of the units that a plan leaves."""
    return {path: scores[path][kept] for path, kept in done.kept.items()}


def walked(graph, scores, steps, scope="global", debias="none", turn=None, **asked):
    """Go a cut in steps by scores that stay; return the plans on the way, and the one at once."""
    limits = {k: asked.pop(k) for k in ("min_units", "round_to", "exclude") if k in asked}
    at_once = select(graph, scores, scope=scope, debias=debias, **limits, **asked)
    target = target_of(asked.get("target"), None, graph.cost)
    turn = 0 if "target" not in asked else None
    ranking, limits = Ranking(scope, debias, "mean"), Limits(**limits)
    request = Request(graph, ranking, limits, target.budget, asked.get("fraction"), turn)
    plans = [Plan.everything(graph.widths)]

    def cut(done, plan):
        assert done == plans[-1]
        assert done.then(plan.since(done)) == plan
        plans.append(plan)

    last = request.go(at_once, steps, scores, lambda: of_kept(scores, plans[-1]), cut)
    assert last == plans[-1]
    return plans, at_once, request


def scores_of(graph, seed=0):
    rng = np.random.default_rng(seed)
    return {path: rng.gamma(1.0, size=width) for path, width in graph.widths.items()}


@pytest.mark.parametrize("scope", ["global", "uniform", "layerwise"])
@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_where_scores_stay_many_steps_come_to_what_one_does(graph, scope, asked):
    scores = scores_of(graph)
    plans, at_once, _ = walked(graph, scores, 4, scope, **asked)
    assert plans[-1] == at_once
    assert len(plans) > 2


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("asked", REQUESTS[:3], ids=str)
@pytest.mark.parametrize("limits", [{}, {"min_units": 3, "round_to": {"s": 2}, "exclude": "e"}])
def test_each_step_leaves_the_same_share(graph, scope, asked, limits):
    scores = scores_of(graph, 1)
    plans, at_once, request = walked(graph, scores, 3, scope, **limits, **asked)
    most = request.way(at_once, 3)
    for metric, end in request.budget.items():
        start = getattr(graph.cost, metric)
        ratios = np.array([m[metric] for m in most]) / [start, *(m[metric] for m in most[:-1])]
        np.testing.assert_allclose(ratios, (end / start) ** (1 / 3))
    left = [graph.costs.at(sizes_left(graph, plan)) for plan in plans]
    assert request._is_met_by(plans[-1], request.budget)
    for metric in asked["target"]:
        amounts = [getattr(cost, metric) for cost in left]
        assert amounts == sorted(amounts, reverse=True)
    if limits:
        assert min(plans[-1].new_widths.values()) >= 3
        assert plans[-1].new_widths["s"] % 2 == 0
        assert plans[-1].new_widths["e"] == 9


@pytest.mark.parametrize("scope", SCOPES)
def test_a_fraction_is_of_the_model_as_the_cut_begins(graph, scope):
    plans, at_once, _ = walked(graph, scores_of(graph, 2), 5, scope, fraction=0.4)
    gone = [graph.neurons - sizes_left(graph, plan).sum() for plan in plans]
    assert gone[-1] == graph.neurons - sizes_left(graph, at_once).sum() > 0
    assert gone == sorted(set(gone))


@pytest.mark.parametrize("debias", ["mean", "flops", "zscore", "median"])
def test_a_debias_sees_only_what_is_left(graph, debias):
    """Scores of a family are compared by those that stay, as in a model that is cut for good."""
    scores = scores_of(graph, 3)
    first = select(graph, scores, fraction=0.3, debias=debias)
    thin = prune_keras.shrink(model_of(), first)
    now = trace(thin)
    left = of_kept(scores, first)
    anew = select(now, left, target={"params": 0.6}, debias=debias)
    budget = {"params": 0.6 * now.cost.params}
    request = Request(graph, Ranking("global", debias, "mean"), Limits(), budget)
    assert request.choose(left, done=first) == first.then(anew)


def test_what_is_fixed_by_now_needs_no_scores(graph):
    scores = scores_of(graph, 4)
    kept = {p: np.arange(1 if p == "e" else w) for p, w in graph.widths.items()}
    done = Plan(kept, graph.widths)
    left = {p: s for p, s in of_kept(scores, done).items() if p != "e"}
    request = Request(graph, Ranking(), Limits(), {"neurons": 20})
    plan = request.choose(left, done=done)
    assert plan.new_widths["e"] == 1
    assert graph.costs.at(sizes_left(graph, plan)).neurons == 20


def test_a_step_that_leaves_nothing_to_do_is_left_out(graph):
    plans, at_once, _ = walked(graph, scores_of(graph), 40, target={"neurons": graph.neurons - 3})
    assert plans[-1].removed == at_once.removed
    assert len(plans) == 4


@pytest.mark.parametrize("seed", range(6))
def test_generated_networks_keep_whole_neurons_at_each_step(seed):
    model = Recipe(tuple(np.random.default_rng(seed).integers(0, 2**16, 100).tolist())).build()
    graph = trace(model)
    if graph.neurons < 8:
        pytest.skip("too small")
    scores = scores_of(graph, seed)
    for scope in SCOPES:
        plans, at_once, _ = walked(graph, scores, 3, scope, fraction=0.5)
        for plan in plans[1:]:
            kept_neurons(graph, plan)
        if scope not in ("per_cost", "optimal"):
            assert plans[-1] == at_once


def test_the_rest_of_a_plan_is_counted_in_what_is_left():
    first = Plan({"a": [0, 2, 3, 5], "b": [0]}, {"a": 6, "b": 2})
    whole = Plan({"a": [2, 5], "b": [0]}, {"a": 6, "b": 2})
    assert first.then(whole.since(first)) == whole
    assert whole.since(first, ["a"]) == Plan({"a": [1, 3]}, {"a": 4})
    with pytest.raises(ValueError, match=r"keep no units that were removed.*\[0, 3\] of 'a'"):
        first.since(whole)
    with pytest.raises(ValueError, match="fits only the model it was made for"):
        whole.since(Plan({"a": [0], "b": [0]}, {"a": 5, "b": 2}))
