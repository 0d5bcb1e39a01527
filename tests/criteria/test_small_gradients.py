"""Gradients that float16 rounds to zero or to infinity, and scores that tell nothing apart."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.samples.scale import Scaled
from prune_keras.scoring import indistinct

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 12, 12, 2)).astype("float32")


def network(policy, loss="mse", last="float32"):
    keras.utils.set_random_seed(0)
    options = {"activation": "relu", "dtype": policy}
    inputs = keras.Input((12, 12, 2))
    x = layers.Conv2D(6, 3, padding="same", name="a", **options)(inputs)
    x = layers.Conv2D(8, 3, padding="same", name="b", **options)(x)
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    x = layers.Dense(8, name="c", **options)(x)
    model = keras.Model(inputs, layers.Dense(1, dtype=last)(x))
    model.compile("sgd", loss)
    return model


def pair(last="float32", policy="mixed_float16"):
    full, half = network("float32"), network(policy, last=last)
    half.set_weights(full.get_weights())
    return full, half


def alike(one, other, names=("a", "b", "c"), rtol=0.05):
    for name in names:
        assert one[name].any()
        size = one[name].max()
        np.testing.assert_allclose(other[name] / size, one[name] / size, atol=rtol, err_msg=name)


@pytest.mark.parametrize("slope", [1e-8, 1.0, 3e4])
@pytest.mark.parametrize("criterion", ["taylor", "taylor_weights"])
def test_losses_of_any_slope_give_the_scores_of_float32(criterion, slope):
    full, half = pair()
    for model in (full, half):
        model.compile("sgd", lambda y, p: slope * ops.mean(p, axis=-1))
    found = [prune_keras.score(m, criterion, (X, np.zeros((24, 1)))) for m in (full, half)]
    alike(*found, rtol=0.1 if criterion == "taylor_weights" else 0.05)
    assert all(np.isfinite(scores).all() for scores in found[1].values())


def test_outputs_in_float16_and_batches_of_different_losses():
    """The first batch finds a scale that the second one overflows."""
    full, half = pair("mixed_float16")
    for model in (full, half):
        model.compile("sgd", lambda y, p: y[:, 0] * ops.mean(ops.cast(p, "float32"), axis=-1))
    batches = [(X[:12], np.full((12, 1), 1e-6)), (X[12:], np.full((12, 1), 1e3))]
    alike(*(prune_keras.score(m, "taylor", batches) for m in (full, half)))
    alike(*(prune_keras.score(m, "taylor", batches[::-1]) for m in (full, half)))


def test_slopes_of_outputs_are_scaled_too():
    full, half = pair()
    for model in (full, half):
        model.layers[-1].kernel.assign(model.layers[-1].kernel * 1e-7)
    alike(*(prune_keras.score(m, "sensitivity", X) for m in (full, half)), rtol=0.1)


def test_nothing_is_scaled_where_nothing_is_float16():
    scales = []

    def step(x, scale):
        scales.append(float(scale))
        return {"a": np.ones(2)}

    Scaled(step, network("mixed_bfloat16"))(X)
    assert scales == [1.0]


def test_the_scale_is_as_large_as_what_comes_out_is_finite():
    powers = []

    def step(most, scale):
        powers.append(int(np.log2(float(scale))))
        return {"a": np.full(2, np.inf if powers[-1] > most else 1.0)}

    scaled = Scaled(step, network("mixed_float16"))
    # It rises in the first batch only: from 15 over 19 to 23, which is too much for 20.
    for most, tried in [(20, [15, 19, 23]), (20, [19]), (3, [19, 15, 11, 7, 3]), (60, [3])]:
        powers.clear()
        scaled(most)
        assert powers == tried
    powers.clear()
    scaled(-99)
    assert powers == list(range(3, -34, -4))


def test_masks_come_through_gates():
    """A gate must not take the mask from what it scales: the loss would see more positions."""
    samples = RNG.normal(size=(10, 5, 3)).astype("float32")
    samples[:, 3:] = 0

    def model(length):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((length, 3))
        x = layers.Dense(4, activation="tanh", name="a")(layers.Masking()(inputs))
        model = keras.Model(inputs, layers.Dense(1)(x))
        model.get_layer("a").bias.assign([1.0, -1.0, 2.0, 0.5])
        model.compile("sgd", "mse")
        return model

    targets = np.linspace(-3, 3, 50).reshape(10, 5, 1)
    found = prune_keras.score(model(5), "taylor", (samples, targets))["a"]
    cut = (samples[:, :3], targets[:, :3])
    expected = prune_keras.score(model(3), "taylor", cut)["a"]
    np.testing.assert_allclose(found * 5, expected * 3, rtol=1e-4)  # means over positions


def test_scores_that_are_all_equal_are_told():
    scores = {"a": np.zeros(3), "b": np.ones(2), "c": np.arange(2.0), "d": np.ones(1)}
    (note,) = indistinct(scores, prune_keras.criteria.taylor)
    assert note.startswith("scores of 'taylor' tell no units apart in: a, b;")
    assert indistinct({"c": np.arange(2.0), "d": np.ones(1)}, prune_keras.criteria.taylor) == ()
    model = network("float32")
    model.get_layer("c").set_weights([np.zeros((8, 8)), np.zeros(8)])
    data = (X, np.ones((24, 1)))
    _, report = prune_keras.prune(model, fraction=0.3, data=data, criterion="taylor")
    told = [note for note in report.notes if "tell no units apart in: a, b, c" in note]
    assert len(told) == 1
    assert told[0] in report.render()
    _, report = prune_keras.prune(network("float32"), fraction=0.3, data=data, criterion="taylor")
    assert not any("apart" in note for note in report.notes)
