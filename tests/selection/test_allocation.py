"""Allocation under the true cost: against the best of all widths, and what must hold as ever."""

import functools
import itertools

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from networks import Recipe

import prune_keras
from prune_keras import select, trace
from prune_keras.accounting import METRICS
from prune_keras.callbacks import ProgressivePruning
from prune_keras.debias import Curve, Sensitivity
from prune_keras.selection.allocation import MOVES, Table
from prune_keras.selection.blocks import begins_of, pooled, steps
from prune_keras.selection.choice import choose, sizes_left
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking, combine_members
from prune_keras.surgery import kept_neurons


def chain(x):
    for name, units in (("a1", 7), ("b1", 5), ("a2", 6)):
        x = layers.Dense(units, activation="relu", name=name)(x)
    return x


def residual(x):
    x = layers.Reshape((4, 4, 1))(x)
    x = layers.Conv2D(6, 3, padding="same", name="a1")(x)
    y = layers.Conv2D(5, 3, padding="same", activation="relu", name="a2")(x)
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same", name="b1")(y)])
    y = layers.Conv2D(8, 3, strides=2, padding="same", name="b2")(x)
    x = layers.Add()([y, ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [1, 1]])])
    return layers.GlobalAveragePooling2D()(x)


def joined(x):
    a, b = layers.Dense(6, name="a1")(x), layers.Dense(4, name="b1")(x)
    x = layers.Concatenate()([a, layers.Multiply()([b, layers.Dense(4, name="a2")(x)])])
    return layers.Dense(5, name="b2")(x)


def network(make):
    inputs = keras.Input((16,))
    return keras.Model(inputs, layers.Dense(3)(make(inputs)))


@functools.cache
def graph_of(make):
    return trace(network(make))


class Search:
    """All widths of a graph that limits allow, with the scores that each of them loses."""

    def __init__(self, graph, scores, combine="mean", **limits):
        self.graph, self.limits = graph, Limits(**limits)
        self.combined = combine_members(graph, scores, combine)
        multiples = steps(graph, self.limits)
        kept = [
            [size - gone for gone in (*begins_of(size, step), size)]
            for size, step in zip(graph.sizes.tolist(), multiples, strict=True)
        ]
        widths = np.array([*itertools.product(*kept)])
        lengths = graph.costs.constants + widths @ graph.costs.members.T
        least = np.array(graph.costs.least)
        for path, axis in graph.unit_axes.items():
            if path in graph.widths:
                units = len(graph.producers[path].neurons)
                lost = limits.get("max_layer_fraction", 1.0)
                share = int(np.ceil((1 - lost) * units - 1e-9))
                least[axis] = max(least[axis], limits.get("min_units", 1), share)
        self.widths = widths[(lengths >= least).all(axis=1)]
        for path in self.limits.excluded(graph.widths):
            for number, family in enumerate(graph.families):
                if path in family.paths:
                    self.widths = self.widths[self.widths[:, number] == family.size]

    def lost(self, widths):
        sums = [np.append(0, np.cumsum(np.sort(scores))) for scores in self.combined]
        return sum(
            s[len(s) - 1 - column] for s, column in zip(sums, np.transpose(widths), strict=True)
        )

    def least(self, target):
        """Return the least loss of all widths within a target; infinite where there are none."""
        met, amounts = np.ones(len(self.widths), bool), self.graph.costs.amounts(self.widths)
        for metric, share in target.items():
            met &= amounts[metric] <= share * getattr(self.graph.cost, metric)
        return self.lost(self.widths[met]).min(initial=np.inf)

    def of(self, plan):
        return float(self.lost(sizes_left(self.graph, plan)))


def random_scores(graph, seed, spread=1.0):
    """Scores of layers that differ by powers of ten."""
    rng = np.random.default_rng(seed)
    return {
        path: rng.gamma(0.7, size=width) * 10 ** rng.uniform(-spread, spread)
        for path, width in graph.widths.items()
    }


