"""One contract for every criterion, and each against a reference in NumPy."""

import keras
import numpy as np
import pytest

from prune_keras import criteria, score, trace

ALL = pytest.mark.parametrize("name", sorted(criteria.CRITERIA))
X = np.random.default_rng(0).normal(size=(7, 6, 6, 2)).astype("float32")
Y = np.random.default_rng(1).integers(0, 3, 7)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(5, activation="relu", name="dense")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax", name="out")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    model.get_layer("norm").moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    return model


def activations(model, name):
    values = keras.Model(model.input, model.get_layer(name).output)(X)
    return keras.ops.convert_to_numpy(values)


def residual():
    """Coupled members, a depthwise convolution, normalization behind every layer."""
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="a")(inputs)
    x = keras.layers.BatchNormalization()(x)
    y = keras.layers.DepthwiseConv2D(3, padding="same")(keras.layers.ReLU()(x))
    y = keras.layers.BatchNormalization()(y)
    y = keras.layers.Conv2D(4, 1, name="b")(keras.layers.ReLU()(y))
    y = keras.layers.BatchNormalization()(y)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, y]))
    return compiled(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x)))


def sequences():
    """Attention, recurrent layers, normalization over channels."""
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Reshape((6, 12))(inputs)
    x = keras.layers.Dense(8, name="d")(x)
    y = keras.layers.MultiHeadAttention(2, 3, name="m")(x, x)
    x = keras.layers.LayerNormalization()(keras.layers.Add()([x, y]))
    x = keras.layers.LSTM(5, return_sequences=True, name="l")(x)
    x = keras.layers.Bidirectional(keras.layers.GRU(4), name="g")(x)
    return compiled(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x)))


def compiled(model):
    keras.utils.set_random_seed(1)
    for variable in model.weights:
        value = np.random.default_rng(len(variable.path)).uniform(0.2, 1, variable.shape)
        variable.assign(value * np.random.default_rng(1).choice([-1, 1], variable.shape))
        if variable.name == "moving_variance":
            variable.assign(value)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


MODELS = {"residual": residual, "sequences": sequences}


@pytest.mark.repeats(10)
@ALL
@pytest.mark.parametrize("kind", MODELS)
def test_finite_one_a_unit_and_the_same_again(name, kind):
    if (name, kind) == ("bn_scale", "sequences"):
        pytest.skip("needs batch normalization; test_units_without_a_scale_are_an_error")
    model = MODELS[kind]()
    before = [np.array(v) for v in model.variables]
    scores = score(model, name, data=(X, Y), seed=3)
    again = score(model, name, data=(X, Y), seed=3)
    assert {path: len(values) for path, values in scores.items()} == trace(model).widths
    for path, values in scores.items():
        assert values.dtype == np.float64 and np.isfinite(values).all()
        np.testing.assert_array_equal(values, again[path])
        assert len(values) == 2 or len(np.unique(values)) > 1
    np.testing.assert_equal([np.array(v) for v in model.variables], before)


@ALL
def test_config_gives_the_same_criterion(name):
    criterion = criteria.get(name)
    assert criteria.get(criteria.serialize(criterion)) == criterion


@pytest.mark.parametrize("name", sorted(set(criteria.CRITERIA) - {"random"}))
def test_scores_follow_a_permutation_of_the_units(name):
    model, order = residual(), np.array([3, 0, 2, 1])
    before = score(model, name, data=(X, Y))
    layers = [layer for layer in model.layers if layer.weights]
    for layer in layers[:-1]:
        layer.set_weights([permuted(w, layer, order) for w in layer.get_weights()])
    kernel, bias = layers[-1].get_weights()
    layers[-1].set_weights([kernel[order], bias])
    after = score(model, name, data=(X, Y))
    for path, values in before.items():
        largest = np.abs(values).max()
        np.testing.assert_allclose(after[path], values[order], rtol=1e-4, atol=1e-4 * largest)


