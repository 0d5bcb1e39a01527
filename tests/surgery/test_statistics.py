"""Moments of samples: whatever the batches, the means and the masks; and recalibration by them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import _backend
from prune_keras.repair.recalibration import recalibrate
from prune_keras.samples.moments import Moments, moments_of

RNG = np.random.default_rng(0)


def cut(array, sizes):
    return np.split(array, np.cumsum(sizes)[:-1])


def moments(rows, weights=None, products=False):
    given = (
        None if each is None else ops.convert_to_tensor(each, dtype=str(each.dtype))
        for each in (rows, weights)
    )
    return Moments.of(*moments_of(*given, products))


def statistics(layer):
    return [ops.convert_to_numpy(v.value) for v in (layer.moving_mean, layer.moving_variance)]


def check(layer, values, rtol=1e-4):
    mean, variance = statistics(layer)
    values = values.astype("float64").reshape(-1, values.shape[-1])
    np.testing.assert_allclose(mean, values.mean(0), rtol=rtol, atol=rtol)
    np.testing.assert_allclose(variance, values.var(0), rtol=rtol)


def normalized(units=3, shape=(), dtype="float32", **options):
    inputs = keras.Input((*shape, units), dtype="float64" if dtype == "float64" else "float32")
    outputs = layers.BatchNormalization(name="norm", dtype=dtype, **options)(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype=dtype)(layers.Dense(4, dtype=dtype)(outputs)))
    return model, model.get_layer("norm")


@pytest.mark.parametrize("products", [False, True])
def test_merged_moments_are_those_of_all_rows(products):
    rows = RNG.normal([1e4, -3.0, 0.0], [1.0, 1e-2, 5.0], (101, 3)).astype("float32")
    parts = [moments(r, products=products) for r in cut(rows, [1, 60, 2, 38])]
    found = sum(parts[1:], parts[0])
    exact = rows.astype("float64")
    expected = np.cov(exact.T, bias=True) if products else exact.var(0)
    np.testing.assert_allclose(found.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, expected, rtol=1e-3, atol=1e-4)
    assert found.count == 101


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("units", [1, _backend.UNITS - 1, _backend.UNITS, 40])
def test_rows_add_up_however_many_there_are(units, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to before it starts")
    compiled = _backend.compiled(_backend.sum_of_rows, keras.Sequential())
    for count in (0, 1, _backend.TOGETHER - 1, _backend.TOGETHER, 3 * _backend.TOGETHER + 5):
        rows = RNG.uniform(size=(count, units)).astype(dtype)
        for summed in (_backend.sum_of_rows, compiled):
            found = ops.convert_to_numpy(summed(ops.convert_to_tensor(rows)))
            assert found.dtype == dtype
            closest = 1e-6 if dtype == "float32" else 1e-14
            np.testing.assert_allclose(found, rows.sum(0, dtype="float64"), rtol=closest)


@pytest.mark.parametrize("products", [False, True])
def test_rows_count_by_their_weights(products):
    rows, weights = RNG.normal(5, 1, (30, 3)), RNG.integers(0, 4, (30, 1))
    rows[weights[:, 0] == 0] = np.nan
    found = moments(rows, weights, products)
    expected = moments(np.repeat(rows, weights[:, 0], 0), products=products)
    assert found.count == expected.count
    # Elsewhere Keras multiplies matrices in float32, or holds no float64 at all.
    rtol = 1e-7 if keras.backend.backend() == "tensorflow" else 1e-6
    np.testing.assert_allclose(found.mean, expected.mean, rtol=rtol)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=rtol)


def test_nothing_and_zeros_merge():
    nothing = moments(np.ones((4, 2), "float32"), np.zeros((4, 1), "float32"))
    some = moments(np.array([[1.0, 4.0], [3.0, 4.0]], "float32"), products=True)
    for joined in (nothing + some, some + Moments.of(0, 0, 0)):
        np.testing.assert_allclose(joined.mean, [2, 4])
    padded = some + Moments.of(2, 0, 0)
    np.testing.assert_allclose(padded.mean, [1, 2])
    np.testing.assert_allclose(padded.variance, np.cov([[1, 3, 0, 0], [4, 4, 0, 0]], bias=True))


@pytest.mark.parametrize("sizes", [[1, 40], [40, 1], [13, 27, 1], [1] * 41, [41]])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_samples_count_once_whatever_the_batches(sizes, shape):
    samples = RNG.normal(2, 3, (41, *shape, 3)).astype("float32")
    samples[-1] += 20
    model, norm = normalized(shape=shape)
    assert recalibrate(model, [(part,) for part in cut(samples, sizes)], steps=50) == 1
    check(norm, samples)


@pytest.mark.parametrize("mean", [0, 1e2, 1e4, -1e5])
@pytest.mark.parametrize("deviation", [1, 0.1])
def test_variances_hold_for_large_means(mean, deviation):
    samples = RNG.normal(mean, deviation, (300, 3)).astype("float32")
    model, norm = normalized()
    recalibrate(model, samples)
    check(norm, samples, rtol=2e-3)


def test_float64_models_keep_their_digits():
    samples = RNG.normal(1e8, 1e-3, (60, 3))
    model, norm = normalized(dtype="float64")
    recalibrate(model, samples)
    check(norm, samples, rtol=1e-6)
    assert norm.moving_variance.dtype == "float64"


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_low_precision_is_measured_in_float32(policy):
    samples = RNG.normal(3, 1, (64, 8, 8, 3)).astype("float32")
    model, norm = normalized(shape=(8, 8), dtype=policy)
    recalibrate(model, samples)
    check(norm, samples, rtol=2e-2)


def test_channels_first_and_a_shared_layer_at_maps_of_two_sizes():
    inputs = keras.Input((3, 6))
    norm = layers.BatchNormalization(axis=1, name="norm")
    part = inputs[:, :, 2:4]
    flat = [layers.Flatten()(norm(x)) for x in (inputs, part)]
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()(flat)))
    samples = RNG.normal(2, 3, (20, 3, 6)).astype("float32")
    recalibrate(model, samples)
    seen = np.concatenate([samples, samples[:, :, 2:4]], axis=2)
    check(norm, np.moveaxis(seen, 1, -1))


def test_masked_positions_do_not_count_in_any_batch():
    lengths = np.array([1, 5, 2, 4, 3, 0, 5, 1, 2])
    seen = np.arange(5) < lengths[:, None]
    samples = np.where(seen[..., None], RNG.normal(50, 1, (9, 5, 3)), 0).astype("float32")
    inputs = keras.Input((5, 3))
    norm = layers.BatchNormalization(name="norm")
    model = keras.Model(inputs, layers.Dense(2)(norm(layers.Masking()(inputs))))
    recalibrate(model, [(part,) for part in cut(samples, [1, 4, 1, 3])], steps=9)
    check(norm, samples[seen])
    before = statistics(norm)
    assert recalibrate(model, np.zeros((3, 5, 3), "float32")) == 0
    for old, new in zip(before, statistics(norm), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("sizes", [[60, 1], [1] * 61, [7, 9, 45]])
def test_later_layers_do_not_meet_batches_too_small_to_normalize_by(sizes):
    """A sample that is normalized by itself is all zeros for the layers behind."""
    inputs = keras.Input((3,))
    x = layers.BatchNormalization(name="norm")(inputs)
    x = layers.Dense(6, activation="relu", name="d")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization(name="next")(x)))
    samples = RNG.normal(size=(61, 3)).astype("float32")
    recalibrate(model, [(part,) for part in cut(samples, sizes)], steps=70)
    read = keras.Model(inputs, model.get_layer("d").output)(samples)
    mean, variance = statistics(model.get_layer("next"))
    np.testing.assert_allclose(mean, ops.convert_to_numpy(read).mean(0), atol=0.1)
    np.testing.assert_allclose(variance, ops.convert_to_numpy(read).var(0), rtol=0.25)


def test_batches_that_cannot_be_joined_are_taken_as_they_are():
    model = keras.Sequential([keras.Input((None, 3)), layers.BatchNormalization(name="norm")])
    batches = [RNG.normal(4, 1, (1, length, 3)).astype("float32") for length in (1, 7, 3)]
    recalibrate(model, [(batch,) for batch in batches])
    check(model.get_layer("norm"), np.concatenate([b[0] for b in batches]))
    inputs = keras.Input(batch_shape=(2, 3))
    model = keras.Model(inputs, layers.BatchNormalization(name="norm")(inputs))
    recalibrate(model, [(np.eye(2, 3, dtype="float32") + k,) for k in range(3)])
    everything = np.concatenate([np.eye(2, 3) + k for k in range(3)])
    check(model.get_layer("norm"), everything)


def test_steps_count_joined_batches_and_read_no_further():
    model, norm = normalized()
    samples = RNG.normal(size=(96, 3)).astype("float32")
    samples[64:] = np.nan
    recalibrate(model, [(sample[None],) for sample in samples], steps=2)
    check(norm, samples[:64])


def test_a_pass_leaves_other_statistics_alone():
    model, norm = normalized(momentum=0.5)
    frozen = layers.BatchNormalization(name="frozen", trainable=False)
    model = keras.Model(model.input, layers.Dense(2)(frozen(norm.output)))
    before = statistics(frozen)
    recalibrate(model, RNG.normal(5, 2, (40, 3)).astype("float32"))
    for old, new in zip(before, statistics(frozen), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("mean", [0.0, 1e4])
def test_the_deviation_of_activations_holds_for_large_means(mean):
    inputs = keras.Input((3, 2))
    units = layers.Dense(4, name="a")
    model = keras.Model(inputs, layers.Dense(2)(units(inputs)))
    units.bias.assign(np.full(4, mean))
    samples = RNG.normal(size=(50, 3, 2)).astype("float32")
    parts = [(part,) for part in cut(samples, [1, 40, 9])]
    found = prune_keras.score(model, "activation_std", parts)["a"]
    expected = (samples.astype("float64") @ units.get_weights()[0]).reshape(-1, 4).std(0)
    np.testing.assert_allclose(found, expected, rtol=2e-3)
