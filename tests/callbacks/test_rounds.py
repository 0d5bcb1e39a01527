"""Rounds with judgement: when they end, what they record, and how a fit ends early."""

import json
import signal
import threading

import keras
import numpy as np
import pytest
from fits import (
    LABELS,
    SAMPLES,
    assert_same,
    begin,
    callback,
    dense_model,
    drive,
    fit,
    judged,
    neurons,
    nudge,
    state_of,
)

import prune_keras


def test_a_round_goes_on_until_the_metric_is_back():
    pruning = judged(epochs_per_round=1, max_epochs_per_round=3)
    drive(pruning, dense_model(), [0.1, 0.9, 0.1, 0.1, 0.1, 0.9])
    assert [(done.epochs, done.kept) for done in pruning.rounds] == [
        (2, True),
        (3, False),
        (1, True),
    ]


def test_a_round_without_a_bound_takes_its_epochs_and_no_more():
    pruning = callback(max_epochs_per_round=3)
    drive(pruning, dense_model(), [0.1, 0.9, 0.1])
    assert [done.epochs for done in pruning.rounds] == [1, 1, 1]


def test_a_round_tells_the_metric_before_the_cut_right_after_it_and_at_its_end():
    model, pruning = dense_model(), callback(max_drop=1.0, fraction=0.75)
    history = fit(model, pruning, epochs=3).history["val_accuracy"]
    done = pruning.rounds[0]
    assert (done.metric_before, done.metric) == tuple(history[:2])
    assert 0 <= done.metric_cut <= 1
    assert done.fine_tuning_seconds > 0


def test_the_metric_right_after_the_cut_is_that_of_the_cut_model(monkeypatch):
    model, seen = dense_model(), []

    def evaluate(*args, **kwargs):
        logs = type(model).evaluate(model, *args, **kwargs)
        seen.append((neurons(model), logs["accuracy"] if isinstance(logs, dict) else logs[1]))
        return logs

    monkeypatch.setattr(model, "evaluate", evaluate)
    pruning = callback()
    history = fit(model, pruning, epochs=2).history
    assert [count for count, _ in seen] == [18, 18, 14, 14]
    assert [done.metric_cut for done in pruning.rounds] == [seen[0][1], seen[2][1]]
    assert history["val_accuracy"] == [seen[1][1], seen[3][1]]


def test_validation_data_that_can_be_read_once_are_left_to_fit():
    def endless():
        while True:
            yield SAMPLES, LABELS

    pruning = callback()
    fit(dense_model(), pruning, validation_data=endless(), validation_steps=1)
    assert [done.metric_cut for done in pruning.rounds] == [None] * 3
    assert all(done.metric is not None for done in pruning.rounds)


def test_a_round_is_judged_in_an_epoch_with_validation():
    pruning = callback(target=None, max_drop=1.0)
    history = fit(dense_model(), pruning, epochs=7, validation_freq=2).history
    assert len(history["val_accuracy"]) == 3
    assert [(done.epoch, done.epochs, done.kept) for done in pruning.rounds] == [
        (2, 2, True),
        (4, 2, True),
    ]


def test_rounds_are_written_after_each_one(tmp_path):
    pruning = judged(log_dir=tmp_path / "logs")
    drive(pruning, dense_model(), [0.9, float("nan")])
    stored = json.loads((tmp_path / "logs" / "rounds.json").read_text())
    assert [(done["number"], done["kept"], done["metric"]) for done in stored] == [
        (1, True, 0.9),
        (2, False, None),
    ]
    plan = prune_keras.Plan(stored[0]["plan"]["kept"], stored[0]["plan"]["widths"])
    assert plan == pruning.rounds[0].plan
    assert stored[0]["after"] == vars(pruning.rounds[0].after)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["rounds.json"]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
