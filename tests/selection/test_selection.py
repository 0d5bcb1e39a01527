"""Selection on hand-made scores: orders, ties, budgets, limits, and what is refused."""

import ast
import re

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import cost, select, shrink, trace
from prune_keras.selection import choose
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking, combine_members

A = np.array([6.0, 1.0, 4.0, 2.0])
B = np.array([0.3, 0.5, 0.1, 0.1, 0.2, 0.6])


@pytest.fixture(scope="module")
def graph():
    """Dense layers a and b of 4 and 6 units behind each other."""
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="a")(inputs)
    x = keras.layers.Dense(6, name="b")(x)
    return trace(keras.Model(inputs, keras.layers.Dense(2, name="out")(x)))


def kept(plan):
    return {path: indices.tolist() for path, indices in plan.kept.items()}


def test_without_debias_the_lowest_of_all_go(graph):
    plan = select(graph, {"a": A, "b": B}, fraction=0.4, debias="none")
    assert kept(plan) == {"a": [0, 1, 2, 3], "b": [1, 5]}


def test_with_debias_layers_are_compared_by_their_mean(graph):
    # a / mean is 1.85, 0.31, 1.23, 0.62; b / mean is 1, 1.67, 0.33, 0.33, 0.67, 2.
    plan = select(graph, {"a": A, "b": B}, fraction=0.3, debias="mean")
    assert kept(plan) == {"a": [0, 2, 3], "b": [0, 1, 4, 5]}


def test_ties_go_by_position(graph):
    equal = select(graph, {"a": np.ones(4), "b": np.ones(6)}, fraction=0.2, debias="none")
    assert kept(equal) == {"a": [2, 3], "b": [0, 1, 2, 3, 4, 5]}


def test_uniform_takes_the_same_fraction_of_each_layer(graph):
    plan = select(graph, {"a": A, "b": B}, fraction=0.5, scope="uniform")
    assert kept(plan) == {"a": [0, 2], "b": [0, 1, 5]}


def test_layerwise_takes_one_layer_a_round(graph):
    first = select(graph, {"a": A, "b": B}, fraction=0.5, scope="layerwise")
    assert kept(first) == {"a": [0, 2], "b": [0, 1, 2, 3, 4, 5]}
    arguments = (graph, {"a": A, "b": B}, Ranking("layerwise"), Limits(), {}, 0.5)
    assert kept(choose(*arguments, turn=1)) == {"a": [0, 1, 2, 3], "b": [0, 1, 5]}
    assert kept(choose(*arguments, turn=2)) == kept(first)


def test_layerwise_goes_on_until_the_target_is_met(graph):
    plan = select(graph, {"a": A, "b": B}, {"neurons": 0.5}, fraction=0.25, scope="layerwise")
    assert plan.new_widths == {"a": 2, "b": 3}


