"""Cheaper blocks: what they cost, that least squares fits them, and that they are pruned on."""

import keras
import numpy as np
import pytest

import prune_keras

RNG = np.random.default_rng(0)
SMOOTH = np.cumsum(RNG.normal(size=(24, 10, 10, 3)), axis=1).astype("float32")


def network(padding="same", strides=1):
    inner_in = keras.Input((10, 10, 8))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="c")(inner_in)
    inner = keras.Model(inner_in, x, name="inner")
    pixels = keras.Input((10, 10, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(pixels)
    y = keras.layers.Conv2D(8, 3, padding=padding, strides=strides, use_bias=False, name="b")(x)
    y = keras.layers.ReLU()(keras.layers.BatchNormalization(name="b_norm")(y))
    y = keras.layers.Add()([x, inner(y)]) if padding == "same" and strides == 1 else y
    y = keras.layers.GlobalAveragePooling2D()(y)
    return keras.Model(pixels, keras.layers.Dense(3, name="classes")(y))


def assert_nearer_than_drawn(cheap, model):
    fresh = keras.models.clone_model(cheap)
    expected = model.predict(SMOOTH, verbose=0)
    missed = [np.mean((each.predict(SMOOTH, verbose=0) - expected) ** 2) for each in (cheap, fresh)]
    assert missed[0] < 0.5 * missed[1]


@pytest.mark.repeats(3)
@pytest.mark.parametrize("block", ["G(2)", "G(8)", "G(N)", "B(2)", "BG(2,2)", "BG(2, N)"])
def test_blocks_cost_less_and_say_more_than_drawn_ones(block):
    model = network()
    before = [np.array(weight) for weight in model.weights]
    cheap = prune_keras.cheapen(model, block, data=SMOOTH)
    assert cheap.count_params() < model.count_params()
    assert_nearer_than_drawn(cheap, model)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


KINDS = {
    1: keras.layers.DepthwiseConv2D,
    2: keras.layers.DepthwiseConv2D,
    (2, 1): keras.layers.Conv2D,
}


@pytest.mark.repeats(2)
@pytest.mark.parametrize("strides", KINDS)
def test_groups_of_one_channel_are_depthwise_where_that_is_known(strides):
    model = network("valid", strides)
    cheap = prune_keras.cheapen(model, "G(N)", layers="b", data=SMOOTH)
    assert type(cheap.get_layer("b_grouped")) is KINDS[strides]
    assert_nearer_than_drawn(cheap, model)
    thin, report = prune_keras.prune(cheap, fraction=0.3)
    assert report.plan.removed and thin.predict(SMOOTH[:2], verbose=0).shape == (2, 3)


@pytest.mark.repeats(1)
@pytest.mark.parametrize(("padding", "strides"), [("valid", 1), ("same", 2), ("same", 1)])
def test_a_bottleneck_as_wide_as_the_layer_changes_nothing(padding, strides):
    """B(1) is a reparametrization: with enough channels the same responses come out."""
    model = network(padding, strides)
    cheap = prune_keras.cheapen(model, "B(1)", data=SMOOTH)
    expected = model.predict(SMOOTH, verbose=0)
    np.testing.assert_allclose(
        cheap.predict(SMOOTH, verbose=0), expected, atol=2e-2 * np.abs(expected).max()
    )


@pytest.mark.parametrize("block", ["G(4)", "B(2)"])
def test_a_block_is_fitted_to_what_those_before_it_feed(block):
    """What is missed at its responses cannot be told from what its last layer reads."""
    pixels = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(8, 3, activation="relu", padding="same", name="stem")(pixels)
    x = keras.layers.Conv2D(8, 3, activation="relu", padding="same", name="b")(x)
    model = keras.Model(pixels, keras.layers.Conv2D(8, 3, padding="same", name="c")(x))
    images = SMOOTH[:, :6, :6]
    cheap = prune_keras.cheapen(model, block, data=images)
    inner = keras.Model(cheap.input, cheap.get_layer("c_grouped").output)
    read = inner.predict(images, verbose=0).reshape(-1, inner.output.shape[-1])
    missed = model.predict(images, verbose=0) - cheap.predict(images, verbose=0)
    missed = missed.reshape(len(read), -1)
    read = (read - read.mean(0)) / read.std(0)
    told = np.abs(read.T @ missed / len(read)).max() / missed.std()
    assert 1e-3 < missed.std() and told < 1e-2


def reading_itself(between):
    """A convolution called three times, once behind another one that is fitted after it."""
    pixels = keras.Input((6, 6, 8))
    again = keras.layers.Conv2D(8, 3, padding="same", name="again")
    x = again(keras.layers.ReLU()(again(pixels)))
    if between:
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="between")(x)
    return keras.Model(pixels, again(x))


@pytest.mark.parametrize("between", [False, True])
def test_a_convolution_that_reads_its_own_output_is_fitted_to_that(between):
    """Blocks as wide as what they replace change nothing, whatever these read of each other."""
    images = RNG.normal(size=(64, 6, 6, 8)).astype("float32")
    model = reading_itself(between)
    cheap = prune_keras.cheapen(model, "G(1)", layers="*", data=images)
    expected = model.predict(images, verbose=0)
    found = cheap.predict(images, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())


def behind_an_adapted(layer, samples, dtype):
    """A model that adds what is made of an adapted layer to its maps."""
    layer.adapt(samples)
    given = keras.Input(samples.shape[1:], dtype=dtype, name="given")
    told = keras.layers.Flatten()(keras.ops.cast(layer(given), "float32"))
    pixels = keras.Input((6, 6, 8), name="pixels")
    x = keras.layers.Add()([pixels, keras.layers.Dense(8)(told)[:, None, None]])
    x = keras.layers.Conv2D(8, 3, name="b")(x)
    return keras.Model({"pixels": pixels, "given": given}, x)


ADAPTED = {
    "normalized": (keras.layers.Normalization, {}, RNG.normal(9, 4, (64, 3)), "float32"),
    "bins": (keras.layers.Discretization, {"num_bins": 4}, RNG.normal(9, 4, (64, 3)), "float32"),
    "ids": (keras.layers.IntegerLookup, {}, RNG.integers(0, 9, (64, 1)), "int64"),
    "words": (keras.layers.StringLookup, {}, RNG.choice([*"abcd"], (64, 1)), "string"),
}


@pytest.mark.parametrize("kind", ADAPTED)
def test_adapted_layers_keep_what_they_know(kind, tmp_path):
    make, options, samples, dtype = ADAPTED[kind]
    if kind != "normalized" and keras.backend.backend() != "tensorflow":
        pytest.skip("tables and bins are TensorFlow's")
    model = behind_an_adapted(make(**options), samples, dtype)
    pixels = RNG.normal(size=(64, 6, 6, 8)).astype("float32")
    given = {"pixels": keras.ops.convert_to_tensor(pixels)}
    given["given"] = keras.ops.convert_to_tensor(samples, dtype)
    cheap = prune_keras.cheapen(model, "G(1)", layers="b", data=[(given,)])
    expected = keras.ops.convert_to_numpy(model(given))
    found = keras.ops.convert_to_numpy(cheap(given))
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
    cheap.save(tmp_path / "cheap.keras")
    read = keras.models.load_model(tmp_path / "cheap.keras")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(read(given)), found, atol=1e-5)


