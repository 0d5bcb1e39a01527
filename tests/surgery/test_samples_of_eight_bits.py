"""Samples that eight bits are found on: of another shape, not finite, or scaled otherwise."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import QuantizationAware
from prune_keras.quantizing.quantization import BEYOND

X = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype("float32")
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT files are written with TensorFlow"
)


def network():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="a"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax", name="classes"),
        ]
    )


def late(value):
    """Samples of which one is not finite, beyond those that outputs are compared on."""
    x = X.copy()
    x[-1, 0, 0, 0] = value
    return x


REFUSED = {
    "lower": (X[:, :6], "shape of the model's input"),
    "higher": (np.repeat(X, 2, 1), "shape of the model's input"),
    "fewer channels": (X[..., :1], "shape of the model's input"),
    "flat": (X.reshape(40, -1), "shape of the model's input"),
    "one sample": (X[0], "shape of the model's input"),
    "nan": (late(np.nan), "must be finite"),
    "inf": (late(np.inf), "must be finite"),
}


def by_litert(model, data, path):
    prune_keras.export(model, path, int8=data)


def by_litert_beside_samples(model, data, path):
    prune_keras.export(model, path, X[:4], int8=data)


def by_calibrating(model, data, path):
    prune_keras.calibrate(model, data)


def in_training(model, data, path):
    model.compile("sgd", "mse")
    aware = QuantizationAware(data)
    model.fit(X, np.zeros((40, 2)), callbacks=[aware], verbose=0)


WAYS = {
    "litert": pytest.param(by_litert, marks=on_tensorflow),
    "litert, samples": pytest.param(by_litert_beside_samples, marks=on_tensorflow),
    "calibrate": by_calibrating,
    "training": in_training,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_model_could_not_be_given_is_refused_as_such(name, way, tmp_path):
    model, (data, message) = network(), REFUSED[name]
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        way(model, data, tmp_path / "model.tflite")
    assert not [*tmp_path.iterdir()]
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@on_tensorflow
def test_samples_to_compare_on_are_looked_at_too(tmp_path):
    model = network()
    grids = prune_keras.calibrate(model, X)
    for int8 in (grids, X):
        with pytest.raises(ValueError, match="shape of the model's input"):
            prune_keras.export(model, tmp_path / "model.tflite", X[:, :6], int8=int8)


@on_tensorflow
def test_grids_that_samples_lie_far_outside_of_are_refused(tmp_path):
    model, path = network(), tmp_path / "model.tflite"
    fits = prune_keras.calibrate(model, X)
    prune_keras.export(model, path, X, int8=fits)
    few = prune_keras.calibrate(model, X / (2 * BEYOND + 2))
    path.unlink()
    with pytest.raises(ValueError, match="for the input of .*Take prune_keras.calibrate"):
        prune_keras.export(model, path, X, int8=few)
    layer = model.get_layer("a")
    layer.kernel.assign(layer.kernel * 4 * BEYOND)
    with pytest.raises(ValueError, match="for the output of 'a' of "):
        prune_keras.export(model, path, X, int8=fits)
    assert not path.exists()
