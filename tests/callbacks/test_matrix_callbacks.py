"""Every callback that Keras ships, before ProgressivePruning in the list and after it."""

import re

import keras
import matrix
import numpy as np
import pytest
from beside import PLACES, States, assert_measured, beside, eager, in_order, works_in
from fits import (
    LABELS,
    SAMPLES,
    assert_same,
    callback,
    dense_model,
    fit,
    judged,
    neurons,
    state_of,
)
from matrix import Case

TITLE = "Callbacks of Keras beside it"
CASES = []
works = works_in(CASES)


def best_so_far(values):
    return [epoch for epoch, value in enumerate(values) if value <= min(values[: epoch + 1])]


SUFFIXES = pytest.mark.parametrize("suffix", [".keras", ".h5"])


@SUFFIXES
@works(
    "`ModelCheckpoint(save_best_only=True)`",
    "stores the thinner model that was measured, as `.keras` or `.h5`",
)
def test_a_checkpoint_holds_the_model_that_was_measured(place, suffix, tmp_path):
    path = tmp_path / ("{epoch}" + suffix)
    _, history = beside(place, keras.callbacks.ModelCheckpoint(path, save_best_only=True))
    best = best_so_far(history["val_loss"])
    assert {file.name for file in tmp_path.iterdir()} == {f"{e + 1}{suffix}" for e in best}
    for epoch in best:
        assert_measured(tmp_path / f"{epoch + 1}{suffix}", history, epoch)


@SUFFIXES
@works(
    "`ModelCheckpoint` that prefers a round which is rolled back",
    "keeps what it stored, the widths of that round included",
)
def test_a_checkpoint_holds_a_round_that_is_rolled_back(place, suffix, tmp_path):
    model, file = eager(dense_model()), tmp_path / f"best{suffix}"
    checkpoint = keras.callbacks.ModelCheckpoint(file, save_best_only=True)
    pruning = judged(baseline=2.0)
    history = fit(model, *in_order(place, pruning, checkpoint)).history
    assert [done.kept for done in pruning.rounds] == [False] * 3
    assert_measured(file, history, int(np.argmin(history["val_loss"])))
    assert neurons(keras.models.load_model(file)) < neurons(model) == 24


@works("`ModelCheckpoint(save_freq=1)`", "stores the model as it is after each batch")
def test_checkpoints_within_epochs_hold_the_model_of_that_batch(place, tmp_path):
    path = tmp_path / "{epoch}-{batch}.keras"
    _, history = beside(place, keras.callbacks.ModelCheckpoint(path, save_freq=1))
    for epoch, width in enumerate(history["neurons"]):
        first = keras.models.load_model(tmp_path / f"{epoch + 1}-1.keras")
        assert neurons(first) == width
        assert_measured(tmp_path / f"{epoch + 1}-2.keras", history, epoch)


@works(
    "`EarlyStopping`",
    "ends `fit` as it does without pruning; the model stands at its last good round",
)
def test_early_stopping_leaves_the_last_good_round(place):
    stopping = keras.callbacks.EarlyStopping(monitor="score", mode="max", patience=1)
    seen = States()
    model, history = beside(place, stopping, seen)
    assert len(history["loss"]) == 2
    assert neurons(model) == 18
    assert_same(seen.states[0], state_of(model))


@works("`ReduceLROnPlateau`", "rates that it lowered stay so where a round is rolled back")
def test_lowered_rates_survive_a_roll_back(place):
    lower = keras.callbacks.ReduceLROnPlateau(monitor="score", mode="max", factor=0.5, patience=1)
    model, history = beside(place, lower, model=eager(dense_model(optimizer="sgd")))
    np.testing.assert_allclose(history["learning_rate"], [0.01, 0.01, 0.005, 0.0025])
    np.testing.assert_allclose(float(model.optimizer.learning_rate), 0.00125)


@works("`LearningRateScheduler`", "every epoch is trained at the rate that it sets")
def test_scheduled_rates_are_those_that_train(place):
    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    rates, chosen = [], [0.1, 0.01, 0.001, 0.0001]
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch, rate: chosen[epoch])
    _, history = beside(place, schedule, Rates())
    np.testing.assert_allclose(rates, np.repeat(chosen, 2), rtol=1e-6)
    np.testing.assert_allclose(history["learning_rate"], chosen, rtol=1e-6)


