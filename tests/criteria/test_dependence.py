"""dependence: its numbers against losses that are measured along the same directions."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, compiled

import prune_keras

DATA = (IMAGES, LABELS)


def smooth_model():
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, name="first")(pixels)
    x = keras.layers.Conv2D(6, 3, activation="tanh", name="conv")(x)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="tanh", name="hidden")(x)
    probabilities = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    return compiled(keras.Model(pixels, probabilities), "sgd")


def parts(model, share, granularity):
    """Return the kept and the cut part of each weight that is trained, by references in NumPy."""
    values = {v.path: np.array(v) for v in model.trainable_variables}
    kept = {path: value.copy() for path, value in values.items()}
    for name, reader in (("conv", "hidden"), ("hidden", "classes")):
        kernel, read = values[f"{name}/kernel"], kept[f"{reader}/kernel"]
        flat = kernel.reshape(-1, kernel.shape[-1])
        if granularity == "unit":
            order = np.argsort(np.linalg.norm(flat, axis=0))
            read[order[: int(share * len(order))]] = 0
        else:
            order = np.argsort(np.abs(flat), axis=0)[: int(share * len(flat))]
            np.put_along_axis(kept[f"{name}/kernel"].reshape(flat.shape), order, 0, axis=0)
    return [kept[p] for p in values], [values[p] - kept[p] for p in values]


@pytest.mark.parametrize("granularity", ["unit", "weight"])
def test_terms_are_derivatives_of_the_loss_along_what_is_kept_and_cut(granularity):
    model = smooth_model()
    before = model.get_weights()
    found = prune_keras.dependence(model, DATA, 0.5, granularity)
    np.testing.assert_equal(model.get_weights(), before)

    kept, cut = parts(model, 0.5, granularity)

    def loss(a, b):
        for variable, k, c in zip(model.trainable_variables, kept, cut, strict=True):
            variable.assign(a * k + b * c)
        predicted = keras.ops.convert_to_numpy(model(IMAGES)).astype("float64")
        return -np.log(predicted[np.arange(len(LABELS)), LABELS]).mean()

    assert found.loss == pytest.approx(loss(1, 1), rel=1e-5)
    assert found.loss_cut == pytest.approx(loss(1, 0), rel=1e-5)
    h = 0.05  # wide, since losses are of float32
    points = {(i, j): loss(1 + i * h, 1 + j * h) for i in (-1, 0, 1) for j in (-1, 0, 1)}
    first_kept = (points[1, 0] - points[-1, 0]) / (2 * h)
    first_cut = (points[0, 1] - points[0, -1]) / (2 * h)
    second_kept = (points[1, 0] + points[-1, 0] - 2 * points[0, 0]) / h**2 / 2
    second_cut = (points[0, 1] + points[0, -1] - 2 * points[0, 0]) / h**2 / 2
    cross = (points[1, 1] + points[-1, -1] - points[1, -1] - points[-1, 1]) / (4 * h**2)
    assert found.first_kept == pytest.approx(first_kept, rel=0.02, abs=2e-4)
    assert found.first_cut == pytest.approx(first_cut, rel=0.02, abs=2e-4)
    assert found.second_kept == pytest.approx(second_kept, rel=0.03, abs=1e-3)
    assert found.second_cut == pytest.approx(second_cut, rel=0.03, abs=1e-3)
    assert found.second_cross == pytest.approx(cross, rel=0.03, abs=1e-3)


def test_a_quadratic_loss_is_expanded_exactly_and_a_cut_comes_to_what_is_measured():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(3, name="a")]
    )
    model.compile("sgd", "mse")
    targets = np.eye(3)[LABELS]
    found = prune_keras.dependence(model, (IMAGES, targets), 0.75, "weight", layers=["a"])
    assert found.second_order == pytest.approx(found.change, rel=1e-4)
    prune_keras.sparsify(model, 0.75, layers=["a"])
    after = model.evaluate(IMAGES, targets, verbose=0)
    assert found.loss_cut == pytest.approx(after, rel=1e-5)
    assert found.to_dict()["change"] == found.loss_cut - found.loss


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "`share` must be a share"),
        ({"granularity": "units"}, "`granularity` must be one of"),
        ({"data": IMAGES}, "targets"),
        ({"layers": ["x"]}, "must name a layer with units"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_keras.dependence(smooth_model(), **{"data": DATA, "share": 0.5} | arguments)


def test_weights_that_are_frozen_are_cut_too():
    model = smooth_model()
    data, share = (IMAGES, LABELS), 0.5
    free = prune_keras.dependence(model, data, share)
    for layer in model.layers[2:]:
        layer.trainable = False
    frozen = prune_keras.dependence(compiled(model), data, share)
    assert frozen.loss_cut == pytest.approx(free.loss_cut, rel=1e-5)
    assert frozen.first_cut == pytest.approx(free.first_cut, rel=1e-4) and frozen.change != 0


def test_losses_that_are_no_numbers_are_refused():
    layers = [keras.layers.Dense(8, name="a"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="losses must be finite"):
        prune_keras.dependence(model, (np.ones((8, 4)), np.full((8, 1), np.nan)), 0.5)