TARGETS = (
    {"flops": 0.5},
    {"params": 0.4},
    {"activation_bytes": 0.7},
    {"weight_bytes": 0.8},
    {"flops": 0.6, "params": 0.7},
    {"params": 0.6, "activation_bytes": 0.8},
)
LIMITS = ({}, {"min_units": 2}, {"max_layer_fraction": 0.6}, {"round_to": 2}, {"exclude": "a1"})


@pytest.mark.parametrize("make", [chain, residual, joined])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_optimal_is_the_best_of_all_widths_or_next_to_it(make, limits):
    graph, ratios = graph_of(make), []
    for seed, target in enumerate(TARGETS * 2):
        scores = random_scores(graph, seed)
        search = Search(graph, scores, **limits)
        best = search.least(target)
        asked = {"target": target, "debias": "none", **limits}
        if best == np.inf:
            with pytest.raises(ValueError, match="must be reachable"):
                select(graph, scores, scope="optimal", **asked)
            continue
        plan = select(graph, scores, scope="optimal", **asked)
        assert search.of(plan) >= best - 1e-9
        ratios.append(search.of(plan) / best)
    assert np.mean(np.array(ratios) < 1 + 1e-9) >= 0.8
    assert max(ratios) < 1.2


@pytest.mark.parametrize("make", [chain, residual, joined])
def test_where_all_neurons_cost_the_same_the_lowest_go(make):
    graph = graph_of(make)
    for seed in range(4):
        scores, asked = random_scores(graph, seed), {"target": {"neurons": 0.55}, "debias": "none"}
        plans = {
            s: select(graph, scores, scope=s, **asked) for s in ("global", "per_cost", "optimal")
        }
        search = Search(graph, scores)
        assert search.of(plans["optimal"]) == pytest.approx(search.least(asked["target"]))
        assert plans["per_cost"] == plans["global"]


def test_per_cost_ranks_by_what_a_neuron_saves():
    """Of two layers with equal scores, the one that saves more of the target's metric is cut."""
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(6, 3, padding="same", name="wide")(inputs)  # 36 weights a unit, many FLOPs
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 1, name="fixed")(x))
    x = layers.Dense(6, name="dense")(x)
    graph = trace(keras.Model(inputs, layers.Dense(200)(x)))  # 202 weights a unit, few FLOPs
    scores = {path: np.arange(1.0, 1 + width) for path, width in graph.widths.items()}
    asked = {"scope": "per_cost", "debias": "none", "exclude": "fixed"}
    widths = select(graph, scores, {"flops": 0.7}, **asked).new_widths
    assert widths["wide"] < 6 and widths["dense"] == 6
    widths = select(graph, scores, {"params": 0.7}, **asked).new_widths
    assert widths["dense"] < 6 and widths["wide"] == 6


@pytest.mark.parametrize("scope", ["per_cost", "optimal"])
def test_where_only_a_fraction_is_asked_for_a_measure_can_be_named(scope):
    graph, flops = graph_of(residual), {"neurons": 0, "flops": 0}
    for seed in range(4):
        scores = random_scores(graph, seed, spread=0)
        for measure in flops:
            ranking = Ranking(scope, "none", "mean", measure=measure)
            plan = choose(graph, scores, ranking, Limits(), {}, fraction=0.3)
            flops[measure] += graph.costs.at(sizes_left(graph, plan)).flops
            if measure == "neurons":
                assert plan == select(graph, scores, fraction=0.3, debias="none")
    assert flops["flops"] < flops["neurons"]


