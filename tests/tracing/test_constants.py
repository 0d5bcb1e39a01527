"""Constant arrays in raw operations lose the entries of channels that go."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.ops import numpy as raw
from read_rows import between, check_rows, reason

import prune_keras

PER_CHANNEL = np.linspace(0.5, 2, 5).astype("float32")
POSITIONS = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")

JOINED = {
    "multiplied": lambda x: x * PER_CHANNEL,
    "tensor": lambda x: ops.subtract(x, ops.convert_to_tensor(PER_CHANNEL)),
    "first": lambda x: ops.subtract(PER_CHANNEL, x),
    "keyword": lambda x: raw.Multiply()(x1=PER_CHANNEL, x2=x),
    "positions": lambda x: x + POSITIONS,
    "batched": lambda x: ops.add(x, POSITIONS[None]),
    "both": lambda x: (x - POSITIONS) / PER_CHANNEL,
    "where": lambda x: ops.where(POSITIONS > 0, x, PER_CHANNEL),
    "gate": lambda x: x * POSITIONS[:, :1],
    "scalars": lambda x: x * np.float32(2) + np.ones((1, 1), "float32"),
    "matmul": lambda x: x * PER_CHANNEL + ops.matmul(x, np.ones((5, 1), "float32")) * 0,
    "maximum": lambda x: ops.maximum(x, POSITIONS),
    "two_tensors": lambda x: ops.add(x, x * PER_CHANNEL) + POSITIONS,
    "added by a layer": lambda x: layers.Add()([x, POSITIONS[None]]),
    "multiplied by a layer": lambda x: layers.Multiply()([x, PER_CHANNEL[None, None]]),
    "batch_normalization": lambda x: ops.batch_normalization(
        x, PER_CHANNEL, PER_CHANNEL, -1, offset=PER_CHANNEL, scale=PER_CHANNEL
    ),
}


@pytest.mark.parametrize("name", JOINED)
def test_arrays_along_channels_are_sliced(name, tmp_path):
    check_rows(between(JOINED[name]), tmp_path)


def test_channels_first_and_elsewhere():
    def positions(x):
        x = layers.Permute((2, 1))(x) + POSITIONS.T
        return layers.Permute((2, 1))(x)

    check_rows(between(positions))


@pytest.mark.parametrize("rows", [1, 5])
def test_a_mask_of_positions_goes_with_the_channels_that_it_tells_apart(rows, tmp_path):
    mask = np.tril(np.ones((1, 6, 5), bool))[..., -rows:].transpose(0, 2, 1)

    def masked(x):
        x = layers.Softmax()(ops.transpose(x, (0, 2, 1)), mask=mask)
        return ops.transpose(x, (0, 2, 1))

    check_rows(between(masked), tmp_path)


def test_a_mask_along_a_softmax_of_channels_lets_none_go():
    model = between(lambda x: layers.Softmax()(x, mask=np.ones((1, 1, 5), bool)))
    assert "is a softmax over them" in reason(model)


def test_a_constant_kernel_reads_the_channels_that_are_left():
    kernel = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    widths, gone = {"a": 5, "read": 3}, [0, 2, 3]
    x = np.random.default_rng(1).normal(size=(2, 6, 3)).astype("float32")
    for subscripts in ("", "btc,cd->btd"):
        model = between(lambda x, s=subscripts: ops.einsum(s, x, kernel) if s else x @ kernel)
        thin = prune_keras.shrink(model, prune_keras.Plan({"a": [1, 4], "read": range(3)}, widths))
        weights = [np.array(each) for each in model.get_layer("a").get_weights()]
        for each in weights:
            each[..., gone] = 0
        model.get_layer("a").set_weights(weights)
        np.testing.assert_allclose(
            ops.convert_to_numpy(thin(x)), ops.convert_to_numpy(model(x)), atol=1e-5
        )


def test_what_a_constant_makes_goes_with_what_it_is_added_to():
    """Channels of a constant that is joined lie beside those of a layer, which may be removed."""

    def joined(x):
        return ops.concatenate([x, np.ones((2, 6, 2), "float32")], axis=-1)

    inputs = keras.Input(batch_shape=(2, 6, 3))
    x = joined(layers.Dense(5, name="a")(inputs))
    both = layers.Add()([x, layers.Dense(7, name="b")(inputs)])
    model = keras.Model(inputs, layers.Dense(2, name="read")(both))
    assert prune_keras.trace(model).widths == {"a": 5, "b": 7}
    plan = prune_keras.Plan({"a": [0, 3], "b": [0, 3, 6]}, {"a": 5, "b": 7})
    x = np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")
    thin = prune_keras.shrink(model, plan)
    kernel = ops.convert_to_numpy(model.get_layer("read").kernel)
    kernel[[1, 2, 4, 5]] = 0
    model.get_layer("read").kernel.assign(kernel)
    np.testing.assert_allclose(
        ops.convert_to_numpy(thin(x)), ops.convert_to_numpy(model(x)), atol=1e-5
    )


def test_a_constant_that_is_joined_at_positions_has_the_same_channels():
    def joined(x):
        return ops.concatenate([np.ones((2, 1, 5), "float32") * PER_CHANNEL, x], axis=1)

    inputs = keras.Input(batch_shape=(2, 6, 3))
    x = joined(layers.Dense(5, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="read")(x))
    check_rows(model, x=[np.random.default_rng(0).normal(size=(2, 6, 3)).astype("float32")])


def test_bounds_are_sliced_in_place():
    """Keras has no config of an operation that holds arrays, so that it cannot be copied."""
    check_rows(between(lambda x: ops.clip(x, -PER_CHANNEL, PER_CHANNEL)), copied=False)


@pytest.mark.parametrize("operation", ["layer_normalization", "rms_normalization"])
def test_scales_of_raw_normalization(operation):
    if not hasattr(ops, operation):
        pytest.skip("newer Keras only")
    model = between(lambda x: getattr(ops, operation)(x, PER_CHANNEL))
    plan = prune_keras.Plan({"a": [0, 2, 3], "read": range(3)}, {"a": 5, "read": 3})
    thin, x = prune_keras.shrink(model, plan), np.ones((2, 6, 3), "float32")
    a, read, out = (thin.get_layer(name) for name in ("a", "read", "out"))
    expected = out(read(getattr(ops, operation)(a(x), PER_CHANNEL[[0, 2, 3]])))
    np.testing.assert_allclose(
        ops.convert_to_numpy(thin(x)), ops.convert_to_numpy(expected), atol=1e-6
    )


def test_a_select_takes_lists_of_tensors():
    check_rows(between(lambda x: ops.select([x > 0, x < -1], [x, POSITIONS], 0.5)))


def test_a_variable_is_not_the_calls_own():
    shared = keras.Variable(PER_CHANNEL, name="shared")
    assert "joins them with a variable" in reason(between(lambda x: x * shared))


def test_going_back_brings_whole_arrays_back():
    from prune_keras.surgery import capture, restore

    model = between(lambda x: x + POSITIONS)
    x = np.ones((2, 6, 3), "float32")
    before, expected = capture(model, prune_keras.trace(model)), ops.convert_to_numpy(model(x))
    plan = prune_keras.Plan({"a": [0, 2, 3], "read": range(3)}, {"a": 5, "read": 3})
    prune_keras.shrink_in_place(model, plan)
    restore(model, before)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), expected)
