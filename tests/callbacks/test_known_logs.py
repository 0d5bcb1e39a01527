"""Which metrics a fit will log, known before its first batch, and what judges are refused then."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, neurons

from prune_keras import _keras


def recall(y_true, y_pred):
    return keras.ops.mean(y_pred)


class Counting(keras.metrics.Metric):
    def __init__(self, name="seen", result=float):
        super().__init__(name=name)
        self.of = result
        self.total = self.add_variable((), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(1)

    def result(self):
        return {"one": self.total, "two": self.total} if self.of is dict else self.total


def single(metrics, weighted=None, loss="mse", kind=keras.Model):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    model = kind(inputs, keras.layers.Dense(3, name="classes")(x))
    model.compile("sgd", loss, metrics=metrics, weighted_metrics=weighted, run_eagerly=True)
    return model


def double(metrics, weighted=None, loss="mse", as_dict=False):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu")(inputs)
    outputs = {"a": keras.layers.Dense(3, name="a")(x), "b": keras.layers.Dense(1, name="b")(x)}
    model = keras.Model(inputs, outputs if as_dict else list(outputs.values()))
    model.compile("sgd", loss, metrics=metrics, weighted_metrics=weighted, run_eagerly=True)
    return model


MODELS = {
    "none": lambda: single(None),
    "strings": lambda: single(["accuracy", "mae", "acc"]),
    "functions": lambda: single([recall, keras.metrics.mean_squared_error]),
    "objects": lambda: single([keras.metrics.AUC(name="area"), Counting()]),
    "weighted": lambda: single(["mae", "accuracy"], ["mae", "mse"]),
    "twice": lambda: single(["mae", keras.metrics.MeanAbsoluteError("mae"), "mae"]),
    "twice weighted": lambda: single(["mae"], ["mae", "mae", "mse"]),
    "two outputs": lambda: double([["accuracy", "mae"], [recall]]),
    "outputs by name": lambda: double({"b": ["mae"]}, {"a": ["accuracy"], "b": "mae"}),
    "two losses": lambda: double(None, loss=["mse", "mae"]),
    "a loss for one": lambda: double(None, loss={"a": "mse", "b": None}),
    "outputs in a dict": lambda: double({"a": "mae"}, as_dict=True, loss={"a": "mse", "b": "mae"}),
    "Sequential": dense_model,
}


def targets_of(model):
    names = [tensor.shape[-1] for tensor in model.outputs]
    zeros = [np.zeros((24, size), "float32") for size in names]
    if isinstance(model, keras.Sequential):
        return LABELS
    if isinstance(model._outputs_struct, dict):
        return dict(zip(("a", "b"), zeros, strict=True))
    return zeros if len(zeros) > 1 else zeros[0]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("name", MODELS)
def test_what_is_logged_is_known_beforehand(name):
    model = MODELS[name]()
    y = targets_of(model)
    for _ in range(2):  # before Keras has made its metrics, and after
        logs = _keras.logs_of(model)
        history = model.fit(SAMPLES, y, validation_data=(SAMPLES, y), verbose=0).history
        assert logs.complete
        assert {*logs.directions, *(f"val_{each}" for each in logs.directions)} == {*history}


@pytest.mark.parametrize(
    ("name", "metric", "direction"),
    [
        ("strings", "val_accuracy", "max"),
        ("strings", "mae", "min"),
        ("objects", "val_area", "max"),
        ("two outputs", "val_a_mae", "min"),
        ("two outputs", "val_a_accuracy", "max"),
        ("outputs by name", "b_mae_1", None),
        ("two losses", "val_b_loss", "min"),
        ("none", "loss", "min"),
        ("functions", "recall", None),
        ("objects", "seen", None),
    ],
)
def test_directions_are_known_beforehand(name, metric, direction):
    model = MODELS[name]()
    if direction is None:
        with pytest.raises(ValueError, match=f"monitor='{metric}', mode='auto'"):
            _keras.direction(model, metric)
    else:
        assert _keras.direction(model, metric) == direction


def fit(model, *callbacks, **arguments):
    y = targets_of(model)
    given = {"validation_data": (SAMPLES, y), "batch_size": 12, "verbose": 0, "epochs": 2}
    return model.fit(SAMPLES, y, callbacks=list(callbacks), **given | arguments)


def no_batch():
    return keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))


def judged(monitor, mode="max", **arguments):
    return callback(monitor=monitor, mode=mode, max_drop=9.0, **arguments)


REFUSED = {
    "unknown": ("strings", "val_acuracy", "monitor='val_acuracy', while the logs hold .*'val_acc'"),
    "without its output": ("two outputs", "val_mae", "logs hold .*'val_a_mae'"),
    "with an output that is alone": ("strings", "val_classes_mae", "logs hold .*'val_mae'"),
    "of training only": ("strings", "val_neurons", "monitor='val_neurons'"),
    "loss of an output that is alone": ("strings", "classes_loss", "monitor='classes_loss'"),
}


@pytest.mark.parametrize("baseline", [None, 0.0])
@pytest.mark.parametrize("name", REFUSED)
def test_a_metric_that_will_not_be_there_is_refused_before_the_first_batch(name, baseline):
    made, monitor, message = REFUSED[name]
    model = MODELS[made]()
    with pytest.raises(ValueError, match=message):
        fit(model, no_batch(), judged(monitor, baseline=baseline))
    assert neurons(model) == 8
    assert not callback(monitor=monitor).rounds  # which judges nothing


@pytest.mark.parametrize(
    ("name", "monitor"),
    [("two outputs", "val_b_recall"), ("weighted", "weighted_mae"), ("two losses", "val_a_loss")],
)
def test_what_is_logged_can_judge(name, monitor):
    model, pruning = MODELS[name](), judged(monitor)
    fit(model, pruning)
    assert pruning.rounds[0].metric is not None


@pytest.mark.parametrize("monitor", ["recall", "val_seen"])
def test_a_direction_that_must_be_told_is_asked_for_before_the_first_batch(monitor):
    model = single([recall, Counting()])
    with pytest.raises(ValueError, match=f"monitor='{monitor}', mode='auto'"):
        fit(model, no_batch(), judged(monitor, mode="auto"))
    fit(model, judged(monitor))
    assert neurons(model) == 6


class Logging(keras.callbacks.Callback):
    """Logs a metric of its own."""

    def __init__(self, name):
        super().__init__()
        self.name = name

    def on_epoch_end(self, epoch, logs=None):
        if self.name:
            logs[self.name] = 0.5


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("monitor", ["f1", "val_f1"])
def test_a_metric_that_another_callback_logs_can_judge(monitor, validation):
    model = single(["mae"])
    y = targets_of(model)
    given = {"validation_data": (SAMPLES, y) if validation else None}
    pruning = judged(monitor)
    fit(model, Logging(monitor), pruning, epochs=3, **given)
    assert [done.metric for done in pruning.rounds] == [0.5, 0.5]
    with pytest.raises(ValueError, match="mode='auto'"):
        fit(single(["mae"]), Logging(monitor), no_batch(), judged(monitor, mode="auto"), **given)


def test_one_that_stands_behind_is_too_late():
    model = single(["mae"])
    with pytest.raises(ValueError, match="monitor='f1'.*stands before this one"):
        fit(model, judged("f1"), Logging("f1"), no_batch())


@pytest.mark.parametrize("value", [None, np.ones(3), [0.1, 0.2]])
def test_one_that_is_not_there_or_no_number_brings_the_model_back(value):
    model = single(["mae"])

    class Later(Logging):
        def on_epoch_end(self, epoch, logs=None):
            logs["f1"] = 0.5 if epoch < 1 else value
            if value is None and epoch:
                del logs["f1"]

    before = None

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            nonlocal before
            before = before or [w.copy() for w in model.get_weights()]

    with pytest.raises(ValueError, match="Received: (monitor='f1'|f1=)"):
        fit(model, Keep(), Later("f1"), judged("f1"), epochs=3)
    for weight, found in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight)


def test_a_step_of_its_own_may_log_anything():
    class Own(keras.Model):
        def test_step(self, data):
            return super().test_step(data) | {"extra": keras.ops.convert_to_tensor(0.25)}

    model, pruning = single(["mae"], kind=Own), judged("val_extra")
    assert not _keras.logs_of(model).complete
    fit(model, pruning)
    assert pruning.rounds[0].metric == 0.25


def test_a_metric_of_several_entries_may_log_anything():
    model, pruning = single([Counting("both", dict)]), judged("val_two")
    assert not _keras.logs_of(model).complete
    fit(model, pruning)
    assert len(pruning.rounds) == 1