def test_of_a_latency_flops_are_counted_before_it_is_measured():
    model, data = small()
    chosen = {"criterion": "taylor", "debias": "none", "data": data, "verbose": 0}
    pruning = ProgressivePruning({"latency_ms": 1e-6}, 0.3, scope="optimal", **chosen)
    seen = []

    def watched(*arguments):
        seen.append(arguments[2])
        return choose(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prune_keras.selection.stepping.choose", watched)
        model.fit(*data, callbacks=[pruning], verbose=0)
    assert [ranking.measure for ranking in seen] == ["flops"]


@pytest.mark.parametrize("scope", ["per_cost", "optimal"])
def test_ties_go_by_position(scope):
    graph = graph_of(chain)
    scores = {path: np.ones(width) for path, width in graph.widths.items()}
    plan = select(graph, scores, {"flops": 0.5}, scope=scope, debias="none")
    for path, kept in plan.kept.items():
        assert kept.tolist() == [*range(graph.widths[path] - len(kept), graph.widths[path])]
    assert plan == select(graph, scores, {"flops": 0.5}, scope=scope, debias="none")


@pytest.mark.parametrize("scope", ["per_cost", "optimal"])
def test_neurons_that_do_harm_go_first(scope):
    graph = graph_of(chain)
    scores = random_scores(graph, 5)
    scores["b1"][:2] = -1.0
    plan = select(graph, scores, {"flops": 0.8}, scope=scope, debias="none")
    assert set(plan.kept["b1"]).isdisjoint({0, 1})


@pytest.mark.parametrize("scope", ["per_cost", "optimal"])
@pytest.mark.parametrize("debias", ["zscore", "minmax", "rank", "robust"])
def test_scores_without_a_zero_are_refused(scope, debias):
    scores = random_scores(graph_of(chain), 0)
    with pytest.raises(ValueError, match=rf"scope='{scope}' .*Received: debias='{debias}'"):
        select(graph_of(chain), scores, {"flops": 0.5}, scope=scope, debias=debias)


@pytest.mark.parametrize("scope", ["per_cost", "optimal"])
def test_what_cannot_be_reached_is_the_same_error(scope):
    scores = random_scores(graph_of(chain), 0)
    asked = {"target": {"flops": 0.2}, "min_units": 4, "debias": "none"}
    with pytest.raises(ValueError, match="must be reachable") as expected:
        select(graph_of(chain), scores, scope="global", **asked)
    with pytest.raises(ValueError, match="must be reachable") as found:
        select(graph_of(chain), scores, scope=scope, **asked)
    assert str(found.value) == str(expected.value)


REQUESTS = st.fixed_dictionaries(
    {
        "make": st.sampled_from((chain, residual, joined)),
        "seed": st.integers(0, 9999),
        "scope": st.sampled_from(("per_cost", "optimal")),
        "debias": st.sampled_from(("none", "mean", "flops")),
        "combine": st.sampled_from(("mean", "sum", "max")),
        "target": st.none()
        | st.dictionaries(
            st.sampled_from(METRICS), st.integers(40, 95).map(lambda n: n / 100), min_size=1
        ),
        "fraction": st.none() | st.sampled_from((0.1, 0.3, 0.5, 0.9)),
        "min_units": st.sampled_from((1, 2, {"a*": 3, "Dense": 2})),
        "max_layer_fraction": st.sampled_from((1.0, 0.5, {"b*": 0.7})),
        "round_to": st.sampled_from((1, 2, 3, {"a*": 2, "Dense": 3})),
        "exclude": st.sampled_from(((), "a1", "b*")),
    }
)


@given(REQUESTS)
@settings(max_examples=150)
def test_budgets_and_limits_hold(request):
    request = dict(request)
    graph, seed = graph_of(request.pop("make")), request.pop("seed")
    scores = random_scores(graph, seed, spread=2)
    try:
        plan = select(graph, scores, **request)
    except ValueError:
        with pytest.raises(ValueError, match="must be|must remove|Say how much"):
            select(graph, scores, **request | {"scope": "global"})
        hypothesis.reject()
    kept_neurons(graph, plan)
    left = sizes_left(graph, plan)
    cost, fraction = graph.costs.at(left), request["fraction"]
    if fraction is None:
        for metric, share in request["target"].items():
            assert getattr(cost, metric) <= share * getattr(graph.cost, metric)
    else:
        assert graph.neurons - cost.neurons <= int(fraction * graph.neurons + 1e-9)
    limits = Limits(**{k: request[k] for k in ("min_units", "max_layer_fraction", "round_to")})
    for family, count, step in zip(graph.families, left, steps(graph, limits), strict=True):
        assert count == family.size or count % step == 0
    excluded = Limits(exclude=request["exclude"]).excluded(graph.widths)
    for path, width in plan.new_widths.items():
        kind = type(graph.producers[path].layer).__name__
        units = min(graph.widths[path], max(limits.of("min_units", path, kind), default=1))
        assert width >= units
        share = min(limits.of("max_layer_fraction", path, kind), default=1.0)
        assert width >= (1 - share) * graph.widths[path] - 1e-9
        assert path not in excluded or width == graph.widths[path]
    combined = combine_members(graph, scores, request["combine"])
    for scores_of, family in zip(combined, graph.families, strict=True):
        kept = np.isin(
            family.neurons, graph.producers[family.paths[0]].neurons[plan.kept[family.paths[0]]]
        )
        assert max(scores_of[~kept], default=-np.inf) <= min(scores_of[kept], default=np.inf)


@pytest.mark.parametrize("seed", range(5))
def test_on_generated_networks_nothing_loses_less_than_optimal(seed):
    numbers = np.random.default_rng(40 + seed).integers(0, 2**16, 100)
    model = Recipe(tuple(numbers.tolist())).build()
    graph = trace(model)
    if graph.neurons < 8:
        pytest.skip("too small")
    scores = random_scores(graph, seed)
    half = select(graph, scores, fraction=0.5, debias="none")
    most = int(graph.costs.at(sizes_left(graph, half)).params)
    lost = {}
    for scope in ("global", "per_cost", "optimal"):
        plan = select(graph, scores, {"params": most}, scope=scope, debias="none")
        assert prune_keras.cost(prune_keras.shrink(model, plan)).params <= most
        pairs = zip(combine_members(graph, scores, "mean"), sizes_left(graph, plan), strict=True)
        lost[scope] = sum(np.sort(each)[: len(each) - left].sum() for each, left in pairs)
    assert lost["optimal"] <= min(lost.values()) + 1e-9


def small():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="a"), layers.Dense(2)])
    model.compile("sgd", "mse")
    return model, (np.random.default_rng(0).normal(size=(16, 4)), np.ones((16, 2)))


