"""A fit that was refused, cut short or written down, and the one after it; what is left of each."""

import gc
import weakref

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, compiled, dense_model, fit

from prune_keras.callbacks import Distillation, Teacher


class Failing(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        raise RuntimeError("failed by itself")


class Stopping(keras.callbacks.Callback):
    """Ends a fit after some epochs."""

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch + 1 >= self.epochs


PACKED = [lambda p: p, lambda p: {"it": p}]
if keras.backend.backend() != "torch":  # where Keras takes no lists of lists
    PACKED.append(lambda p: [[p]])


@pytest.mark.parametrize("packed", PACKED)
def test_fit_finds_callbacks_where_keras_does(packed):
    model = dense_model()
    pruning = callback()
    model.fit(SAMPLES, LABELS, epochs=2, callbacks=packed(pruning), verbose=0)
    assert pruning.rounds
    stored = Distillation(Teacher("start", logits=1.0, store=True))
    model.fit(SAMPLES, LABELS, callbacks=packed(stored), verbose=0)


def test_what_is_no_callback_is_left_to_keras():
    with pytest.raises(Exception, match="set_model|callable|attribute|Callback"):
        dense_model().fit(SAMPLES, LABELS, callbacks=["EarlyStopping"], verbose=0)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (lambda model: {"target": {"params": model.count_params() + 5}}, "less than"),
        (lambda model: {"target": {"params": 0.1}, "exclude": ["hidden0"]}, "reach"),
    ],
)
def test_a_fit_that_is_refused_is_refused_again(asked, message):
    model = dense_model()
    pruning = callback(**asked(model))
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            fit(model, pruning)
        assert model.get_layer("hidden0").units == 16 and not pruning.rounds


def test_a_fit_that_fails_as_it_begins_is_begun_again():
    model = dense_model()
    pruning = callback()
    with pytest.raises(RuntimeError, match="by itself"):
        fit(model, pruning, Failing())
    fit(model, pruning)
    assert len(pruning.frontier) == 1 + len(pruning.rounds) and pruning.rounds


def test_exclusions_that_can_be_read_once_hold_in_every_round():
    model = dense_model()
    names = (layer.name for layer in model.layers if layer.name == "hidden1")
    pruning = callback(exclude=names)
    fit(model, pruning)
    assert model.get_layer("hidden1").units == 8 and model.get_layer("hidden0").units < 16


def test_a_round_that_no_epoch_judged_is_no_bad_one(capsys):
    model = dense_model()
    asked = {"epochs_per_round": 2, "min_fraction": 0.2, "max_drop": 100.0, "baseline": 1.0}
    pruning = callback(monitor="val_loss", mode="min", verbose=1, **asked)
    fit(model, pruning, Stopping(1), epochs=4)
    assert "not judged: rolled back" in capsys.readouterr().out
    assert model.get_layer("hidden0").units == 16 and not pruning.rounds[0].kept
    assert any("ended before its last round" in note for note in pruning.report.notes)
    fit(model, pruning, epochs=4)
    assert [each.fraction for each in pruning.rounds[:2]] == [0.25, 0.25]
    assert pruning.rounds[-1].kept and model.get_layer("hidden0").units < 16


def test_where_nothing_is_left_to_cut_no_bound_is_blamed():
    pruning = callback(target={"latency_ms": 1e-6}, fraction=0.9)
    fit(dense_model(), pruning, epochs=6)
    told = " ".join(pruning.report.notes)
    assert "no neuron is left that the limits let go" in told and "bound" not in told


def test_more_epochs_than_a_backup_came_to_end_as_any_others(tmp_path):
    def run(epochs):
        keras.backend.clear_session()  # as in a process of its own
        keras.utils.set_random_seed(0)
        model = dense_model()
        pruning = callback(
            target=None,
            max_drop=0.0,
            baseline=-1.0,  # a loss that no round holds
            monitor="loss",
            mode="min",
            min_fraction=0.01,
            backup_dir=tmp_path,
        )
        fit(model, pruning, epochs=epochs)
        return model, pruning

    run(2)
    model, pruning = run(4)
    assert not any(each.kept for each in pruning.rounds) and len(pruning.rounds) > 1
    assert model.get_layer("hidden0").units == 16 and not pruning._course.refused


def test_a_fit_that_fails_as_it_resumes_leaves_the_first_epoch_where_it_is(tmp_path):
    def pruned(*others):
        keras.backend.clear_session()  # as in a process of its own
        keras.utils.set_random_seed(0)
        model = dense_model()
        given = {"epochs": 3, "callbacks": [callback(backup_dir=tmp_path), *others]}
        return model, lambda: model.fit(SAMPLES, LABELS, verbose=0, **given)

    pruned()[1]()
    model, run = pruned(Failing())
    with pytest.raises(RuntimeError, match="by itself"):
        run()
    assert model.fit(SAMPLES, LABELS, epochs=2, verbose=0).epoch == [0, 1]


def test_kept_rounds_hold_the_averages_without_validation(tmp_path):
    optimizer = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    model = compiled(dense_model(), optimizer)
    pruning = callback(keep_rounds=tmp_path)
    fit(model, pruning, epochs=1, validation_data=None)
    kept = pruning.pick(number=1).get_weights()
    for stored, fitted in zip(kept, model.get_weights(), strict=True):
        np.testing.assert_allclose(stored, fitted, atol=1e-6)


@pytest.mark.parametrize("fails", [False, True])
def test_data_of_a_fit_that_is_over_are_not_held(fails):
    pruning, x = callback(), np.array(SAMPLES)
    validation = np.array(SAMPLES)
    seen = [weakref.ref(x), weakref.ref(validation)]
    others = [Raising()] if fails else []
    model = dense_model()
    try:
        options = {"validation_data": (validation, LABELS), "epochs": 3, "verbose": 0}
        model.fit(x, LABELS, callbacks=[pruning, *others], **options)
    except ZeroDivisionError:
        assert fails
    del x, validation, options
    gc.collect()
    freed = [each() is None for each in seen]
    assert freed[0] and (
        freed[1] or fails
    )  # Keras itself keeps what a fit that failed validates by
    assert pruning.rounds is not None


class Raising(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1:
            raise ZeroDivisionError
