"""What `prune` says before any work is lost, and what it looked at."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.repair import Refit

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(300, 8)).astype("float32"), RNG.normal(size=(300, 2)).astype("float32")


def network():
    parts = [layers.Dense(16, activation="relu", name="a"), layers.Dense(2)]
    model = keras.Sequential([keras.Input((8,)), *parts])
    model.compile("sgd", "mse")
    return model


class Unread:
    """Batches that nothing should read."""

    def __iter__(self):
        raise AssertionError("The data were read.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "typo*"}, "fits none"),
        ({"min_units": {"typo": 4}}, "'typo' fits none"),
        ({"exclude": ["a"], "target": {"params": 0.1}}, "At least one layer must be left"),
        ({"min_units": 15, "target": {"params": 0.1}}, "reach"),
        ({"target": {"params": 10_000}}, "less than the model has"),
    ],
)
def test_what_cannot_be_is_said_before_data_are_read(arguments, message):
    given = {"target": {"params": 0.5}, "criterion": "taylor", "scope": "global"} | arguments
    with pytest.raises(ValueError, match=message):
        prune_keras.prune(network(), data=Unread(), fuse="weights", **given)


def test_layers_are_excluded_by_name():
    model = network()
    with pytest.raises(ValueError, match=r"paths or patterns.*type Dense.*\[layer.name\]"):
        prune_keras.prune(model, target={"params": 0.5}, exclude=[model.layers[0]])
    thin, _ = prune_keras.prune(model, target={"params": 0.5}, exclude=None)
    assert thin.count_params() < model.count_params()


def test_labels_in_a_list_are_no_batches():
    with pytest.raises(ValueError, match="list of numbers as part 1 of 2.*numpy.asarray"):
        prune_keras.prune(network(), target={"params": 0.5}, data=(X, [0, 1] * 150))


def test_a_cost_that_shares_are_of_must_know_the_metric():
    cost = prune_keras.cost(network())
    of = prune_keras.Cost(cost.params, cost.flops, cost.neurons)
    with pytest.raises(ValueError, match="`of` must know weight"):
        prune_keras.prune(network(), target={"weight_bytes": 0.5}, of=of)


def test_samples_that_nothing_looked_at_are_not_told_of():
    many = np.zeros((9000, 8), "float32") + X[:1]
    asked = {"target": {"params": 0.5}, "criterion": "l2"}
    told = [
        prune_keras.prune(network(), data=many, fuse=f, **asked)[1].notes for f in (None, "bias")
    ]
    assert not told[0] and "of 9,000 samples" in " ".join(told[1])


def test_memory_that_bounds_a_fit_is_told_of_and_leaves_enough_samples():
    batches = [(X[n : n + 1], Y[n : n + 1]) for n in range(300)]
    asked = {"target": {"params": 0.5}, "criterion": "l2", "data": batches}
    _, report = prune_keras.prune(network(), fuse=Refit(memory=300), **asked)
    assert "fitted on 4 samples, as more would take over" in " ".join(report.notes)
    _, report = prune_keras.prune(network(), fuse=Refit(), **asked)
    assert "as more would" not in " ".join(report.notes)
