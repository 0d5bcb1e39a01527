"""Few batches: they are run without compiling, give the same numbers, and leave no trace either."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import _backend
from prune_keras.repair.fusing import fused
from prune_keras.repair.recalibration import recalibrate
from prune_keras.samples.batches import Samples, batches, number_of_batches
from prune_keras.surgery import kept_neurons

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(size=(12, 8, 8, 3)).astype("float32")
CLASSES = np.arange(12) % 4
FORWARD = ("apoz", "mean_activation", "activation_std", "reconstruction", "discrimination")
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow chooses"
)


def network():
    keras.utils.set_random_seed(1)
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="a")(x)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Dropout(0.5)(layers.Conv2D(5, 3, strides=2, activation="relu", name="b")(x))
    x = layers.Dense(7, activation="relu", name="c")(layers.Flatten()(x))
    model = keras.Model(inputs, layers.Dense(4, name="d")(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True), metrics=["accuracy"])
    return model


@pytest.fixture
def compiled(monkeypatch):
    """Counts what is compiled."""
    seen, given = [], _backend.compiled
    monkeypatch.setattr(
        _backend, "compiled", lambda step, model: seen.append(step) or given(step, model)
    )
    return seen


def state_of(model):
    values = [*model.variables, *model.metrics_variables]
    return [np.array(keras.ops.convert_to_numpy(each)) for each in values]


@on_tensorflow
@pytest.mark.parametrize("count", [_backend.FEW, _backend.FEW + 1])
@pytest.mark.parametrize("criterion", ["apoz", "reconstruction"])
def test_few_batches_are_not_compiled_for(criterion, count, compiled):
    prune_keras.score(network(), criterion, IMAGES[: 2 * count], data_batch_size=2)
    assert len(compiled) == (count > _backend.FEW)


@on_tensorflow
def test_batches_of_unknown_number_and_gradients_are_compiled_for(compiled):
    prune_keras.score(network(), "apoz", iter([IMAGES]))
    prune_keras.score(network(), "taylor", (IMAGES, CLASSES))
    assert len(compiled) == 2


@on_tensorflow
@pytest.mark.parametrize("criterion", FORWARD)
def test_scores_are_the_same_either_way_and_the_model_as_before(criterion, monkeypatch):
    found, model = [], network()
    model.evaluate(IMAGES, CLASSES, verbose=0)
    before = state_of(model)
    for few in (0, 100):
        monkeypatch.setattr(_backend.compiling, "FEW", few)
        data = Samples((IMAGES, CLASSES), 5)
        found.append(prune_keras.score(model, criterion, data.data, data_batch_size=5, seed=0))
        for old, now in zip(before, state_of(model), strict=True):
            np.testing.assert_array_equal(old, now)
    for path, scores in found[0].items():
        np.testing.assert_allclose(found[1][path], scores, rtol=1e-4, atol=1e-6)


@on_tensorflow
def test_repair_is_the_same_either_way(monkeypatch):
    found = []
    for few in (0, 100):
        monkeypatch.setattr(_backend.compiling, "FEW", few)
        model = network()
        graph = prune_keras.trace(model)
        plan = prune_keras.select(graph, prune_keras.score(model, "l2"), fraction=0.3)
        values = fused(model, graph, kept_neurons(graph, plan), Samples(IMAGES, 5), "weights")
        assert recalibrate(model, Samples(IMAGES, 5)) == 1
        found.append([*(value for _, value in values), *state_of(model)])
    assert len(found[0]) > 4
    for compiled, at_once in zip(*found, strict=True):
        np.testing.assert_allclose(at_once, compiled, rtol=1e-3, atol=1e-4)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return IMAGES[4 * place : 4 * place + 4], CLASSES[4 * place : 4 * place + 4]


@pytest.mark.parametrize(
    ("data", "fixed"),
    [
        (IMAGES, None),
        ((IMAGES, CLASSES), 5),
        ([(IMAGES, CLASSES)] * 2, None),
        (Batches(), None),
        (Samples(np.zeros((9000, 1)), 32), None),
        (Samples(np.zeros((9001, 1)), 7), None),
        (Samples(IMAGES, 5), 4),
        (Samples({"x": IMAGES}, 7), None),
    ],
)
def test_the_number_of_batches_is_told_before_they_are_read(data, fixed):
    assert number_of_batches(data, fixed) == len(list(batches(data, fixed_size=fixed)))


def test_the_number_of_batches_of_an_iterator_is_not_known():
    assert number_of_batches(iter([IMAGES])) is None


def test_a_flattened_map_is_reconstructed_as_by_removing_its_channels():
    model = network()
    graph = prune_keras.trace(model)
    read = keras.Model(model.inputs, model.get_layer("c").input)
    x = read.predict(IMAGES, verbose=0)
    kernel = keras.ops.convert_to_numpy(model.get_layer("c").kernel)
    expected = []
    for unit in range(graph.widths["b"]):
        entries = np.arange(unit, len(kernel), graph.widths["b"])
        lost = x[:, entries].astype("float64") @ kernel[entries]
        expected.append(np.sqrt(np.square(lost).sum(axis=1).mean()))
    found = prune_keras.score(model, "reconstruction", IMAGES)["b"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