@pytest.mark.parametrize("metric", ["params", "flops", "neurons"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_target_is_met_and_not_overshot_by_more_than_a_neuron(graph, metric, share):
    plan = select(graph, {"a": A, "b": B}, {metric: share}, debias="none")
    order = [("b", i) for i in (2, 3, 4, 0, 1, 5)] + [("a", i) for i in (1, 3, 2, 0)]
    gone = [
        (path, i) for path in "ab" for i in range(plan.widths[path]) if i not in plan.kept[path]
    ]
    # The last unit of b stays, so that the layer does not vanish.
    expected = [unit for unit in order if unit != ("b", 5)][: len(gone)]
    assert sorted(gone) == sorted(expected)

    def remains(removed):
        widths = {p: plan.widths[p] - sum(path == p for path, _ in removed) for p in "ab"}
        return getattr(graph.costs.at([widths["a"], widths["b"]]), metric)

    budget = share * getattr(graph.cost, metric)
    assert remains(expected) <= budget < remains(expected[:-1])


def test_with_both_removal_ends_at_whichever_is_first(graph):
    scores = {"a": A, "b": B}
    assert select(graph, scores, {"neurons": 0.2}, fraction=0.1).removed == 1
    assert select(graph, scores, {"neurons": 0.8}, fraction=0.9).removed == 2


def test_limits_hold(graph):
    scores = {"a": A, "b": B}
    widths = select(graph, scores, fraction=0.8, debias="none", min_units=3).new_widths
    assert widths == {"a": 3, "b": 3}
    widths = select(graph, scores, fraction=0.8, max_layer_fraction=0.25).new_widths
    assert widths == {"a": 3, "b": 5}
    for exclude in ("b", ["b"], "[b-z]", lambda path: path == "b"):
        widths = select(graph, scores, fraction=0.3, debias="none", exclude=exclude).new_widths
        assert widths == {"a": 1, "b": 6}


def test_round_to_keeps_multiples(graph):
    widths = select(graph, {"a": A, "b": B}, fraction=0.7, debias="none", round_to=2).new_widths
    assert widths == {"a": 2, "b": 2}


@pytest.mark.parametrize(
    ("limits", "widths"),
    [
        ({"min_units": {"a": 3, "b*": 2}}, {"a": 3, "b": 2}),
        ({"min_units": {"Dense": 2, "b": 3}}, {"a": 2, "b": 3}),
        ({"max_layer_fraction": {"a": 0.25}}, {"a": 3, "b": 1}),
        ({"max_layer_fraction": {"a": 0.25, "*": 0.5}}, {"a": 3, "b": 3}),
        ({"round_to": {"a": 3, "Dense": 2}}, {"a": 4, "b": 2}),
        ({"round_to": {"b": 4}}, {"a": 1, "b": 4}),
    ],
)
def test_limits_by_pattern_and_type_hold_where_they_fit(graph, limits, widths):
    scores = {"a": np.arange(4.0), "b": np.arange(6.0)}
    assert select(graph, scores, fraction=0.99, **limits).new_widths == widths


def test_a_coupled_family_keeps_a_multiple_of_what_each_of_its_layers_asks_for():
    inputs = keras.Input((2,))
    a, b = (keras.layers.Dense(13, name=name)(inputs) for name in "ab")
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Add()([a, b])))
    scores = {"a": np.arange(13.0), "b": np.arange(13.0)}
    plan = select(trace(model), scores, fraction=0.9, round_to={"a": 2, "b": 3})
    assert plan.new_widths == {"a": 6, "b": 6}


@pytest.mark.parametrize("debias", ["none", "mean", "l2", "zscore", "rank"])
@pytest.mark.parametrize("score", [0.1, 0.3, 0.7])
def test_equal_scores_go_by_position_in_multiples_too(score, debias):
    # The mean of three numbers 0.1 is a little more than that of four.
    inputs = keras.Input((2,))
    x = keras.layers.Dense(7, name="a")(inputs)
    graph = trace(keras.Model(inputs, keras.layers.Dense(1)(x)))
    plan = select(graph, {"a": np.full(7, score)}, fraction=0.6, debias=debias, round_to=4)
    assert kept(plan) == {"a": [3, 4, 5, 6]}


def test_uniform_takes_no_more_from_others_where_a_layer_keeps_all(graph):
    scores = {"a": A, "b": B}
    widths = select(graph, scores, fraction=0.5, scope="uniform", exclude="a").new_widths
    assert widths == {"a": 4, "b": 3}
    widths = select(graph, scores, fraction=0.5, scope="uniform", min_units=4).new_widths
    assert widths == {"a": 4, "b": 4}


@pytest.mark.parametrize("share", [0.29, 0.57, 0.58])
def test_rounding_errors_cost_no_neuron(share):
    inputs = keras.Input((2,))
    x = keras.layers.Dense(100, name="a")(inputs)
    graph = trace(keras.Model(inputs, keras.layers.Dense(1)(x)))
    plan = select(graph, {"a": np.arange(100.0)}, {"neurons": share})
    assert plan.new_widths == {"a": round(100 * share)}


