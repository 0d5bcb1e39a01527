"""Batch normalization by ranges: against NumPy, and in all that batch normalization takes part."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import RangeBatchNormalization
from prune_keras.quantizing.points import points
from prune_keras.repair.recalibration import recalibrate

IMAGES = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype("float32")


def scale_of(rows, chunks=16):
    count = max(1, min(chunks, len(rows) // 2))
    length = len(rows) // count
    parts = rows[: count * length].reshape(count, length, -1)
    spread = (parts.max(1) - parts.min(1)).mean(0)
    known = 0.175 * (1 + np.sqrt(np.pi * np.log(4)))
    return spread * known / np.sqrt(2 * np.log(max(length, 2)))


@pytest.mark.parametrize("shape", [(64, 3), (5, 3), (8, 4, 4, 3)])
def test_a_training_step_is_that_of_numpy(shape):
    x = np.random.default_rng(0).normal(2.0, 3.0, shape).astype("float32")
    layer = RangeBatchNormalization(momentum=0.9, epsilon=0.01)
    layer.build(shape)
    layer.gamma.assign([0.5, -1.0, 2.0])
    layer.beta.assign([1.0, 0.0, -3.0])
    y = keras.ops.convert_to_numpy(layer(x, training=True))
    rows = x.reshape(-1, 3).astype("float64")
    mean, variance = rows.mean(0), scale_of(rows) ** 2
    expected = (x - mean) / np.sqrt(variance + 0.01) * [0.5, -1.0, 2.0] + [1.0, 0.0, -3.0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer.moving_mean, 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * variance, rtol=1e-5)


def test_the_scale_of_normal_values_comes_near_their_deviation():
    """From below: by 11 % for chunks of 64 values, by less for longer ones."""
    shares = []
    for length in (64, 1024, 16384):
        x = np.random.default_rng(0).normal(0.0, 3.0, (length * 16, 4)).astype("float32")
        found = RangeBatchNormalization().variance_of(keras.ops.convert_to_tensor(x))
        shares.append(np.mean(np.sqrt(keras.ops.convert_to_numpy(found))) / 3)
    assert shares == sorted(shares)
    np.testing.assert_allclose(shares, [0.89, 0.94, 0.97], atol=0.03)


def network(kind):
    pixels = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="a")(pixels)
    x = keras.layers.ReLU()(kind(name="norm")(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(6, 3, name="b")(x))
    return keras.Model(pixels, keras.layers.Dense(2, name="c")(x))


def test_in_inference_it_is_a_batch_normalization():
    ranged, plain = network(RangeBatchNormalization), network(keras.layers.BatchNormalization)
    ranged.get_layer("norm").moving_variance.assign(np.linspace(0.5, 2.0, 8))
    plain.set_weights(ranged.get_weights())
    found, wanted = (keras.ops.convert_to_numpy(each(IMAGES)) for each in (ranged, plain))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    rounded = [[p.rounds for p in points(model)] for model in (ranged, plain)]
    assert rounded[0] == rounded[1]


def test_it_is_trained_pruned_fused_and_read_back(tmp_path):
    model = network(RangeBatchNormalization)
    model.compile("adam", "mse")
    history = model.fit(IMAGES, np.ones((32, 2)), epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    thin, report = prune_keras.prune(model, fraction=0.4, data=IMAGES, fuse="sequential")
    assert not report.fixed or all("norm" not in str(each) for each in report.fixed)
    assert thin.get_layer("norm").gamma.shape[0] == thin.get_layer("a").filters < 8
    prune_keras.export(thin, tmp_path / "thin.keras")
    read = keras.models.load_model(tmp_path / "thin.keras", compile=False)
    found, wanted = (keras.ops.convert_to_numpy(each(IMAGES)) for each in (read, thin))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_it_is_recalibrated_by_ranges():
    model = network(RangeBatchNormalization)
    recalibrate(model, IMAGES[:16])
    norm = model.get_layer("norm")
    rows = keras.ops.convert_to_numpy(model.get_layer("a")(IMAGES[:16])).reshape(-1, 8)
    np.testing.assert_allclose(norm.moving_mean, rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(norm.moving_variance, scale_of(rows) ** 2, rtol=0.05)


def test_what_it_cannot_do_is_refused():
    with pytest.raises(ValueError, match="those of one batch"):
        RangeBatchNormalization(renorm=True)
    with pytest.raises(ValueError, match="whole number of at least 1"):
        RangeBatchNormalization(chunks=0)
    layer = RangeBatchNormalization()
    with pytest.raises(ValueError, match="all positions"):
        layer(np.ones((2, 3, 4)), training=True, mask=np.ones((2, 3), bool))
