"""How data are read: sizes of batches, how many samples of arrays, weights of samples."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.callbacks import ProgressivePruning, ScoreHistory
from prune_keras.samples.batches import MOST, Samples, batches, size_of
from prune_keras.samples.inputs import joined

RNG = np.random.default_rng(0)
X = RNG.normal(size=(21, 4)).astype("float32")
Y = RNG.integers(0, 3, 21)
WEIGHTS = RNG.uniform(0, 3, 21).astype("float32")


def network():
    keras.utils.set_random_seed(0)
    hidden = layers.Dense(5, activation="tanh", name="a")
    last = layers.Dense(3, activation="softmax", name="b")
    model = keras.Sequential([keras.Input((4,)), hidden, last])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def gate_slopes(model, weights):
    """Return the slope of each sample's weighted loss by a gate on each unit, in NumPy."""
    (kernel, bias), (last, shift) = (layer.get_weights() for layer in model.layers)
    units = np.tanh(X.astype("float64") @ kernel + bias)
    powers = np.exp(units @ last + shift)
    error = powers / powers.sum(1, keepdims=True) - np.eye(3)[Y]
    return weights[:, None] * units * (error @ last.T)


@pytest.mark.parametrize("data", ["arrays", "batches"])
def test_taylor_weighs_samples(data):
    model = network()
    given = (X, Y, WEIGHTS)
    if data == "batches":
        given = [tuple(part[cut] for part in given) for cut in (slice(4), slice(4, 21))]
    found = prune_keras.score(model, "taylor", given, data_batch_size=6)["a"]
    expected = np.abs(gate_slopes(model, WEIGHTS)).mean(0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    plain = prune_keras.score(model, "taylor", (X, Y))["a"]
    np.testing.assert_allclose(plain, np.abs(gate_slopes(model, np.ones(21))).mean(0), rtol=1e-4)


def test_other_losses_weigh_samples_too():
    model = network()
    kernel = model.get_layer("a").get_weights()[0].astype("float64")
    units = np.tanh(X.astype("float64") @ kernel + model.get_layer("a").get_weights()[1])
    slopes = gate_slopes(model, WEIGHTS) / units * (1 - units**2)  # by what comes into tanh
    gradient = X.T.astype("float64") @ slopes / 21
    found = prune_keras.score(model, "taylor_weights", (X, Y, WEIGHTS))["a"]
    np.testing.assert_allclose(found, (kernel * gradient).sum(0) ** 2, rtol=1e-3, atol=1e-9)
    only = np.where(np.arange(21) < 9, 21 / 9, 0).astype("float32")
    chosen = prune_keras.score(model, "oracle", (X[:9], Y[:9]))["a"]
    weighted = prune_keras.score(model, "oracle", (X, Y, only))["a"]
    np.testing.assert_allclose(weighted, chosen, atol=1e-5)


@pytest.mark.parametrize("criterion", ["taylor", "reconstruction", "activation_std", "oracle"])
def test_scores_do_not_depend_on_the_size_of_batches(criterion):
    model = network()
    scores = [prune_keras.score(model, criterion, (X, Y), data_batch_size=n)["a"] for n in (4, 21)]
    np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-6)


def test_arrays_come_in_batches_of_32_or_as_many_as_are_asked_for():
    assert [size_of(x) for x, _, _ in batches(np.zeros((96, 2)))] == [32, 32, 32]
    for size in (1, 7, 64):
        found = [size_of(x) for x, _, _ in batches(Samples.of(np.zeros((96, 2)), size))]
        assert max(found) <= size
        assert sum(found) == 96
    given = [(np.zeros((5, 2)),), (np.zeros((3, 2)),)]
    assert [size_of(x) for x, _, _ in batches(Samples.of(given, 1))] == [5, 3]
    assert Samples.of(None, 8) is None


@pytest.mark.parametrize("size", [1, 32, 100, 1000, 5000])
def test_of_many_samples_some_are_taken_from_everywhere(size):
    count = 40_000
    samples = Samples.of((np.arange(count), np.arange(count) % 10), size)
    found = [(x, y) for x, y, _ in batches(samples)]
    places, classes = (np.concatenate(part) for part in zip(*found, strict=True))
    assert len(set(places.tolist())) == len(places)
    assert abs(len(places) - MOST) <= max(size, 64)
    np.testing.assert_array_equal(places % 10, classes)
    if size < 1000:  # classes that take turns
        assert np.bincount(classes, minlength=10).min() > 0.08 * len(places)
    assert np.histogram(places, 10)[0].min() > 0.08 * len(places)  # sorted ones
    (note,) = samples.note
    assert f"{len(places):,} of 40,000 samples" in note
    again = np.concatenate([x for x, _, _ in batches(samples)])
    np.testing.assert_array_equal(places, again)


