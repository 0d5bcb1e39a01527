"""A batch that windows are joined with, or that queries, keys and values stand in front of."""

import keras
import numpy as np
import pytest
from composites import Composite, built, images
from composites_checks import check_removed_is_silenced
from keras import layers, ops
from networks import randomize
from promises import random_plan

import prune_keras


def dense(units, name, **options):
    return layers.Dense(units, name=name, **options)


def windows(joined, inside):
    """A model that works on windows, joined with the batch or along an axis of their own."""
    x = pictures = keras.Input((4, 6, 3))
    x = dense(8, "before")(x)
    x = ops.transpose(ops.reshape(x, (-1, 2, 2, 3, 2, 8)), (0, 1, 3, 2, 4, 5))
    x = ops.reshape(x, (-1, 4, 8) if joined else (-1, 6, 4, 8))
    x = inside(x)
    x = ops.reshape(x, (-1, 2, 3, 2, 2, x.shape[-1]))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 4, 6, x.shape[-1]))
    x = dense(5, "behind", activation="relu")(x)
    return keras.Model(pictures, dense(2, "last")(layers.GlobalAveragePooling2D()(x)))


def units(x):
    return dense(7, "inside", activation="relu")(x)


def attention(x, take="items", heads=2, cosine=False):
    """Attention of one projection, as keras.io's Swin splits it."""
    size, width = x.shape[-2:]
    y = dense(3 * width, "qkv")(x)
    y = ops.reshape(y, (-1, size, 3, heads, width // heads))
    y = ops.transpose(y, (2, 0, 3, 1, 4))
    query, key, value = (y[0], y[1], y[2]) if take == "items" else ops.unstack(y, 3, axis=0)
    if cosine:
        query, key = (ops.normalize(each, axis=-1) for each in (query, key))
    scores = ops.matmul(query * 0.5, ops.transpose(key, (0, 1, 3, 2)))
    y = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
    return dense(width, "out")(ops.reshape(y, (-1, size, width)))


def in_front_of_the_last(x):
    """The batch is led through other places by all that moves axes; an activation meets it."""
    x = ops.relu(ops.moveaxis(x, 0, 2))  # tokens, channels, batch
    x = ops.transpose(x)[:, None, :, 1:]  # batch, 1, channels, tokens
    return ops.swapaxes(ops.squeeze(ops.moveaxis(x, 0, 1), 0), 1, 2)


def moved():
    tokens = keras.Input((6, 3))
    x = in_front_of_the_last(dense(6, "before")(tokens))
    return keras.Model(tokens, dense(2, "last")(x))


MODELS = {
    "windows": lambda: windows(True, units),
    "attention in windows": lambda: windows(True, attention),
    "attention by unstack": lambda: windows(True, lambda x: attention(x, "unstack")),
    "cosine attention": lambda: windows(True, lambda x: attention(x, cosine=True)),
    "attention without windows": lambda: windows(False, lambda x: x),
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_all_but_the_output_is_prunable(make):
    graph = prune_keras.trace(make())
    assert [fixed.path for fixed in graph.fixed] == ["last"]


@pytest.mark.repeats(5)
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("cut", [(0, 0.3), (1, 0.6)])
def test_removed_is_silenced(make, cut):
    data = images(4, 6, 3)
    check_removed_is_silenced(Composite("", built(make, data), data), cut)


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_cut_in_place_is_that_of_a_copy_and_is_read_back(make, tmp_path):
    model, x = make(), np.random.default_rng(0).normal(size=(3, 4, 6, 3))
    randomize(model)
    plan = random_plan(model, (0, 0.4))
    expected = ops.convert_to_numpy(prune_keras.shrink(model, plan)(x))
    prune_keras.shrink_in_place(model, plan)
    np.testing.assert_array_equal(ops.convert_to_numpy(model(x)), expected)
    shapes = [tuple(tensor.shape) for tensor in _tensors(model)]
    model.save(tmp_path / "thin.keras")
    read = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_allclose(ops.convert_to_numpy(read(x)), expected, atol=1e-6)
    assert shapes == [tuple(tensor.shape) for tensor in _tensors(read)]


def _tensors(model):
    return [tensor for op in model.operations for tensor in keras.tree.flatten(op.output)]


def test_costs_are_those_of_windows_that_have_an_axis():
    joined, apart = (windows(each, units) for each in (True, False))
    assert prune_keras.cost(joined) == prune_keras.cost(apart)
    kept = {"before": range(8), "inside": [0, 3], "behind": range(5)}
    plan = prune_keras.Plan(kept, prune_keras.trace(joined).widths)
    costs = [prune_keras.cost(prune_keras.shrink(each, plan)) for each in (joined, apart)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize(
    "criterion", ["apoz", "mean_activation", "activation_std", "taylor", "reconstruction", "oracle"]
)
def test_scores_are_those_of_windows_that_have_an_axis(criterion):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(6, 4, 6, 3)).astype("float32"), rng.normal(size=(6, 2))
    found = []
    for joined in (True, False):
        model = windows(joined, units)
        randomize(model)
        model.compile(loss="mse")
        found.append(prune_keras.score(model, criterion, data=data))
    for path, scores in found[0].items():
        np.testing.assert_allclose(scores, found[1][path], rtol=1e-4)


def test_what_would_take_another_axis_for_the_batch_keeps_its_channels():
    tokens = keras.Input((5, 3))
    x = ops.transpose(dense(6, "a")(tokens), (1, 0, 2))
    x = ops.reshape(ops.transpose(ops.cumsum(x, axis=0), (1, 0, 2)), (-1, 5, 6))
    (fixed, _) = prune_keras.trace(keras.Model(tokens, dense(2, "last")(x))).fixed
    assert fixed.path == "a" and "takes another axis for that of the batch" in fixed.reason


def test_a_batch_that_gets_a_part_of_the_channels_keeps_them():
    tokens = keras.Input((4, 3))
    x = ops.reshape(dense(6, "a")(tokens), (-1, 4, 2))
    (fixed, _) = prune_keras.trace(keras.Model(tokens, dense(2, "last")(x))).fixed
    assert fixed.path == "a" and "moves, joins or splits the batch" in fixed.reason


def test_a_number_for_all_samples_is_no_obstacle():
    x = inputs = keras.Input((5,))
    x = dense(6, "a")(dense(4, "before")(x))
    model = keras.Model(inputs, dense(2, "last")(x - ops.mean(x)))
    randomize(model)
    plan = prune_keras.Plan({"before": [0, 2]}, prune_keras.trace(model).widths)
    numbers = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
    thin = prune_keras.shrink(model, plan)
    kernel = model.get_layer("a").kernel
    kernel.assign(ops.convert_to_numpy(kernel) * [[1], [0], [1], [0]])
    np.testing.assert_allclose(thin(numbers), model(numbers), atol=1e-5)