def permuted(weight, layer, order):
    """Let the four channels of a layer of `residual` change places."""
    for axis in range(weight.ndim):
        if weight.shape[axis] == 4:
            weight = weight.take(order, axis)
    return weight


def test_weights_against_numpy(model):
    kernel = model.get_layer("conv").get_weights()[0]
    np.testing.assert_allclose(score(model, "l1")["conv"], np.abs(kernel).sum((0, 1, 2)), rtol=1e-5)
    length = np.sqrt(np.square(kernel).sum((0, 1, 2)))
    np.testing.assert_allclose(score(model, "l2")["conv"], length, rtol=1e-5)


def test_activations_are_read_behind_normalization_and_activation(model):
    relu, dense = activations(model, "relu"), activations(model, "dense")
    found = score(model, "apoz", data=X)
    np.testing.assert_allclose(found["conv"], (relu > 0).mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found["dense"], (dense > 0).mean(0), rtol=1e-5)
    found = score(model, "mean_activation", data=X)
    np.testing.assert_allclose(found["conv"], relu.mean((0, 1, 2)), rtol=1e-5)


def test_taylor_is_the_slope_of_the_loss_by_a_gate(model):
    """A gate at 1 +- h on one unit gives the derivative that the criterion sums over positions."""
    tail = keras.Sequential([keras.Input((4, 4, 4)), *model.layers[4:]])
    relu, expected = activations(model, "relu"), np.zeros(4)
    for unit in range(4):
        losses = []
        for gate in (1 + 1e-2, 1 - 1e-2):
            gated = relu.copy()
            gated[..., unit] *= gate
            chosen = keras.ops.convert_to_numpy(tail(gated))[np.arange(7), Y]
            losses.append(-np.log(chosen))
        expected[unit] = np.abs((losses[0] - losses[1]) / 2e-2 / 16).mean()
    np.testing.assert_allclose(score(model, "taylor", data=(X, Y))["conv"], expected, rtol=2e-2)


def test_batches_do_not_change_scores(model):
    tf = pytest.importorskip("tensorflow")
    whole = score(model, "taylor", data=(X, Y))
    parts = score(model, "taylor", data=tf.data.Dataset.from_tensor_slices((X, Y)).batch(3))
    for path in whole:
        np.testing.assert_allclose(parts[path], whole[path], rtol=1e-4)


def test_a_layer_that_is_called_twice_sums_over_its_calls():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    shared = keras.layers.Dense(4, activation="relu", name="shared")
    joined = keras.layers.Concatenate()([shared(x) for x in inputs])
    model = keras.Model(inputs, keras.layers.Dense(2)(joined))
    left, right = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    outputs = [keras.ops.convert_to_numpy(shared(x)) for x in (left, right)]
    expected = sum(np.abs(values).mean(0) for values in outputs)
    np.testing.assert_allclose(
        score(model, "mean_activation", data=[left, right])["shared"], expected, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["apoz", "taylor"])
