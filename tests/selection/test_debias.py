"""One contract for every debias, and what makes each of them different."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import debias
from prune_keras.selection.scores import savings

SCORES = {
    "spread": np.array([0.5, 3.0, 1.0, 2.0]),
    "equal": np.full(4, 2.0),
    "zeros": np.zeros(3),
    "single": np.array([4.0]),
    "ties": np.array([1.0, 1.0, 0.0]),
    "mostly zero": np.array([0.0, 0.0, 0.0, 2.0, 5.0]),
    "negative": np.array([-1.0, 0.5, -3.0, 2.0]),
}
SAVING = debias.Saving("conv", params=10, flops=1000)
ALL = pytest.mark.parametrize("name", sorted(debias.DEBIASES))


@ALL
@pytest.mark.parametrize("case", sorted(SCORES))
def test_finite_of_the_same_shape_and_in_the_same_order(name, case):
    scores = SCORES[case]
    changed = debias.apply(debias.get(name), scores.copy(), SAVING)
    assert changed.shape == scores.shape
    assert np.isfinite(changed).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(changed[order]) >= 0).all()


@ALL
def test_scores_are_left_as_they_are(name):
    scores = SCORES["spread"].copy()
    debias.apply(debias.get(name), scores, SAVING)
    assert (scores == SCORES["spread"]).all()


@ALL
def test_config_gives_the_same_debias(name):
    assert debias.get(debias.serialize(debias.get(name))) is debias.get(name)


@pytest.mark.parametrize("name", sorted(set(debias.DEBIASES) - {"none", "flops", "params"}))
def test_the_scale_of_a_layer_does_not_matter(name):
    by = debias.get(name)
    np.testing.assert_allclose(by(SCORES["spread"] * 1000), by(SCORES["spread"]))


def test_what_each_one_normalizes():
    scores = SCORES["spread"]
    assert debias.mean(scores).mean() == pytest.approx(1)
    assert np.square(debias.l2(scores)).sum() == pytest.approx(1)
    assert debias.zscore(scores).mean() == pytest.approx(0)
    assert debias.zscore(scores).std() == pytest.approx(1)
    assert debias.sum(scores).sum() == pytest.approx(1)
    assert debias.max(scores).max() == pytest.approx(1)
    assert np.median(debias.median(scores)) == pytest.approx(1)
    assert debias.minmax(scores).min() == 0 and debias.minmax(scores).max() == 1
    assert np.median(debias.robust(scores)) == pytest.approx(0)
    assert debias.rank(SCORES["ties"]).tolist() == pytest.approx([2 / 3, 1, 1 / 3])


def test_any_callable_is_taken():
    assert debias.get(np.sqrt) is np.sqrt
    scores = np.array([4.0, 9.0])
    for function in (np.sqrt, lambda s: s**0.5, lambda s, saving: s**0.5, lambda s, p=0.5: s**p):
        np.testing.assert_array_equal(debias.apply(function, scores, SAVING), [2, 3])


def networks_of_two_layers():
    """Equal scores for a wide, cheap layer and for one that costs much."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            keras.layers.Conv2D(8, 3, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(8, name="dense"),
            keras.layers.Dense(2, name="out"),
        ]
    )


def test_what_a_neuron_saves_is_counted():
    graph = prune_keras.trace(networks_of_two_layers())
    conv, dense = savings(graph)
    # A filter: its kernel and bias, and its positions in the Dense layer behind Flatten.
    assert conv.params == 3 * 3 * 2 + 1 + 100 * 8
    assert conv.flops == 2 * (100 * 3 * 3 * 2 + 100 * 8)
    assert dense.params == 800 + 1 + 2 and dense.flops == 2 * (800 + 2)
    scores = {"conv": np.ones(8), "dense": np.full(8, 0.9)}  # of 819 and 803 parameters
    by_flops = prune_keras.select(graph, scores, fraction=0.3, debias="flops").new_widths
    by_params = prune_keras.select(graph, scores, fraction=0.3, debias="params").new_widths
    assert by_flops == {"conv": 4, "dense": 8} and by_params == {"conv": 8, "dense": 4}
    free = prune_keras.select(graph, scores, fraction=0.3, debias="none").new_widths
    assert free == {"conv": 8, "dense": 4}


def test_flops_need_sizes():
    with pytest.raises(ValueError, match="known spatial sizes.*Pass input_shape"):
        debias.flops(np.ones(2), debias.Saving("conv", 1, None))


def test_an_affine_fit_finds_scale_and_shift_of_each_layer():
    """Layer `b` is read by weights a hundred times smaller: its neurons matter little."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    parts = [keras.layers.Dense(12, activation="relu", name=n)(inputs) for n in "ab"]
    out = keras.layers.Dense(1, name="out")
    model = keras.Model(inputs, out(keras.layers.Concatenate()(parts)))
    kernel, bias = out.get_weights()
    out.set_weights([kernel * np.repeat([1, 0.01], 12)[:, None], bias])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 6))
    y = model.predict(x, verbose=0)
    by = prune_keras.fit_affine(model, "mean_activation", (x, y))
    scores = prune_keras.score(model, "mean_activation", data=x)
    graph = prune_keras.trace(model)
    widths = prune_keras.select(graph, scores, fraction=0.5, debias=by).new_widths
    assert widths["a"] == 12 - 1 or widths["a"] == 12
    assert prune_keras.select(graph, scores, fraction=0.5, debias="mean").new_widths["a"] < 10
    assert debias.get(debias.serialize(by)) == by


def test_an_affine_debias_knows_its_families():
    with pytest.raises(ValueError, match=r"Received: family 'conv', while it knows \['a'\]"):
        debias.Affine({"a": (1.0, 0.0)})(np.ones(2), SAVING)


def test_an_affine_fit_keeps_the_order_where_scores_mislead():
    scale, shift = debias.affine.fit(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0]))
    assert scale > 0 and np.isfinite(shift)
    assert debias.affine.fit(np.ones(3), np.arange(3.0)) == (1.0, 0.0)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"\['flops', 'l2', 'max', .*'average'"):
        debias.get("average")
    with pytest.raises(ValueError, match=r"Received: debias=\['mean'\]"):
        debias.get(["mean"])


def test_a_debias_of_ones_own_may_compute_on_the_backend():
    layers = [keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    found = [
        prune_keras.prune(model, fraction=0.5, debias=each)[1].plan.kept["a"].tolist()
        for each in (lambda s: -s, lambda s: -keras.ops.convert_to_tensor(s))
    ]
    assert found[0] == found[1] and len(found[0]) == 4


@pytest.mark.parametrize("spoiled", [lambda s: s * np.nan, lambda s: s[:1], lambda s: s / 0.0])
def test_what_a_debias_makes_of_scores_must_be_a_finite_number_each(spoiled):
    layers = [keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="8 of 'a'.*all zero"):
        prune_keras.prune(model, fraction=0.5, debias=spoiled)
