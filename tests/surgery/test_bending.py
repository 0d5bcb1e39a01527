"""What an activation hides: a refit behind which less is missed where it is flat."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import _keras
from prune_keras.repair import Refit, Repair, walking
from prune_keras.repair.bending import Bend, Rows, bent
from prune_keras.repair.gathering import Gathering
from prune_keras.repair.least_squares import fitted
from prune_keras.repair.walking import Walk
from prune_keras.samples.subject import Subject
from prune_keras.surgery import kept_neurons

RELU, RELU6 = (0.0, np.inf), (0.0, 6.0)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (layers.ReLU(), RELU),
        (layers.ReLU(max_value=2), (0.0, 2.0)),
        (layers.ReLU(negative_slope=0.1), None),
        (layers.ReLU(threshold=1.0), None),
        (layers.Activation("relu"), RELU),
        (layers.Activation("relu6"), RELU6),
        (layers.Activation("tanh"), None),
        (layers.Dense(2), None),
        (keras.activations.relu, RELU),
        (keras.activations.gelu, None),
        (None, None),
    ],
)
def test_flat_ends_are_known(operation, expected):
    assert _keras.ends_of(operation) == expected


@pytest.mark.parametrize(("function", "expected"), [("relu", RELU), ("relu6", RELU6)])
def test_flat_ends_of_operations_are_known(function, expected):
    y = getattr(keras.ops, function)(keras.Input((3,)))
    assert _keras.ends_of(y._keras_history.operation) == expected


def case(groups=1, read=4, units=3, rows=400, seed=0):
    """Return rows that miss what nothing they read can tell, gathered and as they are."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(groups, rows, read + 3))
    dense = np.matmul(x, draw.normal(size=(groups, read + 3, units))) - 0.5
    thin, held = 0.1 * dense, np.arange(rows) % 4 == 3
    slope = draw.choice([-1.5, 0.5, 2.0], (groups, 1, units))
    gathering = Gathering(read)
    gathering.add(x[..., :read], (dense - thin) / slope, held)
    gathered, every = gathering.gathered(), Rows.of(x[..., :read], dense, thin)
    return every, gathered, Rows.joined([(every, held)]), slope


@pytest.mark.parametrize("ends", [RELU, (-1.0, 1.0), (0.0, 0.5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_less_is_missed_behind_the_activation(groups, ends):
    every, gathered, front, slope = case(groups)
    linear, bend = fitted(gathered, shifts=True), Bend(*ends, slope, 1 / slope)
    found, change = bent(linear, gathered, front, bend, None)
    assert bend.error(every, found) < 0.95 * bend.error(every, linear)
    before, after = (bend.given(every, each) for each in (linear, found))
    moved = (after - before).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(change[:, None] * slope, moved, atol=1e-4)


def test_few_rows_are_fitted_along_their_basis():
    every, gathered, front, slope = case(read=200, rows=120)
    assert gathered.basis is not None
    linear, bend = fitted(gathered, shifts=True), Bend(*RELU, slope, 1 / slope)
    found, change = bent(linear, gathered, front, bend, None)
    assert found.weights.shape == linear.weights.shape == (1, 200, 3)
    held = front.between(gathered.fit.count, None)
    assert bend.error(held, found) <= bend.error(held, linear)
    moved = (bend.given(every, found) - bend.given(every, linear)).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(change[:, None] * slope, moved, atol=1e-4)


def test_without_flat_ends_nothing_is_gained():
    _, gathered, front, slope = case()
    linear, bend = fitted(gathered, shifts=True), Bend(-np.inf, np.inf, slope, 1 / slope)
    found, change = bent(linear, gathered, front, bend, None)
    np.testing.assert_allclose(found.weights, linear.weights, atol=1e-3)
    np.testing.assert_allclose(change, 0, atol=1e-3)


def test_what_held_out_rows_do_not_gain_is_not_taken():
    _, gathered, front, slope = case()
    linear, bend = fitted(gathered, shifts=True), Bend(*RELU, slope, 1 / slope)
    found, change = bent(linear, gathered, front, bend, lambda weights: weights + 5.0)
    assert found is linear and not change.any()


def own():
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation="relu", name="a")(inputs)
    return keras.Model(inputs, layers.Dense(6, activation="relu", name="b")(x))


def normalized():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, activation="relu", name="a")(inputs)
    x = layers.BatchNormalization()(layers.Conv2D(6, 3, use_bias=False, name="b")(x))
    return keras.Model(inputs, layers.ReLU()(x))


def grouped():
    inputs = keras.Input((9, 4))
    x = layers.Conv1D(8, 3, activation="relu", name="a")(inputs)
    x = layers.BatchNormalization()(layers.Conv1D(6, 3, groups=2, use_bias=False, name="b")(x))
    return keras.Model(inputs, layers.Activation("relu6")(x))


def added():
    inputs = keras.Input((6, 6, 2))
    stream = layers.Conv2D(4, 1)(inputs)
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(stream)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", name="b")(x))
    return keras.Model(inputs, layers.ReLU()(layers.Add()([stream, x])))


def drawn(make):
    keras.utils.set_random_seed(0)
    model, draw = make(), np.random.default_rng(0)
    for variable in model.variables:
        value = draw.normal(size=variable.shape) * 0.4
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)
    return model, draw.normal(size=(1280, *model.input_shape[1:])).astype("float32")


def half(graph):
    kept = {path: range(width) for path, width in graph.widths.items()}
    return prune_keras.Plan(kept | {"a": [0, 1, 4, 5]}, graph.widths)


@pytest.mark.repeats(2)
@pytest.mark.parametrize("make", [own, normalized, grouped, added])
def test_a_thin_network_is_nearer_behind_activations(make, monkeypatch):
    model, x = drawn(make)
    graph = prune_keras.trace(model)
    plan = half(graph)

    def missed():
        thin = prune_keras.shrink(model, plan)
        Repair.of(model, graph, kept_neurons(graph, plan), x[:1024], "sequential").apply(thin)
        found = [each.predict(x[1024:], verbose=0) for each in (model, thin)]
        return float(np.mean(np.square(found[0] - found[1])))

    bending = missed()
    monkeypatch.setattr(walking, "bent", lambda fit, *_: (fit, np.zeros_like(fit.shift)))
    assert bending < 0.99 * missed()


def test_an_activation_of_its_own_hides_what_a_sum_misses():
    """Then weights cannot be fitted to the sum."""
    inputs = keras.Input((6,))
    stream = layers.Dense(5)(layers.Dense(8, activation="relu", name="a")(inputs))
    y = layers.Dense(5, activation="relu", name="b")(stream)
    model = keras.Model(inputs, layers.Add()([stream, y]))
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    graph = prune_keras.trace(model)
    walk, seen = Walk(model, graph, kept_neurons(graph, half(graph)), Refit()), {}
    behind = walk._behind
    walk._behind = lambda visited, layer: seen.setdefault(layer.name, behind(visited, layer))
    walk.over(Subject(model, graph, x).flat())
    assert seen["b"].streams == () and seen["b"].ends == RELU