@pytest.mark.parametrize(
    ("criterion", "debias"),
    [
        ("l2", "none"),
        ("reconstruction", "none"),
        ("sensitivity", "none"),
        ("mean(taylor, reconstruction)", "none"),
        (prune_keras.criteria.Switch("taylor", "l2", after=2), "none"),
        ("auto", "mean"),
        ("taylor", "mean"),
        ("taylor", "median"),
        ("taylor", "flops"),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_only_parts_of_one_loss_are_summed_over_layers(criterion, debias):
    model, data = small()
    match = r"parts of one loss. Received: criterion='.*taylor', 'taylor_weights', 'obs', 'oracle'"
    chosen = {"criterion": criterion, "debias": debias, "scope": "optimal"}
    with pytest.raises(ValueError, match=match):
        prune_keras.prune(model, {"params": 0.5}, data=data, **chosen)
    pruning = ProgressivePruning({"params": 0.5}, data=data, verbose=0, **chosen)
    with pytest.raises(ValueError, match=match):
        model.fit(*data, callbacks=[pruning], verbose=0)
    assert model.layers[0].units == 8


@pytest.mark.parametrize("criterion", ["taylor", "taylor_weights", "oracle"])
@pytest.mark.parametrize("steps", [1, 2])
def test_what_foretells_the_loss_is_summed(criterion, steps):
    model, data = small()
    chosen = {"criterion": criterion, "debias": "none", "scope": "optimal", "data": data}
    thin, _ = prune_keras.prune(model, {"params": 0.5}, steps=steps, **chosen)
    assert thin.count_params() <= 29
    pruning = ProgressivePruning({"params": 0.5}, fraction=0.9, verbose=0, **chosen)
    model.fit(*data, callbacks=[pruning], verbose=0)
    assert model.count_params() <= 29


def test_a_measured_debias_makes_any_scores_parts_of_one_loss():
    model, data = small()
    fitted = prune_keras.fit_affine(model, "l2", data)
    measured = prune_keras.sensitivity(model, data, shares=(0.25, 0.5), monitor="loss")
    for debias in (fitted, measured, lambda scores: scores):
        thin, _ = prune_keras.prune(model, {"params": 0.5}, debias=debias, scope="optimal")
        assert thin.count_params() <= 29


def test_running_sums_are_taken_apart():
    """Of scores that tell what is lost up to a neuron, their differences are what is summed."""
    graph = graph_of(chain)
    for seed in range(6):
        scores = random_scores(graph, seed)
        running = {path: running_sums(each) for path, each in scores.items()}
        asked = {"target": {"params": 0.6}, "debias": "none", "scope": "optimal"}
        plan = select(graph, running, running=True, **asked)
        search = Search(graph, scores)
        assert search.of(plan) == pytest.approx(search.least(asked["target"]))
        assert plan == select(graph, scores, **asked)


def running_sums(scores):
    sums, order = np.empty(len(scores)), np.argsort(scores, kind="stable")
    sums[order] = np.cumsum(scores[order])
    return sums


@pytest.mark.parametrize("make", [chain, residual, joined])
def test_measured_tables_need_not_be_convex(make):
    """A table of drops by the share that is cut: what is summed are the drops themselves."""
    graph, ratios = graph_of(make), []
    for seed in range(6):
        rng, scores = np.random.default_rng(seed), random_scores(graph, seed)
        shares = (0.25, 0.5, 0.75, 1.0)
        curves = {
            f.name: Curve(f.size, shares, tuple(np.cumsum(rng.gamma(0.5, size=4)).tolist()))
            for f in graph.families
        }
        debias, target = Sensitivity("loss", "min", 0.1, curves), {"flops": 0.5}
        plan = select(graph, scores, target, debias=debias, scope="optimal")
        search = Search(graph, scores)
        search.lost = lambda widths, curves=curves: sum(
            curves[f.name].at(1 - column / f.size)
            for f, column in zip(graph.families, np.transpose(widths), strict=True)
        )
        ratios.append(search.of(plan) / search.least(target))
    assert min(ratios) >= 1 - 1e-6
    assert np.median(ratios) < 1.02 and max(ratios) < 1.3


def test_pools_are_slopes_of_the_lower_convex_hull():
    sums, saved = np.array([4.0, 1.0, 6.0, 1.0, 1.0]), np.array([2.0, 1.0, 2.0, 1.0, 2.0])
    np.testing.assert_allclose(pooled(sums, saved), [13 / 8] * 5)
    np.testing.assert_allclose(pooled(np.array([1.0, 3.0, 2.0]), np.ones(3)), [1, 2.5, 2.5])
    gone = pooled(np.array([-np.inf, -np.inf, 3.0, 1.0]), np.ones(4))
    assert gone.tolist() == [-np.inf, -np.inf, 2, 2]


def test_each_exchange_grows_the_error_by_what_it_is_told_to():
    rng, families = np.random.default_rng(0), 5
    errors = np.cumsum(rng.random((families, 8)), axis=1)
    errors[2, 6:] = np.inf  # which has fewer blocks than others
    least, most = np.array([0, 1, 0, 2, 0]), np.array([7, 5, 5, 7, 3])
    table = Table(None, [], [None] * families, errors, least, most)
    counts = np.array([3, 1, 5, 4, 2])
    changes = table._changes(counts)
    numbers = np.arange(families + len(MOVES) * families**2)
    seen = set()
    for change, move in zip(changes, table._moves(numbers), strict=True):
        moved = counts + move
        if np.isfinite(change):
            assert ((moved >= least) & (moved <= most)).all() and tuple(move) not in seen
            assert table.error(moved) - table.error(counts) == pytest.approx(change)
            seen.add(tuple(move))
    assert {(-1, 0, 0, 0, 0), (1, 0, -1, 0, 0), (2, 0, 0, -1, 0), (0, 0, -2, 1, 0)} <= seen


def test_hundreds_of_families_are_exchanged_in_little_memory():
    families = 400
    errors = np.cumsum(np.random.default_rng(0).random((families, 4)), axis=1)
    table = Table(None, [], [None] * families, errors, np.zeros(families), np.full(families, 3))
    changes = table._changes(np.ones(families, int))
    assert changes.nbytes < 8 * (len(MOVES) * families**2 + families) + 1
    assert table._moves(np.arange(256)).shape == (256, families)