@works(
    "`TerminateOnNaN`",
    "ends the epoch at once, with a warning; the model stands at its last good round",
)
def test_nan_ends_the_epoch_and_leaves_the_last_good_round(place):
    model, batches = eager(dense_model(optimizer=keras.optimizers.SGD(0.01))), []
    diverge = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, _: model.optimizer.learning_rate.assign(
            0.01 if epoch < 2 else float("nan")
        ),
        on_train_batch_end=lambda batch, logs=None: batches.append(batch),
    )
    pruning, seen = callback(), States()
    listed = in_order(place, pruning, keras.callbacks.TerminateOnNaN(), seen)
    with pytest.warns(RuntimeWarning, match="The loss is nan in epoch 3"):
        fit(model, diverge, *listed, epochs=6, batch_size=6)
    assert batches == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert [done.kept for done in pruning.rounds] == [True, True, False]
    good, now = seen.states[1], state_of(model)
    rate = model.optimizer.learning_rate.path
    good[rate] = now[rate]
    assert_same(good, now)


@pytest.mark.parametrize("nested", [False, True])
@works("`CallbackList`", "given to `fit` as its `callbacks`, or among them")
def test_a_list_of_callbacks_is_given_to_fit(place, nested):
    model, seen, pruning = eager(dense_model()), States(), callback()
    if nested:
        own = keras.callbacks.CallbackList([seen])
        fit(model, *in_order(place, pruning, own), epochs=2)
    else:
        listed = in_order(place, pruning, seen)
        params = {"model": model, "epochs": 2, "steps": 1, "verbose": 0}
        own = keras.callbacks.CallbackList(listed, add_history=True, **params)
        model.fit(SAMPLES, LABELS, epochs=2, callbacks=own, verbose=0)
    assert [done.kept for done in pruning.rounds] == [True, True]
    assert len(seen.states) == 2
    assert_same(seen.states[1], state_of(model))


@works(
    "A `Callback` of your own",
    "meets, at the end of an epoch, the model that was trained and measured in it",
)
def test_a_callback_meets_the_model_that_was_measured(place):
    class Measure(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            twin = keras.models.clone_model(self.model)
            twin.compile(loss=self.model.loss)
            twin.set_weights(self.model.get_weights())
            loss = twin.evaluate(SAMPLES, LABELS, verbose=0, return_dict=True)["loss"]
            found.append((loss, neurons(self.model)))

    found = []
    _, history = beside(place, Measure())
    expected = zip(history["val_loss"], history["neurons"], strict=True)
    np.testing.assert_allclose(found, list(expected), rtol=1e-5)


def orbax_checkpoint(folder):
    """Return one without the package that its constructor asks for."""
    return object.__new__(keras.callbacks.OrbaxCheckpoint)


RELOAD = (
    "Pass backup_dir='backup' to ProgressivePruning, which takes its place: it stores the "
    "structure too, and the same script goes on from there."
)
REFUSED = {
    Case(
        "`EarlyStopping(restore_best_weights=True)`",
        "Received: EarlyStopping(restore_best_weights=True). Pass restore_best_weights=False; with "
        "max_drop or floor, the model ends at its last good round.",
        refused=True,
    ): lambda folder: keras.callbacks.EarlyStopping(restore_best_weights=True),
    Case(
        "`ModelCheckpoint(save_weights_only=True)`",
        "Received: ModelCheckpoint(save_weights_only=True). Pass save_weights_only=False, which "
        "stores the structure too.",
        refused=True,
    ): lambda folder: keras.callbacks.ModelCheckpoint(
        folder / "model.weights.h5", save_weights_only=True
    ),
    Case(
        "`SwapEMAWeights`",
        "Received: SwapEMAWeights. Leave it out: with use_ema=True, Keras gives the model its "
        "averages when fit ends.",
        refused=True,
    ): lambda folder: keras.callbacks.SwapEMAWeights(),
    Case(
        "`BackupAndRestore`", f"Received: BackupAndRestore. {RELOAD}", refused=True
    ): lambda folder: keras.callbacks.BackupAndRestore(folder / "backup"),
    Case(
        "`OrbaxCheckpoint`", f"Received: OrbaxCheckpoint. {RELOAD}", refused=True
    ): orbax_checkpoint,
    Case(
        "A second `ProgressivePruning`",
        "Received: ProgressivePruning. Pass one, with all that it is to do.",
        refused=True,
    ): lambda folder: callback(),
}


CASES += REFUSED


@pytest.mark.parametrize("place", [*PLACES, "within a CallbackList"])
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_keeps_weights_of_the_older_shape_is_refused(case, place, tmp_path):
    model, other = dense_model(), REFUSED[case](tmp_path)
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda *_, **__: pytest.fail("a batch")
    )
    if place not in PLACES:
        other = keras.callbacks.CallbackList([other])
    with pytest.raises(ValueError, match=re.escape(case.note)):
        fit(model, *in_order(place, callback(), other, seen))
    assert_same(before, state_of(model))


def test_every_callback_of_keras_has_a_case():
    named = {word for case in matrix.cases("callbacks") for word in re.findall(r"\w+", case.name)}
    shipped = {name for name, kind in vars(keras.callbacks).items() if isinstance(kind, type)}
    assert "ModelCheckpoint" in shipped
    assert shipped <= named, f"without a case: {sorted(shipped - named)}"
