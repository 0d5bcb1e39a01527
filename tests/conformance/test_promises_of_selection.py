"""What selection promises, over random scores with ties, targets, limits and orders."""

import functools

import hypothesis
import keras
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

import prune_keras
from prune_keras.accounting import METRICS

TIMES = settings(max_examples=150)


def chain(x):
    for name, units in (("a1", 7), ("b1", 5), ("a2", 6)):
        x = layers.Dense(units, activation="relu", name=name)(x)
    return x


def residual(x):
    x = layers.Reshape((4, 4, 1))(x)
    x = layers.Conv2D(6, 3, padding="same", name="a1")(x)
    y = layers.Conv2D(5, 3, padding="same", activation="relu", name="a2")(x)
    x = layers.Add()([x, layers.Conv2D(6, 3, padding="same")(y)])
    y = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    x = layers.Add()([y, ops.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [1, 1]])])
    return layers.GlobalAveragePooling2D()(x)


def joined(x):
    a, b = layers.Dense(6, name="a1")(x), layers.Dense(4)(x)
    return layers.Dense(5)(layers.Concatenate()([a, layers.Multiply()([b, layers.Dense(4)(x)])]))


@functools.cache
def graph_of(make):
    inputs = keras.Input((16,))
    return prune_keras.trace(keras.Model(inputs, layers.Dense(3)(make(inputs))))


DEBIASES = {
    "none": lambda s: s,
    "mean": lambda s: s / max(s.mean(), 1e-30),
    "l2": lambda s: s / max(np.sqrt((s**2).sum()), 1e-30),
    "zscore": lambda s: (s - s.mean()) / (s.std() or 1),
    "rank": lambda s: (np.argsort(np.argsort(s, kind="stable")) + 1) / len(s),
}
TARGETS = st.dictionaries(
    st.sampled_from(METRICS),
    st.integers(40, 95).map(lambda percent: percent / 100),
    min_size=1,
)
FRACTIONS = st.sampled_from((0.1, 0.3, 0.5, 0.9))
SCOPES = st.sampled_from(("global", "uniform", "layerwise"))


def by_layer(numbers):
    """Numbers by a pattern of paths, and by a type of layer; every network has both."""
    return st.fixed_dictionaries({name: st.sampled_from(numbers) for name in ("a*", "Dense")})


REQUESTS = st.fixed_dictionaries(
    {
        "make": st.sampled_from((chain, residual, joined)),
        "seed": st.integers(0, 9999),
        "levels": st.sampled_from((2, 4, 1000)),
        "debias": st.sampled_from(sorted(DEBIASES)),
        "target": st.none() | TARGETS,
        "fraction": st.none() | FRACTIONS,
        "min_units": st.integers(1, 3) | by_layer((1, 2, 3)),
        "max_layer_fraction": by_layer((1.0, 0.7, 0.5)) | st.sampled_from((1.0, 0.7, 0.5)),
        "round_to": st.sampled_from((1, 1, 2, 3, 4)) | by_layer((1, 2, 3)),
        "skip": st.booleans(),
    }
)


class Case:
    """A request, what selection answers, and what the answer must be measured by."""

    def __init__(self, request, scope):
        request = dict(request)
        self.graph, rng = graph_of(request.pop("make")), np.random.default_rng(request.pop("seed"))
        levels = request.pop("levels")
        self.scores = {
            path: rng.integers(1, levels + 1, width) / 10 for path, width in self.widths.items()
        }
        self.exclude = list(self.widths)[:1] if request.pop("skip") else []
        self.request = {**request, "scope": scope, "exclude": self.exclude}
        try:
            self.plan = self.select()
        except ValueError:  # out of reach, or nothing to remove
            hypothesis.reject()

    def select(self):
        return prune_keras.select(self.graph, self.scores, **self.request)

    @property
    def widths(self):
        return self.graph.widths

    def families(self):
        """Yield each family with the scores of its neurons, and which of them are kept."""
        for family in self.graph.families:
            members = [
                [self.scores[p][self.graph.producers[p].neurons == neuron] for p in family.paths]
                for neuron in family.neurons
            ]
            scores = np.array([np.concatenate(each).mean() for each in members])
            first = self.graph.producers[family.paths[0]].neurons
            kept = np.isin(family.neurons, first[self.plan.kept[family.paths[0]]])
            yield family, scores, kept

    def numbers(self, limit, path):
        """Return the numbers of a limit that hold for a layer, 1 among them."""
        value = self.request[limit]
        if not isinstance(value, dict):
            return [1, value]
        dense = isinstance(self.graph.producers[path].layer, layers.Dense)
        fits = {"a*": path.startswith("a"), "Dense": dense}
        return [1, *(number for name, number in value.items() if fits[name])]

    def floor(self, path):
        lost = min(self.numbers("max_layer_fraction", path))
        share = np.ceil((1 - lost) * self.widths[path] - 1e-9)
        return max(*self.numbers("min_units", path), share)

    def step(self, family):
        """Return of how many neurons a family keeps a multiple."""
        return np.lcm.reduce([n for path in family.paths for n in self.numbers("round_to", path)])

    def must_keep(self, family, count):
        """Tell whether a limit forbids to take so many more neurons of a family."""
        after = self.plan.new_widths
        return any(p in self.exclude or after[p] - count < self.floor(p) for p in family.paths)


