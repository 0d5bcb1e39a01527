"""Rounds by a schedule, rounds of batches, and what cannot be asked for together."""

import signal
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    assert_same,
    begin,
    callback,
    conv_model,
    dense_model,
    drive,
    fit,
    neurons,
    nudge,
    state_of,
)

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.rounds import course
from prune_keras.rounds.cutter import Cutter
from prune_keras.schedules import Constant, Cubic, Geometric, OneShot


def scheduled(schedule, **arguments):
    chosen = {"target": {"flops": 0.4}, "schedule": schedule, "verbose": 0}
    return ProgressivePruning(**chosen | arguments)


@pytest.mark.parametrize("scope", ["global", "layerwise", "uniform"])
@pytest.mark.parametrize("schedule", [Constant(0.3), Geometric(3), Cubic(3), OneShot()], ids=repr)
def test_each_round_leaves_what_the_schedule_says_and_not_a_neuron_less(schedule, scope):
    model, pruning = dense_model((32, 24)), scheduled(schedule, scope=scope)
    whole = prune_keras.cost(model).flops
    drive(pruning, model, [0.5] * 6)
    shares = [done.after.flops / whole for done in pruning.rounds]
    asked = [schedule(number, 0.4) for number in range(1, 1 + len(shares))]
    assert all(most - 0.06 < share <= most for share, most in zip(shares, asked, strict=True))
    assert asked[-1] == pytest.approx(0.4)
    gone = [1 - done.after.neurons / done.before.neurons for done in pruning.rounds]
    assert [done.fraction for done in pruning.rounds] == pytest.approx(gone)


def test_a_round_that_is_undone_is_tried_again_with_half_the_step():
    model = dense_model((40, 40))
    pruning = scheduled(Geometric(2), target={"neurons": 0.25}, max_drop=0.1, baseline=0.9)
    drive(pruning, model, [0.9, 0.1, 0.9, 0.9])
    assert [(done.kept, done.after.neurons) for done in pruning.rounds] == [
        (True, 40),
        (False, 20),
        (True, 30),
        (True, 25),
    ]


def test_a_second_fit_goes_on_in_the_schedule():
    model, pruning = dense_model(), scheduled(Geometric(3), target={"neurons": 0.5})
    drive(pruning, model, [0.5])
    drive(pruning, model, [0.5, 0.5, 0.5])
    assert [done.after.neurons for done in pruning.rounds] == [19, 15, 12]


def test_any_function_is_a_schedule():
    model = dense_model()
    pruning = scheduled(lambda t, share: max(share, 1 - t / 4), target={"neurons": 0.5})
    drive(pruning, model, [0.5] * 4)
    assert [done.after.neurons for done in pruning.rounds] == [18, 12]


# Rounds of batches: two batches an epoch in `fits.fit`, here six.


def fit_batches(model, pruning, *others, epochs=2, **arguments):
    return fit(model, pruning, *others, epochs=epochs, batch_size=4, **arguments)


class Counting(keras.callbacks.Callback):
    """Counts neurons and the optimizer's steps as each batch ends."""

    def on_train_begin(self, logs=None):
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        units = sum(layer.units for layer in self.model.layers) - 3
        self.seen.append((units, int(self.model.optimizer.iterations)))


@pytest.mark.parametrize("eagerly", [False, True])
def test_rounds_of_batches_cut_within_epochs(eagerly):
    model, pruning, counting = dense_model(), callback(batches_per_round=2), Counting()
    model.run_eagerly = eagerly
    history = fit_batches(model, pruning, counting).history
    assert [units for units, _ in counting.seen] == [18, 18, 14, 14] + [12] * 8
    assert [steps for _, steps in counting.seen] == list(range(1, 13))
    assert [(done.epoch, done.batch) for done in pruning.rounds] == [(0, 0), (0, 2), (0, 4)]
    assert [done.metric is None for done in pruning.rounds] == [True, True, False]
    assert pruning.rounds[-1].metric == history["val_accuracy"][0]
    assert all(done.kept and done.fine_tuning_seconds > 0 for done in pruning.rounds)
    assert [int(count) for count in history["neurons"]] == [12, 12]


def test_fine_tuning_ends_where_the_next_cut_begins(monkeypatch):
    now, cut = [0.0], Cutter.cut

    def cut_for_a_minute(*arguments):
        notes = cut(*arguments)
        now[0] += 60
        return notes

    monkeypatch.setattr(course, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(Cutter, "cut", cut_for_a_minute)
    tick = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs=None: now.append(now.pop() + 1)
    )
    pruning = callback(batches_per_round=2)
    fit_batches(dense_model(), pruning, tick, epochs=1)
    assert [done.seconds for done in pruning.rounds] == [60] * 3
    assert [done.fine_tuning_seconds for done in pruning.rounds] == [2] * 3


