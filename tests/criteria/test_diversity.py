"""Diverse subsets: the distribution they are drawn from, and what a plan becomes."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.diversity import gaussian, sample

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_subsets_are_drawn_as_often_as_their_determinants_say(count):
    vectors = RNG.normal(size=(5, 3))
    likeness = gaussian(vectors)
    subsets = list(itertools.combinations(range(5), count))
    weights = np.array([np.linalg.det(likeness[np.ix_(s, s)]) for s in subsets])
    expected = weights / weights.sum()
    rng, times = np.random.default_rng(1), 4000
    drawn = [tuple(sample(likeness, count, rng).tolist()) for _ in range(times)]
    found = np.array([drawn.count(subset) for subset in subsets]) / times
    # Four standard deviations of a share.
    assert (np.abs(found - expected) < 4 * np.sqrt(expected / times) + 1e-3).all()


def test_twins_do_not_stay_both():
    vectors = np.repeat(RNG.normal(size=(4, 6)), 2, axis=0)
    for seed in range(20):
        drawn = sample(gaussian(vectors), 4, np.random.default_rng(seed))
        assert sorted(drawn // 2) == [0, 1, 2, 3]


def test_large_families_and_equal_neurons():
    assert len(sample(gaussian(RNG.normal(size=(300, 20))), 250, RNG)) == 250
    assert len(set(sample(gaussian(np.ones((6, 3))), 4, RNG))) == 4


def network():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(inputs)
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([x, y]))
    x = layers.Dense(10, activation="relu", name="c")(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def test_a_plan_keeps_its_widths_and_its_neurons_whole():
    model, x = network(), RNG.normal(size=(32, 6, 6, 2))
    graph = prune_keras.trace(model)
    plan = prune_keras.select(graph, prune_keras.score(model, "l2"), fraction=0.5)
    found = [prune_keras.diversify(model, plan, x, seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    for each in found:
        assert each.new_widths == plan.new_widths and each.widths == plan.widths
        np.testing.assert_array_equal(each.kept["a"], each.kept["b"])
        prune_keras.shrink(model, each)


def test_copies_of_a_unit_go():
    model, x = network(), RNG.normal(size=(64, 6, 6, 2))
    dense = model.get_layer("c")
    kernel, bias = dense.get_weights()
    dense.set_weights([np.repeat(kernel[:, :5], 2, axis=1), np.repeat(bias[:5] + 1, 2)])
    plan = prune_keras.Plan.everything(prune_keras.trace(model).widths)
    plan = prune_keras.Plan({**plan.kept, "c": np.arange(5)}, plan.widths)
    kept = prune_keras.diversify(model, plan, x, seed=0).kept["c"]
    assert sorted(kept // 2) == [0, 1, 2, 3, 4]
    assert len(prune_keras.diversify(model, plan, x, seed=0).kept["a"]) == 8
