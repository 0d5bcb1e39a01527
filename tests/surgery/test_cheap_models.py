"""Cheaper blocks in models of other makes: orders of calls, names, activations, batch sizes."""

import keras
import numpy as np
import pytest

import prune_keras

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(24, 8, 8, 8)).astype("float32")
layers = keras.layers


def convolution(name, **options):
    return layers.Conv2D(8, 3, padding="same", name=name, **options)


def other_order():
    """Blocks are deeper than what they replace, so that Keras runs the shared one's calls anew."""
    pixels, shared = keras.Input((8, 8, 8)), convolution("shared")
    left = convolution("n2")(convolution("n1")(shared(pixels)))
    right = shared(layers.ReLU()(pixels) * 3.0 + 1.0)
    for number in range(3):
        right = layers.ReLU(name=f"relu{number}")(right)
    return keras.Model(pixels, layers.Concatenate()([left, right]))


def nested_in_other_order():
    given, shared = keras.Input((8, 8, 8)), convolution("shared")
    inner = keras.Model(given, convolution("n1")(shared(given)), name="inner")
    pixels = keras.Input((8, 8, 8))
    right = layers.ReLU()(shared(layers.ReLU()(pixels) * 3.0 + 1.0))
    return keras.Model(pixels, layers.Concatenate()([inner(inner(pixels)), right]))


def two_paths():
    """One layer inside of a nested model and beside it."""
    given, shared = keras.Input((8, 8, 8)), convolution("shared")
    inner = keras.Model(given, layers.ReLU()(shared(given)), name="inner")
    pixels = keras.Input((8, 8, 8))
    return keras.Model(pixels, shared(inner(layers.Conv2D(8, 1)(pixels))))


ORDERS = {"branches": other_order, "nested": nested_in_other_order, "two paths": two_paths}


@pytest.mark.parametrize("wanted", [None, "*", "*shared"])
@pytest.mark.parametrize("name", ORDERS)
def test_each_call_is_fitted_to_its_own_responses(name, wanted):
    """Blocks that can hold all of what they replace change nothing."""
    model = ORDERS[name]()
    cheap = prune_keras.cheapen(model, "G(1)", layers=wanted, data=IMAGES)
    expected = model.predict(IMAGES, verbose=0)
    found = cheap.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("block", ["G(1)", "B(2)"])
def test_an_activation_with_weights_is_the_copys_own(block):
    pixels = keras.Input((8, 8, 8))
    x = convolution("k", activation=layers.PReLU(shared_axes=[1, 2]))(layers.ReLU()(pixels))
    model = keras.Model(pixels, layers.GlobalAveragePooling2D()(x))
    model.predict(IMAGES, verbose=0)
    (alpha,) = [weight for weight in model.weights if "alpha" in weight.path]
    alpha.assign(np.full(alpha.shape, 0.3))
    before = model.predict(IMAGES, verbose=0)
    cheap = prune_keras.cheapen(model, block, layers="k", data=IMAGES)
    if block == "G(1)":
        np.testing.assert_allclose(cheap.predict(IMAGES, verbose=0), before, atol=1e-3)
    cheap.compile(keras.optimizers.SGD(0.1), "mse")
    cheap.fit(IMAGES, np.ones((24, 8)), verbose=0)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), before)
    assert (np.array(cheap.get_layer("k_mix").activation.alpha) != 0.3).any()


def test_outputs_keep_their_names():
    pixels = keras.Input((8, 8, 8))
    x = layers.ReLU()(pixels)
    model = keras.Model(pixels, [convolution("k")(x), convolution("j")(x)])
    cheap = prune_keras.cheapen(model, "BG(2,2)", layers="*", data=IMAGES)
    assert cheap.output_names == model.output_names == ["k", "j"]
    cheap.compile("sgd", {"k": "mse", "j": "mae"})
    cheap.fit(IMAGES, {"k": IMAGES, "j": IMAGES}, verbose=0)


def test_a_model_of_a_fixed_batch_size_is_given_batches_of_it():
    pixels = keras.Input(batch_shape=(8, 8, 8, 8))
    x = convolution("k")(layers.ReLU()(pixels))
    model = keras.Model(pixels, layers.Dense(3)(keras.ops.reshape(x, (8, -1))))
    cheap = prune_keras.cheapen(model, "G(1)", layers="k", data=IMAGES)
    expected = model.predict(IMAGES, batch_size=8, verbose=0)
    np.testing.assert_allclose(cheap.predict(IMAGES, batch_size=8, verbose=0), expected, atol=1e-3)


def test_responses_that_overflow_are_told_with_the_layer():
    pixels = keras.Input((8, 8, 8), dtype="float16")
    wide = {"kernel_initializer": "ones", "dtype": "float16"}
    x = convolution("k", **wide)(layers.ReLU(dtype="float16")(pixels))
    model = keras.Model(pixels, layers.ReLU(dtype="float16")(x))
    big = np.full((8, 8, 8, 8), 2e4, "float16")
    with pytest.raises(ValueError, match="must be finite.*'k'.*float16.*float32"):
        prune_keras.cheapen(model, "G(2)", layers="k", data=big)


def test_a_narrow_layer_before_a_bottleneck_in_groups_lets_it_be_trained():
    pixels = keras.Input((8, 8, 8))
    x = layers.Conv2D(8, 1)(layers.Conv2D(2, 3, padding="same", name="narrow")(pixels))
    model = keras.Model(pixels, layers.ReLU()(convolution("k")(x)))
    for block in ("BG(2,2)", "BG(2,N)"):
        cheap = prune_keras.cheapen(model, block, layers="k", data=IMAGES)
        cheap.compile(keras.optimizers.SGD(0.01), "mse")
        history = cheap.fit(IMAGES, model.predict(IMAGES, verbose=0), epochs=2, verbose=0)
        losses = history.history["loss"]
        assert np.isfinite(losses).all() and losses[1] <= 1.01 * losses[0]