class Seen(keras.metrics.Metric):
    """Counts the samples since it was reset."""

    def __init__(self):
        super().__init__(name="seen")
        self.total = self.add_variable((), "zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total.assign_add(keras.ops.shape(y_pred)[0])

    def result(self):
        return self.total


def test_metrics_of_an_epoch_go_over_all_its_batches():
    model = dense_model()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy", Seen()])
    pruning = callback(batches_per_round=2, criterion="taylor", data=(SAMPLES, LABELS))
    assert fit_batches(model, pruning).history["seen"] == [24, 24]


def test_the_optimizer_state_is_cut_within_an_epoch():
    model, pruning = dense_model(), callback(batches_per_round=2)
    fit_batches(model, pruning, epochs=1)
    kernel = model.get_layer("hidden0").kernel
    (index,) = (i for i, v in enumerate(model.trainable_variables) if v is kernel)
    assert model.optimizer._momentums[index].shape == kernel.shape
    assert np.any(keras.ops.convert_to_numpy(model.optimizer._momentums[index]))


def test_nothing_is_cut_where_too_few_batches_of_the_epoch_are_left():
    model, pruning = dense_model(), callback(batches_per_round=4)
    fit_batches(model, pruning, epochs=2)
    assert [(done.epoch, done.batch) for done in pruning.rounds] == [(0, 0), (1, 0)]


def batch_by_batch(pruning, model, metrics):
    """Go through epochs of six batches by hand; return the states at the ends of epochs."""
    begin(pruning, model, len(metrics))
    pruning.set_params({"epochs": len(metrics), "steps": 6, "verbose": 0})
    states = []
    for epoch, metric in enumerate(metrics):
        pruning.on_epoch_begin(epoch)
        for batch in range(6):
            pruning.on_train_batch_begin(batch)
            nudge(model)
        states.append(state_of(model))
        pruning.on_epoch_end(epoch, {"val_accuracy": metric})
    pruning.on_train_end()
    return states


def test_all_rounds_of_an_epoch_are_judged_and_undone_together():
    model = dense_model()
    pruning = callback(batches_per_round=2, target=None, max_drop=0.1, baseline=0.9)
    states = batch_by_batch(pruning, model, [0.9, 0.1])
    assert [done.kept for done in pruning.rounds] == [True] * 3 + [False] * 3
    assert [done.after.neurons for done in pruning.rounds] == [18, 14, 11, 9, 7, 6]
    assert_same(states[0], state_of(model))
    batch_by_batch(pruning, model, [0.9])
    assert pruning.rounds[6].fraction == 0.125
    assert [done.kept for done in pruning.rounds[6:]] == [True] * len(pruning.rounds[6:])


def test_a_loss_that_is_no_number_undoes_all_rounds_of_its_epoch():
    model, pruning = dense_model(), callback(batches_per_round=2, target={"neurons": 0.3})
    begin(pruning, model, 2)
    before = state_of(model)
    pruning.set_params({"epochs": 2, "steps": 6, "verbose": 0})
    pruning.on_epoch_begin(0)
    for batch in range(6):
        pruning.on_train_batch_begin(batch)
        nudge(model)
    with pytest.warns(RuntimeWarning, match="The loss is nan"):
        pruning.on_epoch_end(0, {"loss": float("nan"), "val_accuracy": 0.5})
    pruning.on_train_end()
    assert [done.kept for done in pruning.rounds] == [False] * 3
    assert_same(before, state_of(model))


def test_ctrl_c_within_an_epoch_leaves_the_last_good_one(capsys, default_handler):
    model, states = dense_model(), []
    pruning = callback(batches_per_round=2, target={"neurons": 0.2})

    class Interrupting(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            states.append(state_of(model))

        def on_train_batch_end(self, batch, logs=None):
            if states and batch == 3:
                assert neurons(model) < 10
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_batches(model, pruning, Interrupting(), epochs=3)
    assert_same(states[0], state_of(model))
    assert "last good state, 11 neurons" in capsys.readouterr().out
    fit_batches(model, pruning, epochs=1)
    assert [done.number for done in pruning.rounds] == list(range(1, 1 + len(pruning.rounds)))


def test_checkpoints_of_batches_hold_the_model_of_that_batch(tmp_path):
    model, pruning = dense_model(), callback(batches_per_round=2)
    path = tmp_path / "{epoch}-{batch}.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_freq=1)
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.01 / (1 + epoch))
    fit_batches(model, checkpoint, rates, pruning, epochs=1)
    stored = {p.stem: neurons(keras.models.load_model(p)) for p in tmp_path.iterdir()}
    assert [stored[name] for name in sorted(stored)] == [18, 18, 14, 14, 12, 12]


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras takes one step at a time there"
)
def test_steps_per_execution_and_batch_normalization_go_with_rounds_of_batches():
    model = conv_model()
    model.compile("adam", "sparse_categorical_crossentropy", steps_per_execution=2)
    pruning = callback(batches_per_round=2, data=IMAGES)
    fit_batches(model, pruning)
    assert [(done.epoch, done.batch) for done in pruning.rounds] == [(0, 0), (0, 2), (0, 4)]
    assert neurons(model) == 7


def test_rounds_of_batches_by_a_schedule():
    model, pruning = dense_model(), scheduled(Geometric(4), batches_per_round=3)
    fit_batches(model, pruning)
    assert [(done.epoch, done.batch) for done in pruning.rounds] == [(0, 0), (0, 3), (1, 0), (1, 3)]


def test_a_round_longer_than_an_epoch_is_refused():
    with pytest.raises(ValueError, match="batches_per_round=7, while an epoch has 6 batches"):
        fit_batches(dense_model(), callback(batches_per_round=7))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches_per_round": 0}, "batches_per_round=0"),
        ({"batches_per_round": 2, "epochs_per_round": 2}, "in batches or in epochs"),
        ({"batches_per_round": 2, "max_epochs_per_round": 2}, "max_epochs_per_round=2. Leave one"),
        ({"schedule": "cubic"}, "schedule='cubic'. Take one of prune_keras.schedules"),
        ({"schedule": OneShot(), "fraction": 0.3}, r"OneShot\(\), fraction=0.3. Leave one"),
        (
            {"schedule": OneShot(), "target": None, "max_drop": 0.1, "fraction": 0.1},
            "target of shares to lead to",
        ),
        ({"schedule": Cubic(2), "target": {"latency_ms": 1.0}}, "target of shares to lead to"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        callback(**{"fraction": 0.1} | arguments)
