"""Averages of weights (`use_ema`): rounds are judged by them, they follow, and they stay."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, SAMPLES, callback, conv_model, dense_model, fit, neurons
from keras import ops

from prune_keras.callbacks import Judge
from prune_keras.rounds.cutter import Cutter

MAKERS = {
    "Adam": lambda: keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9),
    "SGD, overwriting": lambda: keras.optimizers.SGD(
        0.5, momentum=0.9, use_ema=True, ema_momentum=0.7, ema_overwrite_frequency=3
    ),
    "LossScaleOptimizer": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9), initial_scale=8.0
    ),
    "gradient accumulation": lambda: keras.optimizers.Adam(
        0.05, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
    ),
}


def averages(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return numbers(optimizer._model_variables_moving_average)


def numbers(variables):
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def offsets(model):
    pairs = zip(averages(model), numbers(model.trainable_variables), strict=True)
    return [average - weight for average, weight in pairs]


def loss_of(model, x=SAMPLES):
    return model.evaluate(x, LABELS, batch_size=12, verbose=0, return_dict=True)["loss"]


class Seen(keras.callbacks.Callback):
    """Notes, as each epoch ends, its metric and what the model that is there gives."""

    def __init__(self):
        super().__init__()
        self.logged, self.found, self.in_training = [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        if batch:
            pairs = zip(numbers(self.model.trainable_variables), averages(self.model), strict=True)
            self.in_training.append(max(np.abs(a - b).max() for a, b in pairs))

    def on_epoch_end(self, epoch, logs=None):
        self.logged.append(logs["val_loss"])
        self.found.append(loss_of(self.model))


def by_loss(**arguments):
    return callback(target=None, min_fraction=0.02, judge=Judge("val_loss", **arguments))


@pytest.mark.repeats(2)
@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("name", MAKERS)
def test_epochs_are_measured_on_what_stays(name, place):
    model, seen = dense_model(optimizer=MAKERS[name]()), Seen()
    model.run_eagerly = True
    pruning = by_loss(max_drop=10.0)
    fit(model, *((seen, pruning) if place == "before" else (pruning, seen)), epochs=4)
    np.testing.assert_allclose(seen.found, seen.logged, rtol=1e-5)
    assert max(seen.in_training) > 1e-4  # training itself goes on with the weights
    assert [done.metric for done in pruning.rounds] == pytest.approx(seen.logged[1:])
    assert loss_of(model) == pytest.approx(seen.logged[-1], rel=1e-5)
    assert neurons(model) < 24


@pytest.mark.repeats(2)
@pytest.mark.parametrize("data", [None, (SAMPLES, LABELS)])
@pytest.mark.parametrize("last", [True, False])
def test_fit_ends_with_the_metric_of_the_last_good_epoch(last, data):
    model, seen = dense_model(optimizer=MAKERS["Adam"]()), Seen()
    pruning = by_loss(max_drop=10.0)
    pruning.data = data

    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if not last and epoch == 3:
                logs["val_loss"] = 99.0

    fit(model, seen, Spoil(), pruning, epochs=4)
    assert [done.kept for done in pruning.rounds] == [True, True, last]
    assert loss_of(model) == pytest.approx(seen.logged[3 if last else 2], rel=1e-5)
    for weight, average in zip(numbers(model.trainable_variables), averages(model), strict=True):
        np.testing.assert_array_equal(weight, average)


def test_training_goes_on_with_the_weights_of_the_last_good_epoch():
    model = dense_model(optimizer=MAKERS["Adam"]())
    trained, begun = [], []

    class States(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 0:
                begun.append(numbers([*model.variables, *model.optimizer.variables]))

        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                trained.append(numbers([*model.variables, *model.optimizer.variables]))

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = 99.0 if epoch == 2 else 0.5

    pruning = callback(target=None, judge=Judge("val_loss", max_drop=1.0), min_fraction=0.2)
    fit(model, States(), pruning, epochs=4)
    assert [done.kept for done in pruning.rounds] == [True, False]
    for found, expected in zip(begun[3], trained[1], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_round_that_is_undone_at_once_leaves_the_weights_that_no_step_has_averaged():
    model = dense_model(optimizer=MAKERS["Adam"]())
    before, pruning = loss_of(model), by_loss(max_drop=0.0, start=-1.0)
    fit(model, pruning, epochs=1)
    assert [done.kept for done in pruning.rounds] == [False]
    assert loss_of(model) == pytest.approx(before, rel=1e-6)


def test_steps_that_count_on_do_not_average_what_never_began():
    model, seen = dense_model(optimizer=MAKERS["Adam"]()), Seen()
    pruning = by_loss(max_drop=0.0, start=-1.0, undo_steps=False)
    fit(model, pruning, seen, epochs=2)
    assert not any(done.kept for done in pruning.rounds)
    for weight in numbers(model.trainable_variables)[::2]:
        assert np.abs(weight).max() > 0.1


def test_the_metric_right_after_a_cut_is_of_averages_too(monkeypatch):
    model, cut, found = dense_model(optimizer=MAKERS["Adam"]()), Cutter.cut, []

    def noted(*arguments):
        notes = cut(*arguments)
        twin = keras.models.clone_model(model)
        twin.set_weights(numbers(model.variables))
        for weight, average in zip(twin.trainable_variables, averages(model), strict=True):
            weight.assign(average)
        twin.compile(loss="sparse_categorical_crossentropy")
        found.append(loss_of(twin))
        return notes

    monkeypatch.setattr(Cutter, "cut", noted)
    pruning = by_loss(max_drop=10.0)
    fit(model, pruning, epochs=3)
    assert [done.metric_cut for done in pruning.rounds] == pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("make", [dense_model, conv_model])
def test_averages_get_what_a_repair_adds_to_weights(make, monkeypatch):
    model = make(optimizer=MAKERS["Adam"]())
    x = IMAGES if make is conv_model else SAMPLES
    cut, apart = Cutter.cut, []

    def noted(cutter, fitted, progress, plan, *rest):
        before = offsets(model)
        notes = cut(cutter, fitted, progress, plan, *rest)
        apart.append((before, offsets(model), plan))
        return notes

    monkeypatch.setattr(Cutter, "cut", noted)
    pruning = callback(data=(x, LABELS), judge=Judge(start_from_epoch=1))
    fit(model, pruning, epochs=2)
    ((before, after, plan),) = apart
    path = "hidden0" if make is dense_model else "conv"
    np.testing.assert_allclose(after[0], before[0][..., plan.kept[path]], atol=1e-6)
    last = "hidden1" if make is dense_model else "hidden"
    expected = before[-2][plan.kept[last]]
    np.testing.assert_allclose(after[-2], expected, atol=1e-6)
    assert np.abs(expected).max() > 1e-4


def test_what_is_kept_on_disk_is_what_was_measured(tmp_path):
    model, seen = dense_model(optimizer=MAKERS["Adam"]()), Seen()
    pruning = by_loss(max_drop=10.0)
    pruning = callback(judge=pruning.judge, keep_rounds=tmp_path)
    file = tmp_path / "last.keras"
    fit(model, keras.callbacks.ModelCheckpoint(file), pruning, seen, epochs=3)
    for point, metric in zip(pruning.frontier, seen.logged, strict=True):
        kept = point.load()
        kept.compile(loss="sparse_categorical_crossentropy")
        assert loss_of(kept) == pytest.approx(metric, rel=1e-5)
    assert loss_of(keras.models.load_model(file)) == pytest.approx(seen.logged[-1], rel=1e-5)


def test_another_evaluation_with_its_callbacks_does_not_stop_training():
    model, seen = dense_model(optimizer=MAKERS["Adam"]()), Seen()
    pruning = by_loss(max_drop=10.0)

    class Evaluating(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 0:
                model.evaluate(SAMPLES, LABELS, callbacks=[pruning], verbose=0)

    fit(model, pruning, Evaluating(), seen, epochs=3)
    assert min(seen.in_training[1:]) > 1e-4
    before = loss_of(model)
    model.evaluate(SAMPLES, LABELS, callbacks=[pruning], verbose=0)
    assert loss_of(model) == before


def test_training_is_that_of_keras_where_nothing_is_cut():
    histories = []
    for callbacks in ([], [callback(judge=Judge("val_loss", max_drop=10.0, start_from_epoch=9))]):
        keras.utils.set_random_seed(3)
        model = dense_model(optimizer=MAKERS["Adam"]())
        fit(model, *callbacks, epochs=3, shuffle=False)
        histories.append(numbers(model.variables))
    for one, other in zip(*histories, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_a_metric_of_training_cannot_judge_averages(monitor):
    model = dense_model(optimizer=MAKERS["Adam"]())
    batches = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda *_: pytest.fail("a batch"))
    with pytest.raises(ValueError, match=f"use_ema=True .*Pass .*monitor='val_{monitor}'"):
        fit(model, callback(monitor=monitor, max_drop=0.1), batches)
    fit(model, callback(monitor=monitor), epochs=1)  # which judges nothing
    assert neurons(model) == 18
