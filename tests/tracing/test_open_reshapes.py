"""Reshaping where some sizes are open: channels are followed as long as no size decides."""

import keras
import numpy as np
import pytest
from keras import layers
from read_rows import check_rows, reason

import prune_keras


def model_of(target, shape, reshape=None, rank=None):
    """Return a model in which `a` makes 5 channels that are reshaped before `read` reads them."""
    inputs = keras.Input(shape)
    x = layers.Dense(5, name="a")(inputs)
    x = layers.Reshape(target)(x) if reshape is None else reshape(x)
    x = layers.Dense(3, name="read", activation="tanh")(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def times(count):
    return lambda unit: [unit + 5 * each for each in range(count)]


CASES = {
    "speech": ((-1, 4 * 5), (None, 4, 3), times(4)),
    "positions": ((-1, 5), (None, 4, 3), times(1)),
    "both_open": ((-1, 5), (None, None, 3), times(1)),
    "split": ((-1, 2, 10), (None, 4, 3), times(2)),
    "merged_time": ((-1, 10), (None, 3), times(2)),
    "same": ((-1, 4, 5), (None, 4, 3), times(1)),
    "behind": ((2, -1, 5), (4, None, 3), times(1)),
    "in_front": ((4, -1, 5), (4, None, 3), times(1)),
    "closed": ((3, 5), (None, 3), times(1)),
}


@pytest.mark.parametrize("name", CASES)
def test_channels_pass_through_open_axes(name, tmp_path):
    target, shape, rows = CASES[name]
    model = model_of(target, shape)
    size = 3 if name == "closed" else 6
    x = np.random.default_rng(0).normal(size=(2, *(size if s is None else s for s in shape)))
    check_rows(model, tmp_path, rows, [x.astype("float32")])


def test_what_the_target_leaves_open_stays_open(tmp_path):
    model = model_of((-1, 20), (None, 4, 3))
    graph = prune_keras.trace(model, input_shape=(6, 4, 3))
    plan = prune_keras.select(graph, prune_keras.score(model), fraction=0.3)
    prune_keras.shrink_in_place(model, plan)
    reshape = next(each for each in model.layers if isinstance(each, layers.Reshape))
    assert reshape.target_shape == (-1, 4 * model.get_layer("a").units)
    for size in (3, 7):
        assert model(np.ones((2, size, 4, 3))).shape == (2, size, 2)


def test_a_raw_operation_with_a_fixed_batch():
    inputs = keras.Input(batch_shape=(2, None, 4, 3))
    x = keras.ops.reshape(layers.Dense(5, name="a")(inputs), (2, -1, 20))
    x = layers.Dense(3, name="read")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype("float32")
    check_rows(model, None, times(4), [x])


@pytest.mark.parametrize(
    ("target", "shape"),
    [((-1, 4), (None, 4, 3)), ((5, -1, 2), (4, None, 3))],
)
def test_what_a_size_decides_stays(target, shape):
    assert "reshapes an axis of unknown size" in reason(model_of(target, shape))


def test_a_raw_reshape_that_joins_an_open_axis_with_the_batch():
    model = model_of(None, (None, 4, 3), lambda x: keras.ops.reshape(x, (-1, 20)))
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype("float32")
    check_rows(model, None, times(4), [x])


def test_raw_reshapes_that_may_move_channels_into_the_batch_stay():
    model = model_of(None, (None, 4, 3), lambda x: keras.ops.reshape(x, (-1, 10)))
    assert "moves, joins or splits the batch" in reason(model)