def test_caps_count_from_the_original(graph):
    limits, original = Limits(max_layer_fraction=0.5), {"a": 8, "b": 6}
    plan = choose(graph, {"a": A, "b": B}, Ranking(), limits, {}, 0.9, original=original)
    assert plan.new_widths == {"a": 4, "b": 3}


@pytest.mark.parametrize(("how", "expected"), [("mean", 2), ("sum", 4), ("max", 3), ("min", 1)])
def test_coupled_units_are_combined_before_debias(how, expected):
    inputs = keras.Input((2,))
    a, b = (keras.layers.Dense(3, name=name)(inputs) for name in "ab")
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Add()([a, b])))
    scores = {"a": np.full(3, 1.0), "b": np.full(3, 3.0)}
    (combined,) = combine_members(trace(model), scores, how)
    assert combined.tolist() == [expected] * 3


def test_numbers_agree_with_the_model_that_is_cut():
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(7), keras.layers.Dense(2)])
    graph = trace(model)
    (path,) = graph.widths
    plan = select(graph, {path: np.arange(7.0)}, fraction=0.5)
    assert cost(shrink(model, plan)) == graph.costs.at([4])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "target=None, fraction=None"),
        ({"fraction": 1.0}, r"share in \(0, 1\). Received: fraction=1.0"),
        ({"fraction": 0}, "Received: fraction=0"),
        ({"fraction": True}, "Received: fraction=True"),
        ({"fraction": float("nan")}, "Received: fraction=nan"),
        ({"target": {"params": 1.5}}, r"target\['params'\]=1.5"),
        ({"target": {"size": 0.5}}, r"target=\{'size': 0.5\}"),
        ({"target": 0.5}, "target=0.5"),
        ({"target": {}}, r"target=\{\}"),
        ({"fraction": 0.05}, "at least one neuron. Received: fraction=0.05"),
        ({"fraction": 0.5, "scope": "locally"}, "scope='locally'"),
        ({"fraction": 0.5, "combine": "median"}, "combine='median'"),
        ({"fraction": 0.5, "debias": "average"}, "debias='average'"),
        ({"fraction": 0.5, "min_units": 0}, "min_units=0"),
        ({"fraction": 0.5, "round_to": 1.5}, "round_to=1.5"),
        ({"fraction": 0.5, "max_layer_fraction": 0}, "max_layer_fraction=0"),
        ({"fraction": 0.5, "min_units": {"a": 0}}, r"min_units\['a'\]=0"),
        ({"fraction": 0.5, "max_layer_fraction": {"a": 2.0}}, r"fraction\['a'\]=2.0"),
        ({"fraction": 0.5, "round_to": {"Conv2D": 4}}, "'Conv2D' fits none of {'a': 'Dense', 'b'"),
        ({"fraction": 0.5, "exclude": "c"}, r"exclude='c', which fits none of \['a', 'b'\]"),
        ({"fraction": 0.5, "exclude": "*"}, "leaves none"),
        ({"target": {"params": 0.01}}, r"reachable. Received: target=\{'params': 0.01\}.*closest"),
        (
            {"target": {"neurons": 0.3}, "min_units": 3},
            "out: 2 units are fixed: they are an output",
        ),
    ],
)
def test_bad_requests_say_what_was_received(graph, arguments, message):
    with pytest.raises(ValueError, match=message):
        select(graph, {"a": A, "b": B}, **arguments)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"a": A}, "without 'b'"),
        ({"a": A, "b": B[:5]}, r"scores of 'b' must be 6 finite numbers. Received: shape \(5,\)"),
        ({"a": A, "b": B * np.nan}, "6 of them not finite"),
    ],
)
def test_scores_must_fit(graph, scores, message):
    with pytest.raises(ValueError, match=message):
        select(graph, scores, fraction=0.5)


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({}, "out: 2 units are fixed: they are an output of the model"),
        ({"min_units": 3}, r"min_units=3 \(without it: {.*}\); out: 2 units"),
        ({"max_layer_fraction": 0.5}, r"max_layer_fraction=0.5 \(without it: {.*}\)"),
        ({"exclude": "b"}, r"exclude=\('b',\) \(without it: {.*}\)"),
        ({"round_to": 2}, r"round_to=2 \(without it: {.*}\)"),
        ({"min_units": {"b": 3}}, r"min_units={'b': 3} \(without it: {.*}\)"),
        ({"min_units": 2, "round_to": 2}, r"min_units=2 and round_to=2 \(without them: {.*}\)"),
    ],
)
def test_an_unreachable_target_says_how_near_it_can_be_come_and_what_stands_in_the_way(
    graph, limits, named
):
    scores, target = {"a": A, "b": B}, {"params": 0.01, "neurons": 0.01}
    with pytest.raises(ValueError, match=f"In the way: .*{named}") as caught:
        select(graph, scores, target, **limits)
    closest = ast.literal_eval(re.search(r"closest .*? is ({.*?})", str(caught.value))[1])
    assert closest.keys() == target.keys()
    above = {metric: share * 1.01 for metric, share in closest.items()}
    assert select(graph, scores, above, **limits).removed > 0
    for metric, share in closest.items():
        with pytest.raises(ValueError, match="reachable"):
            select(graph, scores, {metric: share * 0.99}, **limits)


