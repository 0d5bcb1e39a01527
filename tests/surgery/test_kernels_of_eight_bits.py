"""Which calls LiteRT holds in eight bits, and which ones it would leave in floating point."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.quantizing import calibrate
from prune_keras.quantizing.litert import Interpreted, converted
from prune_keras.quantizing.points import points

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT files are written with TensorFlow"
)


def ending(end, shape=(8, 8, 8)):
    given = keras.Input(shape)
    return keras.Model(given, end(given))


def conv(x, kind=keras.layers.Conv2D, **options):
    return kind(8, 3, padding="same", name="a", **options)(x)


LEFT_IN_FLOATS = {
    "'b' of type Multiply of 3 tensors": lambda x: keras.layers.Multiply(name="b")([x, x, x]),
    "'b' of type BatchNormalization with axis=1": lambda x: keras.layers.BatchNormalization(
        axis=1, name="b"
    )(conv(x)),
    "'b' of type BatchNormalization with axis=-2": lambda x: keras.layers.BatchNormalization(
        axis=-2, name="b"
    )(keras.layers.Dense(4)(x)),
    "'b' of type RangeBatchNormalization with axis=2": lambda x: (
        prune_keras.RangeBatchNormalization(axis=2, name="b")(conv(x))
    ),
    "'pad.*' of type Pad with constant_values=-5.0": lambda x: keras.ops.pad(
        conv(x), [[0, 0], [1, 1], [0, 0], [0, 0]], constant_values=-5.0
    ),
    "'b' of type Softmax over axis=.1, 2": lambda x: keras.layers.Softmax((1, 2), name="b")(x),
    "'b' of type Dense on 5 axes": lambda x: keras.layers.Dense(2, name="b")(
        keras.layers.Reshape((8, 8, 2, 4))(x)
    ),
    "'b' of type Average": lambda x: keras.layers.Average(name="b")([x, x]),
    "'b' of type Maximum": lambda x: keras.layers.Maximum(name="b")([x, x, x]),
    "'b' of type Subtract": lambda x: keras.layers.Subtract(name="b")([x, x]),
    "'b' of type Add": lambda x: keras.layers.Add(name="b")([x, x, x]),
}


@pytest.mark.parametrize("match", LEFT_IN_FLOATS)
def test_what_the_converter_leaves_in_floats_is_refused_by_name(match):
    with pytest.raises(ValueError, match=match):
        points(ending(LEFT_IN_FLOATS[match]))


def test_channels_first_is_refused_where_no_kernel_takes_it():
    first = keras.layers.Conv1D(4, 3, data_format="channels_first", name="a")
    with pytest.raises(ValueError, match="'a' of type Conv1D with data_format='channels_first'"):
        points(ending(first, (4, 9)))


HELD = {
    "concatenate three": (lambda x: keras.layers.Concatenate()([conv(x), x, x]), (8, 8, 8)),
    "pad by zeros": (
        lambda x: keras.ops.pad(conv(x), [[0, 0], [1, 1], [0, 0], [0, 0]], constant_values=0.0),
        (8, 8, 8),
    ),
    "multiply two": (lambda x: keras.layers.Multiply()([conv(x), x]), (8, 8, 8)),
    "last axis by number": (
        lambda x: keras.layers.ReLU()(
            keras.layers.BatchNormalization(axis=2)(conv(x, keras.layers.Conv1D))
        ),
        (6, 8),
    ),
    "last axis of Dense": (
        lambda x: keras.layers.BatchNormalization(axis=2)(keras.layers.Dense(5)(x)),
        (6, 8),
    ),
    "one axis in a list": (lambda x: keras.layers.Softmax([2])(conv(x)), (8, 8, 8)),
}


@on_tensorflow
@pytest.mark.parametrize("case", HELD)
def test_what_is_like_it_is_all_in_eight_bits(case):
    model = ending(*HELD[case])
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(np.linspace(-0.2, 0.2, layer.moving_mean.shape[0]))
    x = np.random.default_rng(0).normal(size=(16, *model.input_shape[1:])).astype("float32")
    held = calibrate(model, x)
    found = Interpreted(converted(model, held))
    assert "float32" not in found.kinds
    with held.running(model):
        expected = np.array(model(x, training=False))
    assert np.mean(np.abs(found(x) - expected) > 1.01 * found.output_step) < 0.02