@pytest.mark.parametrize("bound", [{}, {"max_drop": 0.1, "baseline": 0.9}])
def test_a_loss_that_is_no_number_ends_fit_at_the_last_good_round(loss, bound):
    model, pruning = dense_model(), callback(**bound)
    begin(pruning, model, 5)
    pruning.on_epoch_begin(0)
    nudge(model)
    pruning.on_epoch_end(0, {"loss": 0.5, "val_accuracy": 0.9})
    good = state_of(model)
    pruning.on_epoch_begin(1)
    nudge(model)
    with pytest.warns(RuntimeWarning, match="The loss is (nan|inf) in epoch 2"):
        pruning.on_epoch_end(1, {"loss": loss, "val_accuracy": 0.9})
    assert model.stop_training
    pruning.on_train_end()
    assert_same(good, state_of(model))
    assert [done.kept for done in pruning.rounds] == [True, False]


def test_training_that_diverges_ends_at_the_last_good_round():
    model = dense_model(optimizer=keras.optimizers.SGD(0.01))
    diverge = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: model.optimizer.learning_rate.assign(
            0.01 if epoch < 2 else float("nan")
        )
    )
    pruning = callback()
    with pytest.warns(RuntimeWarning, match="The loss is nan in epoch 3"):
        history = fit(model, pruning, diverge, epochs=6)
    assert len(history.history["loss"]) == 3
    assert neurons(model) == 14
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


@pytest.mark.parametrize("batch", [0, 1])
def test_ctrl_c_leaves_the_last_good_round(batch, capsys, default_handler):
    model, states = dense_model(), []

    class Interrupting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(state_of(model))

        def on_train_batch_begin(self, number, logs=None):
            if len(states) == 2 and number == batch:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(model, callback(), Interrupting(), epochs=6)
    assert_same(states[1], state_of(model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert "Interrupted: the model is back at its last good state, 14 neurons" in (
        capsys.readouterr().out
    )
    fit(model, epochs=1)


def test_ctrl_c_after_fits_that_failed_changes_nothing(default_handler):
    model, pruning = dense_model(), callback()

    def fail(epoch, logs):
        raise RuntimeError("the user's own")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="the user's own"):
            fit(model, pruning, keras.callbacks.LambdaCallback(on_epoch_end=fail))
    before = state_of(model)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert_same(before, state_of(model))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_fit_in_a_thread_leaves_signals_alone():
    model, pruning = dense_model(), callback()
    thread = threading.Thread(target=fit, args=(model, pruning))
    thread.start()
    thread.join()
    assert neurons(model) == 12


def test_a_second_fit_goes_on_where_the_first_one_ended():
    model, pruning = dense_model(), callback(fraction=0.25)
    fit(model, pruning, epochs=1)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    fit(model, pruning, epochs=9)
    assert [done.before.neurons for done in pruning.rounds] == [24, 18, 14]
    assert [done.number for done in pruning.rounds] == [1, 2, 3]
    assert (pruning.report.before.neurons, pruning.report.after.neurons) == (24, 12)


def test_a_second_fit_remembers_the_start_and_the_smaller_fraction():
    model, pruning = dense_model(), callback(target=None, max_drop=0.1, fraction=0.25)
    drive(pruning, model, [0.9, 0.85, 0.1])
    drive(pruning, model, [0.85, 0.1])
    assert [(done.fraction, done.kept) for done in pruning.rounds] == [
        (0.25, True),
        (0.25, False),
        (0.125, True),
        (0.125, False),
    ]
    assert pruning.rounds[2].metric_before == 0.85


def test_another_model_is_pruned_from_its_own_start():
    pruning = callback(fraction=0.5)
    fit(dense_model(), pruning, epochs=1)
    history = fit(dense_model(), pruning, epochs=1)
    assert history.history["neurons"] == [12]
    assert [done.before.neurons for done in pruning.rounds] == [24]


def test_a_model_that_was_cut_meanwhile_is_pruned_from_there():
    model, pruning = dense_model(), callback(fraction=0.25)
    fit(model, pruning, epochs=1)
    prune_keras.shrink_in_place(
        model, prune_keras.select(prune_keras.trace(model), prune_keras.score(model), fraction=0.5)
    )
    fit(model, pruning, epochs=1)
    assert [done.before.neurons for done in pruning.rounds] == [9]
