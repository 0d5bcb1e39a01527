"""Recalibration: batch normalization measured anew, against NumPy."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.repair.recalibration import recalibrate

X = np.random.default_rng(0).normal(2, 3, (12, 5, 5, 2)).astype("float32")


def network():
    inputs = keras.Input((5, 5, 2))
    x = keras.layers.BatchNormalization(name="first", momentum=0.5)(inputs)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.BatchNormalization(name="second")(x)
    x = keras.layers.Dropout(0.9)(keras.layers.Flatten()(x))
    return keras.Model(inputs, keras.layers.Dense(2)(x))


def statistics(model, name):
    layer = model.get_layer(name)
    return [keras.ops.convert_to_numpy(v) for v in (layer.moving_mean, layer.moving_variance)]


def test_statistics_are_those_of_the_samples():
    model = network()
    assert recalibrate(model, X, steps=10) == 2
    mean, variance = statistics(model, "first")
    np.testing.assert_allclose(mean, X.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, X.var((0, 1, 2)), rtol=1e-4)
    normalized = (X - mean) / np.sqrt(variance + 1e-3)
    inner = keras.ops.convert_to_numpy(model.get_layer("conv")(normalized))
    mean, variance = statistics(model, "second")
    np.testing.assert_allclose(mean, inner.mean((0, 1, 2)), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(variance, inner.var((0, 1, 2)), rtol=1e-3)


def test_pruning_with_data_measures_statistics_anew():
    model = network()
    thin, _ = prune_keras.prune(model, target={"neurons": 0.5}, data=X)
    found = statistics(thin, "second")
    assert recalibrate(thin, X) == 2
    for one, other in zip(found, statistics(thin, "second"), strict=True):
        assert one.any() and not np.array_equal(one, np.ones_like(one))
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_a_layer_that_is_called_by_name_is_measured():
    inputs = keras.Input((5, 5, 2))
    x = keras.layers.BatchNormalization(name="first")(inputs=inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3)(inputs=x))
    assert recalibrate(model, X) == 1
    np.testing.assert_allclose(statistics(model, "first")[0], X.mean((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("given", ["by the tensor", "by name"])
def test_masked_positions_do_not_count(given):
    x, stays = X[:, :, 0], np.arange(12 * 5).reshape(12, 5) % 3 > 0
    x = np.where(stays[..., None], x, 0)
    inputs = keras.Input((5, 2))
    masked = keras.layers.Masking()(inputs)
    mask = {"mask": inputs[..., 0] != 0} if given == "by name" else {}
    outputs = keras.layers.BatchNormalization(name="first")(inputs if mask else masked, **mask)
    model = keras.Model(inputs, keras.layers.Dense(2)(outputs))
    assert recalibrate(model, x) == 1
    mean, variance = statistics(model, "first")
    np.testing.assert_allclose(mean, x[stays].mean(0), rtol=1e-4)
    np.testing.assert_allclose(variance, x[stays].var(0), rtol=1e-4)


def test_a_shared_layer_is_measured_at_all_of_its_calls():
    inputs, shared = keras.Input((5, 5, 2)), keras.layers.BatchNormalization(name="first")
    model = keras.Model(inputs, keras.layers.Add()([shared(inputs), shared(3.0 * inputs)]))
    recalibrate(model, X)
    seen, (mean, variance) = np.concatenate([X, 3 * X]), statistics(model, "first")
    np.testing.assert_allclose(mean, seen.mean((0, 1, 2)), rtol=1e-4)
    np.testing.assert_allclose(variance, seen.var((0, 1, 2)), rtol=1e-4)


def test_pruning_with_an_iterator_says_that_statistics_need_it_again():
    with pytest.raises(ValueError, match="readable more than once to measure batch normalization"):
        prune_keras.prune(network(), fraction=0.5, criterion="apoz", fuse=None, data=iter([X]))


def test_batches_are_pooled():
    model = network()
    recalibrate(model, [(X[:4] + 5,), (X[4:8] - 5,)], steps=2)
    pooled = np.concatenate([X[:4] + 5, X[4:8] - 5])
    mean, variance = statistics(model, "first")
    np.testing.assert_allclose(mean, pooled.mean((0, 1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(variance, pooled.var((0, 1, 2)), rtol=1e-4)


def test_steps_limit_what_is_looked_at():
    model = network()
    recalibrate(model, [(X[:4],), (X[4:] * np.nan,)], steps=1)
    np.testing.assert_allclose(statistics(model, "first")[0], X[:4].mean((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("frozen", ["first", "second"])
def test_frozen_layers_and_weights_stay(frozen):
    model = network()
    model.get_layer(frozen).trainable = False
    before = statistics(model, frozen)
    kernel = model.get_layer("conv").get_weights()[0]
    assert recalibrate(model, X) == 1
    for old, new in zip(before, statistics(model, frozen), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_array_equal(kernel, model.get_layer("conv").get_weights()[0])


def test_a_model_without_batch_normalization_needs_nothing():
    assert recalibrate(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]), X) == 0
