"""Activations that are not looked up by name: tried on numbers, or told why they are not alone."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from read_rows import between, check_rows, reason

import prune_keras


def scaled(x, by):
    return by * ops.tanh(x)


class Own:
    """An object that is called."""

    def __call__(self, x):
        return ops.where(x > 1, x, ops.square(x))


ALONE = {
    "ops": ops.silu,
    "ops_gelu": ops.gelu,
    "lambda": lambda x: x * ops.sigmoid(1.702 * x),
    "partial": functools.partial(scaled, by=2.0),
    "object": Own(),
    "layer": layers.LeakyReLU(0.1),
    "layer_with_noise": layers.GaussianNoise(0.3),
    "constant": lambda x: ops.add(x, np.ones(1, "float32")),
    "bounded": lambda x: ops.clip(x, -0.5, 0.5),
}
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    ALONE |= {
        "tf_relu": tf.nn.relu,
        "tf_gelu": tf.nn.gelu,
        "tf_swish": tf.nn.swish,
        "tf_function": tf.function(lambda x: tf.sin(x) + x),
    }

COPIED = ("ops", "ops_gelu", "layer", "layer_with_noise", "tf_relu", "tf_gelu")  # by Keras

MAKERS = {
    "Dense": lambda f: layers.Dense(5, activation=f, name="a"),
    "Conv1D": lambda f: layers.Conv1D(5, 3, activation=f, name="a"),
    "SeparableConv1D": lambda f: layers.SeparableConv1D(5, 3, activation=f, name="a"),
    "EinsumDense": lambda f: layers.EinsumDense("btc,cd->btd", (6, 5), activation=f, name="a"),
    "LSTM": lambda f: layers.LSTM(5, activation=f, return_sequences=True, name="a"),
    "GRU": lambda f: layers.GRU(5, recurrent_activation=f, return_sequences=True, name="a"),
}


def made(maker, function):
    inputs = keras.Input((6, 3))
    x = layers.Dense(4, name="read")(maker(function)(inputs))
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


@pytest.mark.repeats(7)
@pytest.mark.parametrize("name", ALONE)
def test_what_acts_on_each_unit_alone_is_pruned(name):
    check_rows(between(lambda x: x, activation=ALONE[name]), copied=name in COPIED)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_layer_tries_its_activation(kind):
    assert prune_keras.trace(made(MAKERS[kind], ALONE["lambda"])).widths == {"a": 5, "read": 4}
    mixing = made(MAKERS[kind], lambda x: x - ops.mean(x, axis=-1, keepdims=True))
    assert "lets one change others; write" in reason(mixing)


def test_convolutions_of_channels_first_try_the_axis_of_channels():
    def model(axis):
        inputs = keras.Input((3, 6, 6))
        x = layers.Conv2D(
            4,
            1,
            activation=lambda x: x - ops.max(x, axis, keepdims=True),
            data_format="channels_first",
            name="a",
        )(inputs)
        return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))

    assert "a" in prune_keras.trace(model(3)).widths
    assert "lets one change others" in reason(model(1))


def of_one(x):
    return x * ops.convert_to_tensor([1.0, 1.0, 1.0, 1.0, 2.0])


MIXING = {
    "softmax": (keras.activations.softmax, "lets one change others"),
    "log_softmax": (ops.log_softmax, "lets one change others"),
    "glu": (lambda x: ops.flip(ops.concatenate([x[..., :1], x[..., 1:]], -1), -1), "change others"),
    "normalized": (lambda x: x / (1e-3 + ops.norm(x, axis=-1, keepdims=True)), "change others"),
    "rare": (lambda x: x * (ops.max(ops.abs(x), -1, keepdims=True) < 5.0), "change others"),
    "by_place": (lambda x: x * ops.arange(ops.shape(x)[-1], dtype="float32"), "places"),
    "by_number": (lambda x: x / ops.shape(x)[-1], "how many there are"),
    "array": (of_one, "how many there are"),
    "random": (
        lambda x: x + keras.random.normal((1,), seed=keras.random.SeedGenerator()),
        "random",
    ),
    "fewer": (lambda x: ops.repeat(ops.mean(x, -1, keepdims=True), 5, -1), "change others"),
}


@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_units_is_fixed_and_told_how(name):
    function, told = MIXING[name]
    assert told in reason(between(lambda x: x, activation=function))
    assert told in reason(between(layers.Activation(function)))


def test_an_activation_layer_of_channels_that_lie_elsewhere_is_tried_there():
    activation = layers.Activation(lambda y: y - ops.max(y, axis=-1, keepdims=True))
    turned = [layers.Permute((2, 1)) for _ in range(2)]
    check_rows(between(lambda x: turned[1](activation(turned[0](x)))), copied=False)


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.parametrize("as_layer", [True, False])
def test_a_prelu_as_activation_loses_entries_with_the_units(as_layer, built):
    """It is built when the model is first run."""
    prelu = layers.PReLU(alpha_initializer="ones" if built else "zeros")
    if as_layer:
        model = between(layers.Activation(prelu))
    else:
        model = between(lambda x: x, activation=prelu)
    if built:
        model(np.ones((2, 6, 3)))
        prelu.alpha.assign(np.random.default_rng(0).normal(size=(6, 5)))
    check_rows(model, copied=not built)
    assert prelu.alpha.shape == (6, 3)


def test_other_layers_with_weights_as_activations_keep_the_units():
    model = between(lambda x: x, activation=layers.BatchNormalization())
    assert "is not built yet; call the model once" in reason(model)
    model(np.ones((2, 6, 3)))
    assert "has weights; call it behind the layer" in reason(model)


CALLED = "relu gelu leaky_relu relu6 elu silu tanh softplus hard_sigmoid exponential selu celu"


@pytest.mark.repeats(7)
@pytest.mark.parametrize("name", [*CALLED.split(), "squareplus", "sigmoid", "linear"])
def test_functions_of_keras_called_on_tensors(name, tmp_path):
    check_rows(between(getattr(keras.activations, name)))


def test_a_relu_with_bounds_called_on_a_tensor():
    check_rows(between(lambda x: keras.activations.relu(x, 0.1, max_value=1.0, threshold=0.2)))


def test_trials_leave_random_states_as_they_were():
    import random

    model = between(lambda x: x, activation=ALONE["lambda"])
    keras.utils.set_random_seed(3)
    expected = random.random(), np.random.rand(), float(keras.random.uniform(()))
    keras.utils.set_random_seed(3)
    prune_keras.trace(model)
    assert (random.random(), np.random.rand(), float(keras.random.uniform(()))) == expected
