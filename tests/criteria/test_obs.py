"""Scores that know the repair, against fits by least squares without each unit."""

import keras
import numpy as np
import pytest
from keras import layers

from prune_keras import criteria, score, trace
from prune_keras.criteria.elimination import Quadratic, eliminated, elimination

RNG = np.random.default_rng(0)
SURGEON = criteria.OptimalBrainSurgeon(ridge=1e-9, positions=10**6)


def network(shape, *stack, units=5):
    """A layer of `units`, and what reads it, up to a linear last layer with a squared error."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape), *stack])
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape) / 2)
    model.compile("sgd", "mse", run_eagerly=True)
    x = RNG.normal(size=(60, *shape)).astype("float32")
    y = RNG.normal(size=(60, *model.output_shape[1:])).astype("float32")
    return model, x, y


def patches_of(layer, x):
    """Return what a layer reads for each response, `(rows, entries)`, by a kernel of ones."""
    config = layer.get_config() | {"activation": None, "use_bias": False, "groups": 1}
    size = int(np.prod(layer.kernel.shape[:-2])) * x.shape[-1]
    config["filters"] = size
    twin = type(layer).from_config(config)
    twin.build(x.shape)
    twin.set_weights([np.eye(size).reshape(twin.kernel.shape)])
    return np.array(twin(x), np.float64).reshape(-1, size)


def losses_without(rows, weights, curvature, columns, intercept=True):
    """Return what the squared misses of the best fit without some columns come to."""
    stays = np.delete(rows, columns, axis=1)
    if intercept:
        stays = np.c_[stays, np.ones(len(rows))]
    wanted = rows @ weights
    missed = wanted - stays @ np.linalg.lstsq(stays, wanted, rcond=None)[0]
    return (curvature * np.square(missed).mean(0)).sum() / 2


def brute_force(units, loss_without):
    """Remove one unit after another where the loss is lowest; return the loss as each one goes."""
    gone, losses = [], np.zeros(units)
    while len(gone) < units:
        rest = [u for u in range(units) if u not in gone]
        found = [loss_without([*gone, u]) for u in rest]
        gone.append(rest[int(np.argmin(found))])
        losses[gone[-1]] = min(found)
    return losses


def curvature_of(model, x, y, rows, weights, units):
    """Return the curvature by each output of a last layer with a squared error.

    It is the mean square of slopes, summed over positions, times what lets closing gates on single
    units cost, on their mean, what slopes by these gates say.
    """
    slopes = 2 * (np.array(model(x), np.float64) - y) / np.prod(y.shape[1:])
    slopes = slopes.reshape(len(y), -1, slopes.shape[-1])
    plain = np.square(slopes).sum(1).mean(0)
    gates = apart = 0
    for unit in range(units):
        own = [c for c in range(rows.shape[1]) if c % units == unit]
        added = (rows[:, own] @ weights[own]).reshape(slopes.shape)
        gates += np.square((slopes * added).sum((1, 2))).mean()
        apart += (plain * np.square(added).mean((0, 1))).sum()
    return plain * gates / apart


CONVOLUTIONS = {
    "2d": ((6, 6, 2), layers.Conv2D(5, 2, activation="relu"), layers.Conv2D(3, 3)),
    "strides": (
        (7, 6, 2),
        layers.Conv2D(5, 2, activation="relu"),
        layers.Conv2D(3, (3, 2), strides=2, padding="same"),
    ),
    "dilated": (
        (8, 8, 2),
        layers.Conv2D(4, 1, activation="tanh"),
        layers.Conv2D(3, 2, dilation_rate=2, padding="same"),
    ),
    "without a bias": (
        (6, 6, 2),
        layers.Conv2D(5, 2, activation="relu"),
        layers.Conv2D(3, 3, use_bias=False),
    ),
    "causal": (
        (9, 2),
        layers.Conv1D(4, 2, activation="relu"),
        layers.Conv1D(3, 3, padding="causal", dilation_rate=2),
    ),
    "3d": ((4, 4, 4, 1), layers.Conv3D(4, 1, activation="relu"), layers.Conv3D(2, 2)),
}


PRODUCTS = {
    "dense": ((4,), layers.Dense(5, activation="tanh"), layers.Dense(3)),
    "dense over positions": ((6, 3), layers.Dense(5, activation="tanh"), layers.Dense(2)),
    "einsum": (
        (6, 3),
        layers.EinsumDense("abc,cd->abd", (6, 5), bias_axes="d", activation="tanh"),
        layers.EinsumDense("abc,cd->abd", (6, 2), bias_axes="d"),
    ),
}


@pytest.mark.parametrize("kind", [*CONVOLUTIONS, *PRODUCTS])
def test_losses_are_those_of_least_squares_without_the_units(kind):
    shape, first, second = (CONVOLUTIONS | PRODUCTS)[kind]
    model, x, y = network(shape, first, second)
    read = np.array(first(x), np.float64)
    units = read.shape[-1]
    rows = patches_of(second, read) if kind in CONVOLUTIONS else read.reshape(-1, units)
    weights = np.array(second.kernel, np.float64).reshape(rows.shape[1], -1)
    curvature, with_bias = curvature_of(model, x, y, rows, weights, units), second.bias is not None

    def loss_without(gone):
        columns = [c for c in range(rows.shape[1]) if c % units in gone]
        return losses_without(rows, weights, curvature, columns, with_bias)

    found = score(model, SURGEON, (x, y))[first.name]
    np.testing.assert_allclose(found, brute_force(units, loss_without), rtol=2e-3, atol=1e-7)


def twins(scale=1.0):
    """Units 0 and 3 say the same, unit 2 nothing; a scale that the reader takes back."""
    model, x, y = network((4,), layers.Dense(5, activation="relu", name="a"), layers.Dense(3))
    kernel, bias = model.get_layer("a").get_weights()
    kernel[:, 3], bias[3], kernel[:, 2], bias[2] = kernel[:, 0], bias[0], 0, -1
    reading, last = model.layers[-1].get_weights()
    kernel[:, 1], bias[1], reading[1] = kernel[:, 1] * scale, bias[1] * scale, reading[1] / scale
    model.set_weights([kernel, bias, reading, last])
    return model, x, y


def test_of_two_twins_one_is_free_and_a_dead_unit_is_too():
    model, x, y = twins()
    found = score(model, "obs", (x, y))["a"]
    last, first = max(found[[0, 3]]), min(found[[0, 3]])
    assert found[2] == 0 and first < 1e-3 * found[1] and last > 0.1 * found[1]
    alone = score(model, "reconstruction", x)["a"]  # to which both are worth as much
    assert min(alone[[0, 3]]) > 0.1 * alone[1]


def test_a_scale_that_the_reader_takes_back_changes_nothing():
    plain, scaled = (score(*of(scale)) for scale in (1.0, 64.0))
    np.testing.assert_allclose(scaled["a"], plain["a"], rtol=1e-3, atol=1e-9)


def of(scale):
    model, x, y = twins(scale)
    return model, "obs", (x, y)


def small_images():
    """A trained network of two convolutions and a Dense layer, whose units differ."""
    keras.utils.set_random_seed(0)
    x = RNG.normal(size=(256, 6, 6, 2)).astype("float32")
    y = (x[:, :3].mean((1, 2)) > x[:, 3:].mean((1, 2))).astype(int) @ [1, 2]
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(6, 3, activation="relu", name="a"),
            layers.Conv2D(8, 3, activation="relu", padding="same", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="relu", name="c"),
            layers.Dense(4, activation="softmax", name="d"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, batch_size=64, verbose=0)
    return model, x, y


def rank_correlation(a, b):
    ranks = [np.argsort(np.argsort(each)) for each in (a, b)]
    return np.corrcoef(*ranks)[0, 1]


def test_layers_are_comparable_by_the_loss_that_the_first_cuts_leave():
    """Each unit alone, repaired by a new fit of what reads it: the measured rise of the loss."""
    model, x, y = small_images()
    found = score(model, "obs", (x, y))
    start, expected, guessed = model.evaluate(x, y, verbose=0), [], []
    for path, reader in {"a": "b", "b": None, "c": "d"}.items():
        layer = model.get_layer(path)
        for unit in range(len(found[path])):
            if reader is None:  # pooled between, so that nothing is fitted here
                continue
            expected.append(loss_after_a_fit(model, layer, model.get_layer(reader), unit, x, y))
            guessed.append(found[path][unit])
    rises = np.array(expected) - start
    first = np.argsort(guessed)[:8]  # what comes later is scored with these gone
    assert rank_correlation(guessed, rises) > 0.6
    assert rises[first].mean() < 0.5 * rises.mean()


def loss_after_a_fit(model, layer, reader, unit, x, y):
    """Return the loss once the reader is fitted to its responses without one unit."""
    before, activation = reader.get_weights(), reader.activation
    reader.activation = None
    seen = np.array(keras.Model(model.inputs, layer.output)(x), np.float64)
    wanted = np.array(reader(seen), np.float64).reshape(-1, len(before[1]))
    reader.activation = activation
    seen[..., unit] = 0
    rows = seen if seen.ndim == 2 else patches_of(reader, seen)
    rows = np.c_[rows.reshape(len(wanted), -1), np.ones(len(wanted))]
    fitted = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    reader.set_weights([fitted[:-1].reshape(before[0].shape), fitted[-1]])
    loss = model.evaluate(x, y, verbose=0)
    reader.set_weights(before)
    return loss
