"""What ProgressivePruning refuses: as it is made, before the first batch, and when judging."""

import keras
import numpy as np
import pytest
from fits import (
    SAMPLES,
    assert_same,
    callback,
    dense_model,
    drive,
    fit,
    neurons,
    state_of,
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target": None}, "where to stop. Received: target=None"),
        ({"target": {"size": 0.5}}, "`target` must map some of"),
        ({"target": {"params": 1.5}}, r"Received: target\['params'\]=1.5"),
        ({"fraction": 0}, "Received: fraction=0"),
        ({"fraction": None}, "Received: fraction=None"),
        ({"min_fraction": 1}, "Received: min_fraction=1"),
        ({"epochs_per_round": 0}, "Received: epochs_per_round=0"),
        ({"criterion": "magnitude"}, "Received: criterion='magnitude'"),
        ({"criterion": "apoz"}, "'apoz' looks at samples. Received: data=None"),
        ({"debias": "average"}, "Received: debias='average'"),
        ({"combine": "median"}, "Received: combine='median'"),
        ({"scope": "everywhere"}, "Received: scope='everywhere'"),
        ({"mode": "up"}, "Received: mode='up'"),
        ({"max_drop": -0.1}, "Received: max_drop=-0.1"),
        ({"max_drop": float("nan")}, "Received: max_drop=nan"),
        ({"max_drop": "1%"}, "Received: max_drop='1%'"),
        ({"floor": "90%"}, "Received: floor='90%'"),
        ({"floor": 0.5, "baseline": float("nan")}, "Received: baseline=nan"),
        ({"recalibration_steps": 0}, "Received: recalibration_steps=0"),
        ({"min_units": 0}, "Received: min_units=0"),
        ({"max_layer_fraction": 0}, "Received: max_layer_fraction=0"),
        ({"round_to": 0.5}, "Received: round_to=0.5"),
    ],
)
def test_bad_arguments_are_refused_at_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        callback(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": "hidden*"}, "Received: exclude=.*, which leaves none of"),
        ({"exclude": "conv9"}, "exclude='conv9', which fits none of"),
        ({"target": {"params": 0.01}}, "The target must be reachable"),
        ({"min_units": 9}, r"closest .* is {.*}. In the way: min_units=9 \(without it: {.*}\)"),
        (
            {"floor": 0.9, "baseline": 0.5, "mode": "max"},
            "hold the floor before pruning. Received: .*=0.5",
        ),
        ({"data": SAMPLES[:0]}, "at least one sample"),
        ({"data": [SAMPLES, SAMPLES]}, "must hold 1 input arrays"),
        ({"data": SAMPLES[:, :5]}, r"Received: a batch of shape \(12, 5\)"),
        ({"data": np.full_like(SAMPLES, np.nan)}, "must be finite"),
        ({"data": iter([SAMPLES])}, "readable once a round"),
        ({"data": SAMPLES, "criterion": "taylor"}, "'taylor' needs targets"),
        (
            {"data": SAMPLES, "criterion": "discrimination", "max_drop": 0.1},
            "'discrimination' needs targets",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_the_first_batch(arguments, message):
    model = dense_model()
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)
    with pytest.raises(ValueError, match=message):
        fit(model, callback(**arguments))
    assert_same(before, state_of(model))


def test_a_model_that_is_not_compiled_is_refused():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="compile"):
        fit(model, callback())
    assert neurons(model) == 8


def test_layers_of_another_model_are_refused():
    model = dense_model()
    other = keras.Model(model.inputs, keras.layers.Dense(2)(model.get_layer("hidden1").output))
    with pytest.raises(ValueError, match="must not share layers"):
        fit(model, callback())
    assert neurons(model) == neurons(other) == 24


@pytest.mark.parametrize("baseline", [None, 0.9])
def test_a_metric_that_is_not_in_the_logs_is_refused(baseline):
    model, pruning = dense_model(), callback(max_drop=0.1, baseline=baseline, monitor="accuracies")
    with pytest.raises(ValueError, match="monitor='accuracies', while the logs hold .*'loss'"):
        fit(model, pruning)
    assert neurons(model) == 24


def test_a_fit_without_validation_data_is_refused_before_the_first_batch():
    model = dense_model()
    seen = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))
    with pytest.raises(ValueError, match="There must be validation data to judge rounds by"):
        fit(model, callback(max_drop=0.1), seen, validation_data=None)
    assert neurons(model) == 24


def test_an_error_after_a_cut_leaves_a_model_that_trains_on():
    model = dense_model()
    with pytest.raises(ValueError, match="monitor='val_kappa', while the logs hold"):
        fit(model, callback(max_drop=0.1, baseline=0.9, monitor="val_kappa"))
    assert neurons(model) == 24
    assert len(fit(model, epochs=1).history["loss"]) == 1


def test_a_metric_without_direction_is_refused():
    model = dense_model()
    model.compile("sgd", "mse", metrics=[keras.metrics.Mean(name="level")])
    pruning = callback(max_drop=0.1, monitor="level", baseline=0.5)
    with pytest.raises(ValueError, match="monitor='level', mode='auto'"):
        drive(pruning, model, [0.5], monitor="level")
    assert neurons(model) == 24


def test_a_start_below_the_floor_is_refused():
    model = dense_model()
    with pytest.raises(ValueError, match="hold the floor before pruning"):
        drive(callback(floor=0.9), model, [0.5])
    with pytest.raises(ValueError, match="must be a number before pruning"):
        drive(callback(floor=0.9), model, [float("nan")])
    assert neurons(model) == 24
