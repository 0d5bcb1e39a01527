"""Criteria against references that compute their formulas in other ways; mixtures."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import criteria, score
from prune_keras.criteria.discrimination import discrimination

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 7, 7, 2)).astype("float32")
Y = np.arange(6) % 3


def network():
    """Convolutions of all kinds that read, a Dense layer behind Flatten."""
    inputs = keras.Input((7, 7, 2))
    x = layers.Conv2D(6, 3, activation="relu", name="a")(inputs)
    y = layers.Conv2D(5, 3, strides=2, padding="same", activation="tanh", name="b")(x)
    z = layers.Conv2D(6, 2, dilation_rate=2, padding="valid", groups=2, name="c")(x)
    flat = layers.Concatenate()([layers.Flatten()(y), layers.Flatten()(z)])
    x = layers.Dense(4, activation="relu", name="d")(flat)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="e")(x))
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape) / 3)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


def output_of(model, name, x=X):
    return np.asarray(
        ops.convert_to_numpy(keras.Model(model.input, model.get_layer(name).output)(x))
    )


def without(model, path, unit):
    """Return the weights that read one unit, set to zero for a while by the caller."""
    graph = prune_keras.trace(model)
    neuron = graph.producers[path].neurons[unit]
    for weight in graph.weights:
        for axis in weight.reads:
            gone = weight.axes[axis] == neuron
            if gone.any():
                shape = [1] * len(weight.variable.shape)
                shape[axis] = -1
                yield weight.variable, np.array(weight.variable) * ~gone.reshape(shape)


def silenced(model, path, unit, measure):
    """Return what a function gives once all weights that read a unit are zero there."""
    before = model.get_weights()
    for variable, value in [*without(model, path, unit)]:
        variable.assign(value)
    found = measure()
    model.set_weights(before)
    return found


def linear(model, name):
    """Return what a layer gives before its activation, as sums over its last axis."""
    layer = model.get_layer(name)
    activation, layer.activation = layer.activation, keras.activations.linear
    found = output_of(model, name)
    layer.activation = activation
    return found


def test_reconstruction_is_the_change_of_what_the_next_layers_respond():
    model = network()
    found = score(model, "reconstruction", data=X)
    for path, readers in {"a": "bc", "b": "d", "c": "d", "d": "e"}.items():
        for unit in range(len(found[path])):
            energy = 0
            for reader in readers:
                change = linear(model, reader) - silenced(
                    model, path, unit, lambda r=reader: linear(model, r)
                )
                energy += np.square(change).sum(-1).mean()
            assert found[path][unit] == pytest.approx(np.sqrt(energy), rel=1e-4)


def test_layers_that_are_called_by_name_respond():
    inputs, hidden, last = keras.Input((4,)), layers.Dense(3, name="a"), layers.Dense(2)
    by_place = keras.Model(inputs, last(hidden(inputs)))
    by_name = keras.Model(inputs, last(inputs=hidden(inputs=inputs)))
    x = np.random.default_rng(0).normal(size=(9, 4))
    found, expected = (score(m, "reconstruction", data=x)["a"] for m in (by_name, by_place))
    np.testing.assert_array_equal(found, expected)


def test_the_oracle_is_the_change_of_the_loss():
    model = network()
    evaluate = lambda: float(model.evaluate(X, Y, verbose=0))  # noqa: E731
    base = evaluate()
    for path, values in score(model, "oracle", data=(X, Y)).items():
        for unit, value in enumerate(values):
            expected = silenced(model, path, unit, evaluate) - base
            assert value == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_oracle_of_coupled_units_silences_all_of_them():
    inputs = keras.Input((4,))
    a = layers.Dense(3, name="a")(inputs)
    b = layers.Dense(3, name="b")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Add()([a, b])))
    model.compile("sgd", "mse")
    x, y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 2))
    found = score(model, "oracle", data=(x, y))
    np.testing.assert_array_equal(found["a"], found["b"])
    base = model.evaluate(x, y, verbose=0)
    expected = silenced(model, "a", 1, lambda: model.evaluate(x, y, verbose=0)) - base
    assert found["a"][1] == pytest.approx(expected, rel=1e-4)


def slope(function, variable, index, step=1e-3):
    """Return the derivative of a function by one entry of a variable, by differences."""
    before = np.array(variable)
    values = []
    for sign in (1, -1):
        moved = before.copy()
        moved[index] += sign * step
        variable.assign(moved)
        values.append(function())
    variable.assign(before)
    return (values[0] - values[1]) / (2 * step)


def test_gradients_by_weights_against_differences():
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="tanh", name="d")(inputs)
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="e")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    kernel, x = model.get_layer("d").kernel, X[:, 0, :2, :].reshape(6, 4)

    def outputs():
        return ops.convert_to_numpy(model(x)).astype(np.float64)

    def loss():
        return -np.log(outputs()[np.arange(6), Y]).mean()

    found, values = score(model, "taylor_weights", data=(x, Y))["d"], np.array(kernel)
    for unit in range(3):
        total = sum(values[i, unit] * slope(loss, kernel, (i, unit)) for i in range(4))
        assert found[unit] == pytest.approx(total**2, rel=5e-2, abs=1e-6)
    slopes = [
        sum(abs(slope(lambda k=k: outputs()[:, k].mean(), kernel, (i, 1))) for i in range(4))
        for k in range(3)
    ]
    assert score(model, "sensitivity", data=x)["d"][1] == pytest.approx(np.mean(slopes), rel=5e-2)


def test_deviation_of_activations_over_all_calls():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    shared = layers.Dense(4, activation="relu", name="shared")
    joined = layers.Concatenate()([shared(x) for x in inputs])
    model = keras.Model(inputs, layers.Dense(2)(joined))
    left, right = RNG.normal(size=(2, 9, 3)).astype("float32")
    outputs = np.concatenate([ops.convert_to_numpy(shared(x)) for x in (left, right)])
    found = score(model, "activation_std", data=[left, right])["shared"]
    np.testing.assert_allclose(found, outputs.std(axis=0), rtol=1e-4)


def test_a_constant_unit_deviates_by_nothing():
    model = network()
    kernel, bias = model.get_layer("d").get_weights()
    kernel[:, 2], bias[2] = 0, 3
    model.get_layer("d").set_weights([kernel, bias])
    assert score(model, "activation_std", data=X)["d"][2] < 1e-3
    assert score(model, "mean_activation", data=X)["d"][2] == pytest.approx(3)


def test_geometric_median_of_equal_filters():
    kernel = RNG.normal(size=(20, 5)).astype("float32")
    kernel[:, 3] = kernel[:, 1]
    found = criteria.geometric_median(kernel)
    pairs = np.linalg.norm(kernel[:, :, None] - kernel[:, None], axis=0).sum(1)
    np.testing.assert_allclose(found, pairs, rtol=1e-5)
    assert found[1] == found[3]


def test_batch_normalization_scales():
    inputs = keras.Input((4,))
    x = layers.Dense(3, name="a")(inputs)
    y = layers.BatchNormalization(name="one")(x)
    z = layers.BatchNormalization(name="two")(layers.Concatenate()([x, inputs]))
    model = keras.Model(inputs, layers.Dense(2)(layers.Concatenate()([y, z])))
    one, two = model.get_layer("one").gamma, model.get_layer("two").gamma
    one.assign([1.0, -2.0, 3.0])
    two.assign([3.0, 4.0, -5.0, 9.0, 9.0, 9.0, 9.0])
    np.testing.assert_allclose(score(model, "bn_scale")["a"], [2.0, 3.0, 4.0])


def test_discrimination_finds_the_feature_that_tells_classes_apart():
    classes = np.eye(2)[np.arange(200) % 2]
    noise = RNG.normal(size=(200, 3))
    features = np.column_stack([noise, classes[:, 0] * 2 + RNG.normal(size=200) / 4, np.ones(200)])
    found = discrimination(features, classes, 200)
    assert found.argmax() == 3 and found[3] > 3 * found[:3].max() and found[4] == 0


def test_discrimination_against_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model")
    x = RNG.normal(size=(300, 4))
    y = (x @ [2.0, -1.0, 0.5, 0.0] + RNG.normal(size=300) > 0).astype(int)
    x = (x - x.mean(0)) / x.std(0)
    fitted = linear_model.LogisticRegression(C=1e6).fit(x, y)
    error = fitted.predict_proba(x)[:, 1] - y
    # The slope by a feature in a softmax of two columns that differ by the fitted weights.
    expected = np.abs(x * error[:, None] * fitted.coef_).mean(0)
    found = discrimination(x, np.eye(2)[y], 2000)
    np.testing.assert_allclose(found, expected, rtol=1e-2)


def test_a_mean_of_criteria_weighs_each_by_its_layers_mean():
    model = network()
    l1, l2 = score(model, "l1")["d"], score(model, "l2")["d"]
    found = score(model, criteria.Mean(["l1", "l2"]))["d"]
    np.testing.assert_allclose(found, (l1 / l1.mean() + l2 / l2.mean()) / 2, rtol=1e-6)


def test_a_switch_is_another_criterion_in_later_rounds():
    switch = criteria.Switch(criteria.Switch("taylor", "apoz", 1), "l2", after=3)
    names = [criteria.at_round(switch, round).__name__ for round in range(5)]
    assert names == ["taylor", "apoz", "apoz", "l2", "l2"]
    assert criteria.needs_data(switch) and criteria.needs_loss(switch)


@pytest.mark.parametrize(
    "criterion",
    [
        criteria.Mean(["taylor", "l2"]),
        criteria.Switch("taylor", criteria.Mean(["l1", criteria.Random(3)]), after=2),
        criteria.Discrimination(steps=7),
        criteria.Mean([replace(criteria.sensitivity, outputs=64), "l2"]),
    ],
    ids=["mean", "switch", "discrimination", "sensitivity"],
)
def test_configs_of_criteria_with_arguments(criterion):
    assert criteria.get(criteria.serialize(criterion)) == criterion


@pytest.mark.parametrize(
    "criterion",
    [criteria.Activations(lambda a: a[:, 0], "apoz"), lambda kernel: kernel[0]],
    ids=["record", "function"],
)
def test_a_criterion_of_ones_own_is_not_stored_as_another(criterion):
    with pytest.raises(ValueError, match="Only criteria of prune_keras can be stored"):
        criteria.serialize(criteria.Switch("l1", criterion, after=1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: criteria.Mean([]), r"at least one criterion. Received: criteria=\[\]"),
        (lambda: criteria.Mean("l2"), "a list of at least one.*criteria='l2'"),
        (lambda: criteria.Switch("l1", "l2", 0), "`after` must be a whole number of at least 1"),
        (lambda: criteria.Switch("l1", "l9", 1), "must be one of .*'l9'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