@TIMES
@given(REQUESTS, SCOPES)
def test_limits_hold_and_the_same_request_gives_the_same_plan(request, scope):
    case = Case(request, scope)
    assert case.plan == case.select()
    for path, width in case.plan.new_widths.items():
        assert width == case.widths[path] or width >= case.floor(path)
        assert path not in case.exclude or width == case.widths[path]
    for family, _, kept in case.families():
        assert kept.all() or kept.sum() % case.step(family) == 0, family.name


@TIMES
@given(REQUESTS, SCOPES)
def test_in_a_family_the_lowest_go_first_and_ties_by_position(request, scope):
    for _, scores, kept in Case(request, scope).families():
        order = np.argsort(scores, kind="stable")
        assert np.array_equal(kept[order], np.sort(kept))


@TIMES
@given(REQUESTS)
def test_no_removed_neuron_scores_above_a_kept_one_but_for_a_limit(request):
    case = Case({**request, "round_to": 1}, "global")
    debias = DEBIASES[request["debias"]]
    families = [(f, debias(scores), kept) for f, scores, kept in case.families()]
    highest = max(values[~kept].max() for _, values, kept in families if not kept.all())
    for family, values, kept in families:
        if values[kept].min(initial=np.inf) < highest - 1e-9:
            assert case.must_keep(family, 1), family.name


@TIMES
@given(REQUESTS, TARGETS, SCOPES)
def test_budgets_are_met_and_not_overshot_by_more_than_a_step(request, target, scope):
    case = Case({**request, "target": target, "fraction": None}, scope)
    sizes = np.array([kept.sum() for _, _, kept in case.families()])
    before = case.graph.cost

    def met(cost):
        shares = cost.share_of(before)
        return all(shares[metric] <= share for metric, share in target.items())

    assert met(case.graph.costs.at(sizes))
    one_step_back = []
    for number, (family, _, kept) in enumerate(case.families()):
        if not kept.all():
            fuller = sizes.copy()
            fuller[number] = min(kept.sum() + case.step(family), len(kept))
            one_step_back.append(met(case.graph.costs.at(fuller)))
    assert not all(one_step_back)


@TIMES
@given(REQUESTS, FRACTIONS)
def test_a_fraction_is_not_exceeded(request, fraction):
    request = {**request, "fraction": fraction}
    fraction += 1e-9
    whole = Case(request, "global")
    gone = sum((~kept).sum() for _, _, kept in whole.families())
    assert gone <= fraction * whole.graph.neurons
    for _, _, kept in Case(request, "uniform").families():
        assert (~kept).sum() <= fraction * len(kept)


def test_the_same_seed_gives_the_same_plan():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16,))
    model = keras.Model(inputs, layers.Dense(3)(residual(inputs)))
    model.compile("sgd", "mse", run_eagerly=True)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(8, 16)).astype("float32"), rng.normal(size=(8, 3)).astype("float32")
    for criterion in ("random", "l2", "apoz", "mean_activation", "taylor"):
        first, second = (
            prune_keras.prune(model, fraction=0.4, criterion=criterion, data=data, seed=3)[1].plan
            for _ in range(2)
        )
        assert first == second
    other = prune_keras.prune(model, fraction=0.4, criterion="random", seed=4)[1].plan
    assert other != prune_keras.prune(model, fraction=0.4, criterion="random", seed=3)[1].plan
