"""A fit that ends in an error of the data, of a step, or in a loop of another make."""

import threading

import keras
import numpy as np
import pytest
from exits import Clock, Failing, Full, Good, assert_good, fit, model_of, pruning_of
from fits import LABELS, SAMPLES, assert_same, begin, nudge, state_of

from prune_keras import repair


def ending(batches):
    """Yield so many batches, and then fail."""
    for _ in range(batches):
        yield SAMPLES[:12], LABELS[:12]
    raise Full("on purpose")


class OwnStep(keras.Model):
    """Fails in a step once `broken`, whose value is told when fit begins."""

    broken = None

    def train_step(self, data):
        if self.broken is not None and self.broken():
            raise Full("on purpose")
        return super().train_step(data)


class OwnFit(OwnStep):
    def fit(self, *arguments, **options):
        return super().fit(*arguments, **options)


def own_model(kind):
    built = model_of()
    model = kind(built.inputs, built.outputs)
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    model.optimizer.build(model.trainable_variables)
    del built
    return model


def test_data_that_fail_in_an_epoch():
    model = model_of()
    pruning, good = pruning_of("epochs"), Good(model)
    with pytest.raises(Exception, match="on purpose"):  # on TensorFlow, one of its own
        options = {"steps_per_epoch": 2, "batch_size": None, "shuffle": False}
        fit(model, Clock(), pruning, good, x=ending(5), **options)
    assert_good(model, pruning, good.state)


def test_validation_data_that_fail_at_their_first_batch():
    model = model_of()
    pruning = pruning_of("unbounded")
    before = state_of(model)
    with pytest.raises(Full, match="on purpose"):
        fit(model, pruning, validation_data=ending(0), validation_steps=1)
    assert_good(model, pruning, before)


@pytest.mark.parametrize("kind", [OwnStep, OwnFit])
def test_a_step_that_fails(kind):
    model, clock = own_model(kind), Clock()
    pruning, good = pruning_of("epochs"), Good(model)
    model.broken = lambda: clock.epoch == 2
    with pytest.raises(Full, match="on purpose"):
        fit(model, clock, pruning, good)
    model.broken = None
    assert len(pruning.rounds) == 2
    assert_good(model, pruning, good.state)


def test_a_compiled_step_is_made_anew_after_an_error():
    model, clock = model_of(), Clock()
    model.run_eagerly = False
    pruning, good = pruning_of("epochs"), Good(model)
    with pytest.raises(Full):
        fit(model, clock, pruning, good, Failing("on_train_batch_end", Full, clock))
    assert_good(model, pruning, good.state)


@pytest.mark.parametrize("nested", [False, True])
def test_a_list_of_callbacks(nested):
    model, clock = model_of(), Clock()
    pruning, good = pruning_of("epochs"), Good(model)
    failing = Failing("on_epoch_end", Full, clock)
    inner = keras.callbacks.CallbackList([pruning, good, failing])
    with pytest.raises(Full):
        fit(model, clock, *([inner] if nested else inner.callbacks))
    assert_good(model, pruning, good.state)


def test_a_fit_in_a_thread():
    model, clock, raised = model_of(), Clock(), []
    pruning, good = pruning_of("epochs"), Good(model)
    failing = Failing("on_train_batch_end", Full, clock)

    def run():
        try:
            fit(model, clock, pruning, good, failing)
        except Full as error:
            raised.append((error, state_of(model)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert_same(good.state, raised[0][1])
    assert_good(model, pruning, good.state)


def test_a_fit_of_another_model_within_fails_alone():
    model, pruning, clock = model_of(), pruning_of("epochs"), Clock()

    class Inner(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            other, inside = model_of((4,)), Clock()
            cut = state_of(model)
            with pytest.raises(Full):
                fit(other, inside, Failing("on_train_begin", Full, inside))
            assert_same(cut, state_of(model))

    fit(model, clock, pruning, Inner(), epochs=2)
    assert [done.kept for done in pruning.rounds] == [True, False]


def test_memory_that_ends_as_a_good_state_is_copied(monkeypatch):
    model, clock, pruning = model_of(), Clock(), pruning_of("epochs")
    good = Good(model)

    class Scarce(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 2:
                monkeypatch.setattr(np, "array", self.fail)

        def fail(self, *_, **__):
            monkeypatch.undo()
            raise MemoryError("on purpose")

    with pytest.raises(MemoryError, match="on purpose"):
        fit(model, clock, Scarce(), pruning, good)
    assert_good(model, pruning, good.state)


def test_a_loop_of_another_make_whose_error_nobody_saw():
    model, pruning = model_of(), pruning_of("epochs", baseline=0.9)
    begin(pruning, model, 4)
    before = state_of(model)
    pruning.on_epoch_begin(0)
    nudge(model)  # and here the loop ends
    begin(pruning, model, 4)
    assert_same(before, state_of(model))
    pruning.on_train_end()
    assert_good(model, pruning, before)


def test_a_hook_that_fails_in_a_loop_of_another_make(monkeypatch):
    def fail(*_, **__):
        raise Full("on purpose")

    model, pruning = model_of(), pruning_of("epochs")
    begin(pruning, model, 4)
    before = state_of(model)
    monkeypatch.setattr(repair, "assign", fail)
    with pytest.raises(Full):
        pruning.on_epoch_begin(0)
    monkeypatch.undo()
    assert_good(model, pruning, before)