def test_the_cheaper_model_is_pruned_taught_and_read_back(tmp_path):
    cheap = prune_keras.cheapen(network(), "G(2)", data=SMOOTH)
    thin, report = prune_keras.prune(cheap, fraction=0.3)
    assert report.plan.removed and prune_keras.cost(thin).params < prune_keras.cost(cheap).params
    prune_keras.export(thin, tmp_path / "thin.keras")
    graph = prune_keras.trace(cheap)
    assert {"b_grouped", "b_mix", "inner/c_mix"} <= {*graph.producers}
    assert not [each for each in graph.fixed if "b_" in each.path]


@pytest.mark.repeats(1)
def test_a_convolution_that_reads_scaled_pixels_stays():
    pixels = keras.Input((10, 10, 3))
    x = keras.layers.ZeroPadding2D()(keras.layers.Normalization(mean=0.5, variance=2.0)(pixels))
    stem = keras.layers.Conv2D(8, 3, name="stem")(x)
    x = keras.layers.Add()([keras.layers.Conv2D(3, 3, padding="same", name="b")(stem), pixels])
    x = keras.layers.Conv2D(4, 3, name="c")(x)
    cheap = prune_keras.cheapen(keras.Model(pixels, x), "G(N)", data=SMOOTH)
    names = {layer.name for layer in cheap.layers}
    assert {"stem", "b_mix", "c_grouped"} <= names and not {"b", "stem_mix"} & names


def test_only_what_is_named_is_replaced():
    cheap = prune_keras.cheapen(network(), "G(N)", layers="inner/*", data=SMOOTH)
    names = [layer.name for layer in cheap._flatten_layers()]
    assert "c_mix" in names and "b" in names and "a" in names


HELD = {
    "kernel_regularizer": "l2",
    "kernel_constraint": "max_norm",
    "bias_regularizer": "l1",
    "bias_constraint": "non_neg",
    "activity_regularizer": "l1",
}


