"""What a machine has no kernels for is told in one line, before anything is done."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import _backend, _keras
from prune_keras.repair import recalibrate

X = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 2)).astype("float32")


def network():
    inputs = keras.Input((3, 8, 8))
    x = layers.Conv2D(4, 3, data_format="channels_first", name="conv")(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.GlobalAveragePooling2D("channels_first")(x)
    model = keras.Model(inputs, layers.Dense(2)(x), name="net")
    model.compile("sgd", "mse")
    return model


@pytest.fixture
def unable(monkeypatch):
    """Let this machine have no kernels with channels in front."""
    monkeypatch.setattr(
        _backend,
        "has_kernel",
        lambda operation, rank, data_format, *others: data_format == "channels_last",
    )


RUNS = {
    "latency": lambda model: prune_keras.latency(model),
    "scores": lambda model: prune_keras.score(model, "apoz", X),
    "scores by gradients": lambda model: prune_keras.score(model, "taylor", (X, Y)),
    "repair": lambda model: prune_keras.prune(model, fraction=0.5, criterion="l2", data=X),
    "recalibration": lambda model: recalibrate(model, X),
    "sensitivity": lambda model: prune_keras.sensitivity(model, (X, Y), monitor="loss"),
}


@pytest.mark.parametrize("run", RUNS)
def test_what_runs_a_model_says_what_the_machine_lacks(run, unable):
    model = network()
    before = model.get_weights()
    with pytest.raises(
        ValueError, match=r"layer 'conv' \(Conv2D, channels_first, float32\) of 'net'.*_OPTS=1"
    ):
        RUNS[run](model)
    np.testing.assert_equal(model.get_weights(), before)


def test_what_runs_nothing_works(unable):
    thin, _ = prune_keras.prune(network(), fraction=0.5)
    assert thin.get_layer("conv").filters < 4


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_export_compares_what_it_can_and_tells_so(suffix, unable, tmp_path):
    with pytest.warns(UserWarning, match=r"compared by weights and configs only.*layer 'conv'"):
        path = prune_keras.export(network(), tmp_path / f"model{suffix}")
    assert keras.models.load_model(path, compile=False).get_layer("conv").filters == 4


def test_export_without_a_kernel_still_compares_configs(unable, tmp_path, monkeypatch):
    load = keras.models.load_model

    def changed(path, **arguments):
        model = load(path, **arguments)
        model.get_layer("conv").activation = keras.activations.relu
        return model

    monkeypatch.setattr(keras.models, "load_model", changed)
    with pytest.raises(ValueError, match="layer 'conv', whose config differs after reading"):
        prune_keras.export(network(), tmp_path / "model.keras")
    assert not [*tmp_path.iterdir()]


FIRST = {"data_format": "channels_first"}
LAYERS = {
    "conv": (lambda **a: layers.Conv2D(2, 2, **a), 2),
    "strided": (lambda **a: layers.Conv2D(2, 2, strides=2, **a), 2),
    "dilated": (lambda **a: layers.Conv2D(2, 2, dilation_rate=2, **a), 2),
    "groups": (lambda **a: layers.Conv2D(4, 2, groups=2, **a), 2),
    "conv of one axis": (lambda **a: layers.Conv1D(2, 2, **a), 1),
    "conv of three axes": (lambda **a: layers.Conv3D(2, 2, **a), 3),
    "transposed": (lambda **a: layers.Conv2DTranspose(2, 2, **a), 2),
    "transposed and dilated": (lambda **a: layers.Conv2DTranspose(2, 2, dilation_rate=2, **a), 2),
    "depthwise": (lambda **a: layers.DepthwiseConv2D(2, **a), 2),
    "separable": (lambda **a: layers.SeparableConv2D(2, 2, **a), 2),
    "max": (lambda **a: layers.MaxPooling2D(2, **a), 2),
    "max of three axes": (lambda **a: layers.MaxPooling3D(2, **a), 3),
    "average": (lambda **a: layers.AveragePooling2D(2, **a), 2),
    "recurrent": (lambda **a: layers.ConvLSTM2D(2, 2, **a), 3),
}


@pytest.mark.repeats(20)
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="others compile what they need")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
@pytest.mark.parametrize("kind", LAYERS)
def test_the_answer_is_what_a_layer_does(kind, data_format, dtype):
    make, rank = LAYERS[kind]
    layer = make(data_format=data_format, dtype=dtype)
    shape = (3, 2, 6, 6) if kind == "recurrent" and data_format == "channels_first" else None
    shape = shape or ((2, *[6] * rank) if data_format == "channels_first" else (*[6] * rank, 2))
    inputs = keras.Input(shape, dtype=dtype)
    model = keras.Model(inputs, layer(inputs))
    try:
        model(np.ones((1, *shape), dtype))
        runs = True
    except Exception:
        runs = False
    assert (_keras.missing_kernel(model) is None) == runs


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="oneDNN is TensorFlow's")
def test_a_processor_without_onednn(tmp_path):
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "model.keras").exists()
    assert not result.stdout or result.stdout.startswith("A model that is run must have layers")


PROGRAM = """
import keras, prune_keras
inputs = keras.Input((2, 5, 5))
x = keras.layers.Conv2D(2, 3, data_format="channels_first")(inputs)
model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
prune_keras.export(model, "model.keras")
try:
    prune_keras.latency(model, repeats=1)
except ValueError as error:
    print(error)
"""