def test_mixed_precision_gives_nearly_the_same(name):
    with_policy = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        x = keras.layers.Dense(8, activation="relu", name="a", dtype=policy)(inputs)
        outputs = keras.layers.Dense(3, activation="softmax", dtype="float32")(x)
        model = keras.Model(inputs, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy")
        data = (np.random.default_rng(0).normal(size=(2000, 6)), np.arange(2000) % 3)
        with_policy[policy] = score(model, name, data=data)["a"]
    np.testing.assert_allclose(*with_policy.values(), rtol=0.1, atol=2e-3)


def test_random_layers_differ_and_a_seed_repeats_them():
    model = keras.Sequential([keras.Input((4,)), *(keras.layers.Dense(6, name=n) for n in "abc")])
    scores = score(model, criteria.Random(seed=1))
    assert (scores["a"] != scores["b"]).all()
    np.testing.assert_array_equal(scores["a"], score(model, "random", seed=1)["a"])


def test_own_criteria():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    )
    kernel = model.get_layer("a").get_weights()[0]
    np.testing.assert_allclose(score(model, lambda k: k.max(axis=0))["a"], kernel.max(0))
    with pytest.raises(ValueError, match=r"shape \(2,\) for the 3 units of 'a'"):
        score(model, lambda k: np.zeros(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "l3"}, r"must be one of \['activation_std', 'apoz', .*criterion='l3'"),
        ({"criterion": "bn_scale"}, "normalization.*behind every .*'dense', where 5 of 5"),
        ({"criterion": "discrimination", "data": (X, Y + 0.5)}, r"needs classes.*shape \(7,\)"),
        ({"criterion": "discrimination", "data": (X, X[:, :2, 0, 0])}, "needs classes.*(7, 2)"),
        ({"criterion": "discrimination", "data": (X, (Y, Y))}, "one output. Received: 2 arrays"),
        ({"criterion": "oracle", "data": X}, "'oracle' needs targets"),
        ({"criterion": "apoz"}, "'apoz' looks at samples. Received: data=None"),
        ({"criterion": "taylor", "data": X}, "'taylor' needs targets"),
        ({"criterion": "apoz", "data": X[:0]}, "at least one sample"),
        ({"criterion": "apoz", "data": X * np.nan}, "must be finite. Received: NaN or infinity"),
        ({"criterion": lambda kernel: kernel[0] * np.nan}, "4 NaN or infinite scores.*'conv'"),
        ({"criterion": "apoz", "data": [X, X]}, "1 input arrays.*Received: 2"),
    ],
)
def test_bad_requests_say_what_was_received(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        score(model, **arguments)


def test_taylor_needs_a_loss():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="not compiled. Call model.compile"):
        score(model, "taylor", data=(np.zeros((2, 4)), np.zeros((2, 2))))


def test_calls_on_maps_of_two_sizes_have_each_its_mean():
    """Of a shared layer, the sum of two calls' means over positions."""
    given = keras.Input((8, 8, 2))
    shared = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="shared")
    large = shared(given)
    small = shared(keras.layers.AveragePooling2D(2)(given))
    means = [keras.layers.GlobalAveragePooling2D()(each) for each in (large, small)]
    out = keras.layers.Dense(3, activation="softmax", name="out")(keras.layers.Add()(means))
    model = compiled(keras.Model(given, out))
    x = np.random.default_rng(3).normal(size=(7, 8, 8, 2)).astype("float32")
    maps = keras.tree.map_structure(
        keras.ops.convert_to_numpy, keras.Model(given, [large, small])(x)
    )
    total = sum(each.mean((1, 2)) for each in maps)
    kernel, bias = model.get_layer("out").get_weights()
    logits = total @ kernel + bias
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    slope = (chances - np.eye(3)[Y]) @ kernel.T  # by the sum of means, (7, 4)
    expected = sum(each.mean((1, 2)) * slope / each[0, ..., 0].size for each in maps)
    found = score(model, "taylor", data=(x, Y))["shared"]
    np.testing.assert_allclose(found, np.abs(expected).mean(0), rtol=1e-4)


def test_statistics_of_ones_own_are_summed_with_enough_digits():
    peak = criteria.Activations(lambda a: keras.ops.max(a, axis=1), "peak")
    x = np.random.default_rng(3).uniform(0, 40, (4096, 4)).astype("float32")
    layers = [keras.layers.Dense(4, activation="relu", name="a"), keras.layers.Dense(2)]
    for dtype in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(dtype)
        try:
            model = keras.Sequential(
                [
                    keras.Input((4,)),
                    *(type(e).from_config(e.get_config() | {"dtype": dtype}) for e in layers),
                ]
            )
        finally:
            keras.config.set_dtype_policy("float32")
        found, expected = (score(model, each, x)["a"] for each in (peak, "mean_activation"))
        np.testing.assert_allclose(found, expected, rtol=1e-2)