def one_convolution(**options):
    pixels = keras.Input((10, 10, 4))
    maps = keras.layers.Conv2D(8, 3, name="b", **options)(pixels)
    return keras.Model(pixels, keras.layers.ReLU()(maps))


@pytest.mark.parametrize(("block", "kernels"), [("G(2)", 2), ("G(N)", 2), ("BG(2,2)", 3)])
def test_what_holds_weights_in_training_holds_those_of_the_block(block, kernels):
    images = np.repeat(SMOOTH, 2, axis=-1)[..., :4]
    cheap = prune_keras.cheapen(one_convolution(**HELD), block, layers="b", data=images)
    held = {weight.path.removeprefix("b_"): weight for weight in cheap.weights}
    assert len(cheap.losses) == kernels + 1
    by_name = {path: type(weight.regularizer).__name__ for path, weight in held.items()}
    assert by_name.pop("mix/bias") == "L1" and {*by_name.values()} == {"L2"}
    assert type(held.pop("mix/bias").constraint).__name__ == "NonNeg"
    assert {type(weight.constraint).__name__ for weight in held.values()} == {"MaxNorm"}
    assert cheap.get_layer("b_mix").activity_regularizer is not None
    assert cheap.get_layer("b_grouped").activity_regularizer is None


def test_a_block_in_place_of_a_frozen_layer_is_frozen():
    model = network()
    model.get_layer("b").trainable = False
    cheap = prune_keras.cheapen(model, "BG(2,2)", data=SMOOTH)
    trainable = {weight.path for weight in cheap.trainable_weights}
    assert not [path for path in trainable if path.startswith("b_") and "norm" not in path]
    assert {"c_reduce/kernel", "c_grouped/kernel", "c_mix/kernel"} <= trainable


def test_what_is_read_once_serves_all_layers():
    model, halves = network(), [(SMOOTH[:12],), (SMOOTH[12:],)]
    found = [prune_keras.cheapen(model, "G(2)", data=data) for data in (halves, iter(halves))]
    for one, other in zip(*(each.get_weights() for each in found), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"block": "H(2)"}, "must be 'G"),
        ({"block": "G(0)"}, "must be 'G"),
        ({"block": "B(00)"}, "must be 'G"),
        ({"block": "BG(2,00)"}, "must be 'G"),
        ({"block": "G(3)"}, "divisible into groups"),
        ({"block": "B(3)"}, "divisible into groups"),
        ({"block": "G(2)", "data": None}, "fitted to samples"),
        ({"block": "G(2)", "layers": []}, "There must be a Conv2D"),
        ({"block": "G(2)", "layers": ["classes"]}, r"must name a Conv2D.*\['classes'\]"),
        ({"block": "G(2)", "layers": ["b", "typo"]}, r"\['typo'\].*\['a', 'b', 'inner/c'\]"),
    ],
)
def test_what_cannot_be_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        prune_keras.cheapen(**{"model": network(), "data": SMOOTH} | arguments)


def test_names_of_layers_that_are_there_already_are_left_to_them():
    pixels = keras.Input((10, 10, 3))
    x = keras.layers.Conv2D(8, 3, name="a_mix")(pixels)
    x = keras.layers.ReLU()(keras.layers.Conv2D(8, 3, name="a")(x))
    cheap = prune_keras.cheapen(keras.Model(pixels, x), "G(2)", data=SMOOTH)
    assert {"a_mix", "a_1_mix", "a_1_grouped"} <= {layer.name for layer in cheap.layers}


def test_names_of_one_block_are_left_to_it_by_the_next():
    pixels = keras.Input((10, 10, 3))
    x = keras.layers.Conv2D(8, 1, name="a_mix")(pixels)
    for name in ("a", "a_1"):
        x = keras.layers.Conv2D(8, 3, name=name)(x)
    cheap = prune_keras.cheapen(keras.Model(pixels, keras.layers.ReLU()(x)), "G(2)", data=SMOOTH)
    assert len({layer.name for layer in cheap.layers}) == len(cheap.layers) == 7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_must_be_finite(value):
    x = SMOOTH.copy()
    x[0, 0, 0, 0] = value
    with pytest.raises(ValueError, match="must be finite"):
        prune_keras.cheapen(network(), "G(2)", data=x)


def test_a_call_of_ones_own_is_refused_with_a_way_out():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.a, self.b = keras.layers.Conv2D(8, 3), keras.layers.Conv2D(8, 3)

        def call(self, x):
            return self.b(self.a(x))

    model = Own()
    model(SMOOTH[:1])
    with pytest.raises(ValueError, match=r"must be functional.*prune_keras\.unfold"):
        prune_keras.cheapen(model, "G(2)", data=SMOOTH)
    prune_keras.cheapen(prune_keras.unfold(model), "G(2)", data=SMOOTH)