def test_no_sample_is_left_out_of_fewer_or_of_batches():
    few = Samples.of(np.arange(MOST))
    assert sum(size_of(x) for x, _, _ in batches(few)) == MOST
    assert few.note == ()
    many = Samples.of([(np.arange(MOST),)] * 2)
    assert sum(size_of(x) for x, _, _ in batches(many)) == 2 * MOST
    assert many.note == ()


def test_what_is_left_out_is_told():
    data = (np.tile(X, (400, 1)), np.tile(Y, 400))
    _, report = prune_keras.prune(network(), fraction=0.3, criterion="apoz", fuse=None, data=data)
    assert any("of 8,400 samples" in note for note in report.notes)
    _, report = prune_keras.prune(network(), fraction=0.3, criterion="apoz", fuse=None, data=X)
    assert not any("samples" in note for note in report.notes)


@pytest.mark.parametrize(
    ("sizes", "least", "steps", "expected"),
    [
        ([3, 3, 1], 1, None, [3, 3, 1]),
        ([3, 3, 1], 2, None, [3, 4]),
        ([1, 1, 1, 1, 1], 2, None, [2, 3]),
        ([1, 1], 5, None, [2]),
        ([4, 1, 4, 1], 3, None, [4, 6]),
        ([4, 1, 4, 1], 3, 1, [4]),
        ([2, 2, 2], 2, 2, [2, 2]),
        ([1000, 200, 100, 7], 1, None, [1000, 200, 100]),
    ],
)
def test_batches_are_joined_until_they_hold_enough(sizes, least, steps, expected):
    rows = [[ops.ones((size, 2)), ops.zeros((size, 1))] for size in sizes]
    found = list(joined(rows, least, steps))
    assert [int(x.shape[0]) for x, _ in found] == expected
    assert [int(y.shape[0]) for _, y in found] == expected


@pytest.mark.parametrize(
    "targets", [Y, Y[:, None].astype("float32"), np.eye(3)[Y]], ids=["numbers", "column", "shares"]
)
def test_classes_weigh_what_they_weigh_in_keras(targets):
    from keras.src.trainers.data_adapters.data_adapter_utils import class_weight_to_sample_weights

    weight = {0: 0.5, 2: 3.0}
    expected = class_weight_to_sample_weights(targets, weight)
    ((_, _, found),) = batches(Samples.of((X, targets), 21, weight))
    np.testing.assert_array_equal(found, expected)
    ((_, _, found),) = batches(Samples.of((X, targets, WEIGHTS), 21, weight))
    np.testing.assert_array_equal(found, WEIGHTS)
    ((_, _, found),) = batches(Samples.of(X, 21, weight))
    assert found is None


ASKING = {
    "score": lambda size: prune_keras.score(network(), "taylor", (X, Y), data_batch_size=size),
    "prune": lambda size: prune_keras.prune(network(), fraction=0.3, data_batch_size=size),
    "sensitivity": lambda size: prune_keras.sensitivity(network(), (X, Y), data_batch_size=size),
    "fit_affine": lambda size: prune_keras.fit_affine(network(), data=(X, Y), data_batch_size=size),
    "ProgressivePruning": lambda size: ProgressivePruning({"params": 0.5}, data_batch_size=size),
    "ScoreHistory": lambda size: ScoreHistory(data_batch_size=size),
}


@pytest.mark.parametrize("name", ASKING)
@pytest.mark.parametrize("size", [0, 2.5])
def test_sizes_of_batches_are_counts(name, size):
    with pytest.raises(ValueError, match=f"`data_batch_size` must be .*Received.*{size}"):
        ASKING[name](size)


def test_sensitivity_and_others_take_a_size():
    model = network()
    shares = {"shares": (0.5,), "monitor": "loss", "criterion": "taylor"}
    tables = [prune_keras.sensitivity(model, (X, Y), data_batch_size=n, **shares) for n in (3, 21)]
    rows = [[row["loss"] for row in table.rows()] for table in tables]
    np.testing.assert_allclose(*rows, rtol=1e-5)
    plan = prune_keras.Plan({"a": np.arange(3)}, {"a": 5})
    drawn = [prune_keras.diversify(model, plan, X, seed=0, data_batch_size=n) for n in (3, 21)]
    assert drawn[0] == drawn[1]
