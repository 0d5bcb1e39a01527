"""Batches, samples and strides of any size: scores are the same however samples are laid out."""

import keras
import numpy as np
import pytest
from fits import compiled

import prune_keras
from prune_keras import criteria, score

WITH_DATA = sorted(name for name, each in criteria.CRITERIA.items() if criteria.needs_data(each))
BY_BATCH = ("sensitivity", "taylor_weights")  # what they average is a gradient of a whole batch
RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 8, 8, 2)).astype("float32")
Y = np.arange(10) % 3
UNEVEN = [(X[:4], Y[:4]), (X[4:8], Y[4:8]), (X[8:], Y[8:])]


def network(size=8):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 2))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="a")(inputs)
    x = keras.layers.Conv2D(5, 3, activation="relu", name="b")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return compiled(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x)))


@pytest.mark.parametrize("name", [name for name in WITH_DATA if name not in BY_BATCH])
def test_batches_of_several_sizes_score_as_one(name):
    model = network()
    whole, parts = score(model, name, (X, Y), seed=0), score(model, name, UNEVEN, seed=0)
    for path, values in whole.items():
        np.testing.assert_allclose(parts[path], values, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", WITH_DATA)
def test_samples_of_several_sizes_are_scored(name):
    model = network(None)
    data = [(X[:4], Y[:4]), (X[4:8, :7, :6], Y[4:8]), (X[8:], Y[8:]), (X[:3, :6], Y[:3])]
    for path, values in score(model, name, data, seed=0).items():
        assert np.isfinite(values).all() and len(np.unique(values)) > 1, path


@pytest.mark.parametrize("name", WITH_DATA)
def test_outputs_of_several_sizes_are_scored(name):
    if name == "discrimination":
        pytest.skip("needs one class a sample")
    inputs = keras.Input((None, 4))
    x = keras.layers.Conv1D(6, 1, activation="relu", name="a")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    model.compile("sgd", "mse")
    data = [(RNG.normal(size=(3, n, 4)), RNG.normal(size=(3, n, 2))) for n in (5, 6, 5, 7)]
    assert np.isfinite(score(model, name, data, seed=0)["a"]).all()


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("strides", [(2, 1), (1, 3)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
def test_unequal_strides_respond_as_measured(padding, strides, kernel, monkeypatch):
    def only_equal(*arguments, strides, **others):  # as TensorFlow has it without oneDNN
        assert len(set(strides)) == 1
        return depthwise(*arguments, strides=strides, **others)

    depthwise = keras.ops.depthwise_conv
    monkeypatch.setattr(keras.ops, "depthwise_conv", only_equal)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="a")(inputs)
    reader = keras.layers.Conv2D(5, kernel, strides, padding, name="b", use_bias=False)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(reader(x)))
    shown = keras.ops.convert_to_numpy(model.layers[1](X))
    expected = []
    for unit in range(6):
        only = np.zeros_like(shown)
        only[..., unit] = shown[..., unit]
        response = keras.ops.convert_to_numpy(reader(only))
        expected.append(np.sqrt(np.square(response).sum(-1).mean()))
    np.testing.assert_allclose(score(model, "reconstruction", X)["a"], expected, rtol=1e-4)
    prune_keras.prune(model, target={"params": 0.7}, data=X)
