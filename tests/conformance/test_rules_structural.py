"""Rules of structural layers and raw operations: families, widths, exact cuts, and saving."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from keras.src.applications import convnext, inception_resnet_v2
from small_models import conv, cut, families, model_of, operation, reason

import prune_keras

# What moves entries.


def test_permute_carries_channels_away_and_back(image, tmp_path):
    x = layers.Permute((3, 2, 1))(conv(5, "a")(image))
    x = layers.Permute((3, 2, 1), name="back")(ops.sin(x))
    model = model_of(image, x)
    assert families(model) == {"a": 5, "read": 4}
    assert cut(model, tmp_path, a=[0, 3]).get_layer("back").output.shape == (None, 4, 6, 2)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: ops.transpose(x, (0, 2, 1, 3)),
        lambda x: ops.swapaxes(ops.moveaxis(x, -1, 1), 1, -1),
        lambda x: ops.flip(x, axis=-1),
        lambda x: ops.flip(x, axis=[1, 2]),
        lambda x: ops.tile(x, [1, 2, 1]),
        lambda x: ops.tile(x, 2),
        lambda x: ops.repeat(x, 3, axis=-1),
        lambda x: ops.repeat(x, [1, 2, 0, 3, 1], axis=-1),
        lambda x: ops.repeat(x, [1, 2, 1, 2], axis=1),
        lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
        lambda x: ops.squeeze(ops.expand_dims(x, -1)),
        lambda x: ops.unstack(x, axis=1)[2],
        lambda x: ops.reshape(x, (-1, 24, 5)),
        lambda x: x[:, 1],
        lambda x: x[:, -1, None, ::2],
        lambda x: x[:, None, ..., 1:4],
        lambda x: ops.take(x, [0, 2], axis=1),
        lambda x: ops.roll(x, 1, axis=2),
    ],
)
def test_what_moves_entries_is_as_thin_as_its_input(image, move, tmp_path):
    model = model_of(image, move(conv(5, "a")(image)))
    assert sum(size for name, size in families(model).items() if name.startswith("a")) >= 3
    graph = prune_keras.trace(model)
    kept = np.flatnonzero(~graph.producers["a"].prunable | (np.arange(5) % 2 == 1))
    thin = cut(model, tmp_path, a=kept)
    assert thin.get_layer("a").filters == len(kept) < 5


def test_squeezing_names_its_axes_lest_one_channel_vanish(tmp_path):
    inputs = keras.Input((4,))
    x = ops.squeeze(ops.expand_dims(layers.Dense(3, name="a")(inputs), 2))
    model = model_of(inputs, layers.Reshape((3, 1))(x)[..., 0])
    thin = cut(model, tmp_path, a=[1])
    assert operation(thin, "Squeeze").axis == 2


def test_reshape_counts_what_is_left(image, tmp_path):
    x = ops.reshape(conv(5, "a")(image), (-1, 2, 2, 6, 5))
    model = model_of(image, x)
    thin = cut(model, tmp_path, a=[0, 2, 4])
    assert operation(thin, "Reshape").newshape == (-1, 2, 2, 6, 3)


def test_broadcast_counts_what_is_left(tmp_path):
    inputs = keras.Input(batch_shape=(2, 1, 3))
    x = ops.broadcast_to(layers.Dense(5, name="a")(inputs), (2, 4, 5))
    model = model_of(inputs, x)
    thin = cut(model, tmp_path, a=[0, 2, 4])
    assert operation(thin, "BroadcastTo").shape == (2, 4, 3)


def test_a_repeated_vector_keeps_its_channels(tmp_path):
    inputs = keras.Input((4,))
    model = model_of(inputs, layers.RepeatVector(3)(layers.Dense(5, name="a")(inputs)))
    assert cut(model, tmp_path, a=[1, 2]).get_layer("repeat_vector").output.shape == (None, 3, 2)


def test_what_is_stacked_stays_equally_wide(image, tmp_path):
    x = ops.stack([conv(5, "a")(image), conv(5, "b")(image)], axis=-1)
    model = model_of(image, ops.reshape(x, (-1, 4, 6, 10)))
    assert families(model) == {"a": 5, "read": 4}
    cut(model, tmp_path, a=[0, 1], b=[0, 1])


# Channels that become positions, and change their order.


def test_channel_shuffle(image, tmp_path):
    x = ops.reshape(conv(8, "a")(image), (-1, 4, 6, 2, 4))
    x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 4, 6, 8))
    model = model_of(image, conv(4, "b", groups=2)(x))
    # Channel j of both halves is one before the shuffle, and of both groups after it.
    assert families(model) == {"a": 2, "b": 2, "read": 4}
    thin = cut(model, tmp_path, a=[0, 2, 4, 6])
    assert thin.get_layer("a").filters == 4


def test_shuffled_channels_of_no_groups(image, tmp_path):
    x = ops.reshape(conv(6, "a")(image), (-1, 4, 6, 2, 3))
    x = ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 4, 6, 6))
    model = model_of(image, ops.tanh(x))
    assert families(model) == {"a": 3, "read": 4}
    assert cut(model, tmp_path, a=[0, 2, 3, 5]).get_layer("a").filters == 4


@pytest.mark.parametrize("order", ["blocks_first", "channels_first"])
def test_pixel_shuffle(image, order, tmp_path):
    x = conv(12, "a")(image)
    if order == "blocks_first":
        x = ops.transpose(ops.reshape(x, (-1, 4, 6, 2, 2, 3)), (0, 1, 3, 2, 4, 5))
        kept = [0, 2, 3, 5, 6, 8, 9, 11]
    else:
        x = ops.transpose(ops.reshape(x, (-1, 4, 6, 3, 2, 2)), (0, 1, 4, 2, 5, 3))
        kept = [0, 1, 2, 3, 8, 9, 10, 11]
    model = model_of(image, conv(5, "b")(ops.reshape(x, (-1, 8, 12, 3))))
    assert families(model) == {"a": 3, "b": 5, "read": 4}
    thin = cut(model, tmp_path, a=kept)
    assert thin.get_layer("b").input.shape == (None, 8, 12, 2)


def test_depth_to_space_and_back(image, tmp_path):
    x = ops.nn.space_to_depth(ops.nn.depth_to_space(conv(8, "a")(image), 2), 4)
    model = model_of(image, x)
    assert families(model) == {"a": 2, "read": 4}
    assert cut(model, tmp_path, a=[1, 3, 5, 7]).get_layer("read").input.shape[-1] == 16


# Parts.


def test_parts_of_a_split_are_families(image, tmp_path):
    first, second, third = ops.split(conv(9, "a")(image), [2, 5], axis=-1)
    model = model_of(image, layers.Concatenate()([third, conv(3, "b")(first), ops.sin(second)]))
    assert families(model) == {"a": 2, "a#2": 3, "a#3": 4, "b": 3, "read": 4}
    thin = cut(model, tmp_path, a=[1, 2, 4, 8])
    assert operation(thin, "Split").indices_or_sections == (1, 3)


def test_even_parts_need_not_stay_even(image, tmp_path):
    first, second = ops.split(conv(6, "a")(image), 2, axis=-1)
    model = model_of(image, layers.Concatenate()([second, first]))
    thin = cut(model, tmp_path, a=[0, 1, 2, 5])
    assert operation(thin, "Split").indices_or_sections == (3,)


def test_parts_that_are_added_stay_even(image, tmp_path):
    model = model_of(image, ops.add(*ops.split(conv(6, "a")(image), 2, axis=-1)))
    assert families(model) == {"a": 3, "read": 4}
    thin = cut(model, tmp_path, a=[0, 2, 3, 5])
    assert operation(thin, "Split").indices_or_sections == 2


def test_array_split_keeps_parts_even(image, tmp_path):
    model = model_of(image, layers.Concatenate()(ops.array_split(conv(6, "a")(image), 2, axis=-1)))
    assert families(model) == {"a": 3, "read": 4}
    cut(model, tmp_path, a=[0, 2, 3, 5])
    uneven = layers.Concatenate()(ops.array_split(conv(5, "a")(image), 2, axis=-1))
    assert "parts of two sizes" in reason(model_of(image, uneven))


def test_one_channel_picked_by_number_stays(image, tmp_path):
    model = model_of(image, conv(5, "a")(image)[..., 3])
    graph = prune_keras.trace(model)
    assert families(model)["a"] == 4 and not graph.producers["a"].prunable[3]
    thin = cut(model, tmp_path, a=[1, 3])
    assert operation(thin, "GetItem")._inbound_nodes[0].arguments.args[1][-1] == 1


def test_a_gate_and_what_it_gates_are_one(image, tmp_path):
    model = model_of(image, ops.glu(conv(6, "a")(image)))
    assert families(model) == {"a": 3, "read": 4}
    cut(model, tmp_path, a=[0, 2, 3, 5])


# Layers of Keras' own applications.


def test_the_scale_of_a_layer_is_as_long_as_its_channels(image):
    x = convnext.LayerScale(0.1, 5, name="scale")(conv(5, "a")(image))
    model = model_of(image, convnext.StochasticDepth(0.2)(x))
    assert families(model) == {"a": 5, "read": 4}
    thin = cut(model, a=[0, 3])
    assert thin.get_layer("scale").projection_dim == 2
    assert prune_keras.cost(thin).params == thin.count_params()


def test_a_scale_of_another_length_keeps_channels(image):
    model = model_of(image, convnext.LayerScale(0.1, 5)(conv(1, "a")(image)))
    assert "against its scale" in reason(model)


def test_a_scaled_branch_is_as_wide_as_what_it_is_added_to(image):
    branches = [conv(5, "a")(image), conv(5, "b")(image)]
    model = model_of(image, inception_resnet_v2.CustomScaleLayer(0.2)(branches))
    assert families(model) == {"a": 5, "read": 4}
    cut(model, a=[0, 3], b=[0, 3])


# What stays, and why.


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: layers.Masking()(x), "looks at all features"),
        (lambda x: layers.Lambda(lambda y: y[..., ::-1])(x), "cannot be looked into"),
        (lambda x: layers.Discretization(bin_boundaries=[0.0])(x), "into categories"),
        (lambda x: ops.one_hot(ops.cast(x, "int32"), 3), "into categories"),
        (lambda x: ops.softmax(x), "is a softmax over them"),
        (lambda x: ops.log_softmax(x), "is a softmax over them"),
        (lambda x: ops.sort(x), "works along the axis"),
        (lambda x: ops.cumsum(x, axis=-1), "works along the axis"),
        (lambda x: ops.argmax(x, axis=-1, keepdims=True), "tells the position"),
        (lambda x: ops.take(x, [0, 1], axis=-1), "picks them by numbers"),
        (lambda x: layers.Add()(ops.unstack(x, axis=-1)), "makes a tensor of each"),
        (lambda x: x * keras.Variable(np.ones(4)), "joins them with a variable"),
        (lambda x: ops.matmul(x, keras.Variable(np.ones((4, 3)))), "with a variable"),
        (lambda x: ops.einsum("btc,btd->bcd", x, ops.sin(x)), "makes pairs"),
        (lambda x: ops.einsum("btt->bt", x[:, :4]), "moves, joins or splits"),
        (lambda x: x * ops.einsum("btc->", x), "moves, joins or splits"),
        (lambda x: ops.einsum("btc,bt->btc", x, x[..., 0]), "picks it alone"),
        (lambda x: ops.tensordot(x, np.ones((4, 2), "float32"), 1), "batch for one"),
        (lambda x: ops.conv(x, np.ones((1, 4, 2), "float32")), "no weight of a layer"),
        (lambda x: ops.mean(x, axis=(0, -1), keepdims=True) + x, "the batch"),
        (lambda x: ops.flip(x), "the batch"),
        (lambda x: ops.roll(x, 1, axis=-1), "works along the axis"),
    ],
)
def test_reasons_of_what_stays(make, expected):
    inputs = keras.Input((7, 3))
    x = make(layers.Dense(4, name="a")(inputs))
    outputs = layers.Dense(2, name="out")(ops.cast(x, "float32"))
    assert expected in reason(keras.Model(inputs, outputs))


def test_a_layer_called_on_two_shapes_in_a_nested_model():
    start = keras.Input((None, 4))
    inner = keras.Model(start, start[:, :, 1:])
    inputs = [keras.Input((5, 3)), keras.Input((6, 3))]
    shared = layers.Dense(4, name="a")
    outputs = [layers.Dense(2)(inner(shared(x))) for x in inputs]
    assert prune_keras.trace(keras.Model(inputs, outputs)).neurons == 4
