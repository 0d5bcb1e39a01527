"""SensitivityRegularization: its update against NumPy, and zeros that stay."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, compiled, conv_model, dense_model, fit

from prune_keras import _backend
from prune_keras.callbacks import SensitivityRegularization
from prune_keras.preparing.sensitivity import means

RATE, STRENGTH = 0.25, 0.5


def linear_model():
    """A linear network of two layers without biases, whose own loss is zero."""
    layers = [
        keras.layers.Dense(4, use_bias=False, name="a"),
        keras.layers.Dense(3, use_bias=False, name="b"),
    ]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(keras.optimizers.SGD(RATE), lambda y, predicted: 0.0 * keras.ops.sum(predicted))
    return model


def sensitivities(model, form, granularity):
    """Return `S` of the kernel of `a`: outputs are `x A B`."""
    b, x = np.array(model.get_layer("b").kernel), SAMPLES.mean(axis=0)
    if form == "unspecific":
        reach = np.abs(b).mean(axis=1)  # of each neuron, to the outputs
        return reach if granularity == "unit" else np.abs(x)[:, None] * reach
    if granularity == "unit":
        return np.abs(b[:, LABELS].mean(axis=1))
    return np.abs(np.einsum("ni,un->iu", SAMPLES, b[:, LABELS]) / len(SAMPLES))


@pytest.mark.repeats(2)
@pytest.mark.parametrize("granularity", ["weight", "unit"])
@pytest.mark.parametrize("form", ["unspecific", "specific"])
def test_a_step_is_the_published_update(form, granularity):
    model = linear_model()
    kernels = [model.get_layer(name).kernel for name in "ab"]
    kernels[1].assign(np.array(kernels[1]) * 2)
    before = [np.array(kernel) for kernel in kernels]
    decay = np.maximum(0, 1 - sensitivities(model, form, granularity))
    assert (decay > 0).any() and (decay < 1).all()
    regularization = SensitivityRegularization(STRENGTH, form, granularity)
    labels = LABELS if granularity == "unit" else np.eye(3, dtype="float32")[LABELS]
    model.fit(SAMPLES, labels, batch_size=24, callbacks=[regularization], verbose=0)
    np.testing.assert_allclose(
        kernels[0], before[0] - RATE * STRENGTH * before[0] * decay, rtol=1e-4, atol=1e-6
    )
    np.testing.assert_array_equal(kernels[1], before[1])
    assert not {"call", "compute_loss"} & set(vars(model)) and not model._seed_generators


def test_on_a_plateau_small_weights_become_zero_and_stay():
    model = compiled(dense_model(), keras.optimizers.Adam(0.01))
    regularization = SensitivityRegularization(
        0.1, "specific", threshold=0.1, monitor="val_plateau", patience=2
    )
    zeros = []

    class Plateau(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            zeros.append(np.array(self.model.get_layer("hidden0").kernel) == 0)
            logs["val_plateau"] = 1.0

    fit(model, Plateau(), regularization, epochs=5)
    assert regularization.zeroed_at == [3]
    after = np.array(model.get_layer("hidden0").kernel) == 0
    assert after.any() and not after.all()
    np.testing.assert_array_equal(zeros[3], after)  # within fit too
    np.testing.assert_array_equal(zeros[4], after)
    assert not zeros[2].any()


@pytest.mark.slow
def test_a_measure_every_few_steps_and_cuts_beside_it():
    model = conv_model("sgd")
    arguments = {"refresh_steps": 2, "threshold": 0.05, "patience": 1}
    regularization = SensitivityRegularization(0.1, "specific", "unit", **arguments)
    history = fit(model, regularization, callback(), epochs=3)
    assert history.history["neurons"][-1] < 14
    assert not {"call", "compute_loss"} & set(vars(model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strength": 0}, "`strength` must be a finite number above 0"),
        ({"form": "true"}, "`form` must be one of"),
        ({"granularity": "layer"}, "`granularity` must be one of"),
        ({"refresh_steps": 0}, "`refresh_steps` must be a whole number"),
        ({"patience": 0}, "`patience` must be a whole number"),
        ({"threshold": -1}, "`threshold` must be a finite number above 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SensitivityRegularization(**{"strength": 1.0} | arguments)


def test_a_metric_that_is_not_logged_is_refused():
    regularization = SensitivityRegularization(0.1, threshold=0.1, monitor="none")
    with pytest.raises(ValueError, match="`monitor` must be in the logs"):
        regularization.on_epoch_end(0, {"loss": 1.0})


def test_what_is_frozen_stays():
    model = dense_model()
    frozen = model.get_layer("hidden1")
    frozen.trainable = False
    compiled(model, keras.optimizers.SGD(0.0))
    before = np.array(frozen.kernel)
    regularization = SensitivityRegularization(1e-6, threshold=0.2, patience=1)
    fit(model, regularization, epochs=4)
    assert regularization.zeroed_at
    assert not (np.abs(np.array(model.get_layer("hidden0").kernel)) < 0.2).all()
    np.testing.assert_array_equal(frozen.kernel, before)
    model.trainable = False
    with pytest.raises(ValueError, match="all of which are frozen"):
        fit(compiled(model), SensitivityRegularization(1e-6), epochs=1)


def test_of_one_class_the_chance_of_what_holds_is_meant():
    chances, holds = np.array([[0.9], [0.2], [0.6]]), np.array([1, 0, 0])
    slopes = []
    for targets in (holds, holds[:, None]):
        given = keras.ops.convert_to_tensor(chances, "float32")
        slopes.append(
            _backend.gradients(lambda x, y=targets: means(x["p"], y, True)[0], {"p": given})["p"]
        )
    for slope in slopes:  # of the mean of y p + (1 - y) (1 - p)
        found = keras.ops.convert_to_numpy(slope)
        np.testing.assert_allclose(found, np.array([[1], [-1], [-1]]) / 3, rtol=1e-6)


def test_the_specific_form_is_refused_where_numbers_are_compared():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="model of classes.*form='unspecific'"):
        fit(model, SensitivityRegularization(1e-6, "specific"), epochs=1)


def test_a_model_with_a_call_of_its_own_is_regularized():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = keras.layers.Dense(8, activation="relu", name="hidden")
            self.classes = keras.layers.Dense(3, activation="softmax", name="classes")

        def call(self, x, training=False):
            return self.classes(self.hidden(x))

    model = Subclassed()
    model(SAMPLES)
    compiled(model, keras.optimizers.SGD(0.1))
    before = np.abs(np.array(model.hidden.kernel)).sum()
    model.fit(SAMPLES, LABELS, epochs=2, callbacks=[SensitivityRegularization(1.0)], verbose=0)
    assert np.abs(np.array(model.hidden.kernel)).sum() < 0.9 * before