def test_a_limit_that_another_one_covers_is_not_in_the_way(graph):
    with pytest.raises(ValueError, match=r"In the way: round_to=4 \(without it"):
        select(graph, {"a": A, "b": B}, {"params": 0.01}, min_units=2, round_to=4)


def test_a_target_that_the_order_of_the_scores_puts_out_of_reach_is_refused():
    # c has the units of a, which go two at once, and those of b: once two of b are gone, two of a
    # would leave too few in c.
    inputs = keras.Input((2,))
    a, b = keras.layers.Dense(4, name="a")(inputs), keras.layers.Dense(3, name="b")(inputs)
    c = keras.layers.Dense(7, name="c")(inputs)
    joined = keras.layers.Add()([keras.layers.Concatenate()([a, b]), c])
    graph = trace(keras.Model(inputs, keras.layers.Dense(1)(joined)))
    limits = {"round_to": {"a": 2}, "min_units": {"c": 4}, "debias": "none"}
    scores = {"a": np.full(4, 2.0), "b": np.ones(3), "c": np.ones(7)}
    with pytest.raises(ValueError, match=r"reachable in the order.*'neurons': 0.71"):
        select(graph, scores, {"neurons": 0.6}, **limits)
    scores["b"] += 9
    assert select(graph, scores, {"neurons": 0.6}, **limits).new_widths == {"a": 2, "b": 2, "c": 4}


def test_what_a_limit_costs_is_what_goes_without_it(graph):
    scores = {"a": A, "b": B}
    with pytest.raises(ValueError, match="reachable") as caught:
        select(graph, scores, {"neurons": 0.01}, min_units=3)
    without = ast.literal_eval(re.search(r"without it: ({.*?})", str(caught.value))[1])
    assert select(graph, scores, {"neurons": without["neurons"] * 1.01}).removed > 0


def test_a_target_that_a_fraction_keeps_from_being_reached_is_in_the_report():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10), keras.layers.Dense(2)])
    report = prune_keras.prune(model, {"neurons": 0.5}, fraction=0.2)[1]
    note = "80.00% of the neurons remain, not 50.00%: fraction=0.2 was removed first"
    assert f"note: the target is not reached: {note}" in report.render()
    assert not prune_keras.prune(model, {"neurons": 0.5})[1].notes
