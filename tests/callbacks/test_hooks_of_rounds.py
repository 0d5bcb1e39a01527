"""`on_cut` and `on_rollback`: other callbacks are told of cuts and of rounds that are undone."""

import signal

import keras
import numpy as np
import pytest
from exits import Clock, Failing, Full, fit, model_of, pruning_of
from fits import callback, neurons


class Table(keras.callbacks.Callback):
    """A number for each unit of two layers, which follows cuts and roll-backs."""

    def on_train_begin(self, logs=None):
        self.told, self.before = [], {}
        self.units = {n: np.arange(self.model.get_layer(n).units) for n in ("hidden0", "hidden1")}

    def on_cut(self, round, logs=None):
        self.before[round.number] = self.units
        self.units = {path: self.units[path][kept] for path, kept in round.plan.kept.items()}
        self.check("cut", round, logs)
        assert logs["neurons"] == round.after.neurons and round.metric_cut is None

    def on_rollback(self, round, logs=None):
        self.units = self.before[round.number]
        self.check("rollback", round, logs)
        assert logs["neurons"] == round.before.neurons

    def check(self, what, round, logs):
        self.told.append((what, round.number))
        assert set(logs) == {"neurons", "params", "flops"}
        self.on_train_batch_begin(0)

    def on_train_batch_begin(self, batch, logs=None):
        for name, units in self.units.items():
            assert len(units) == self.model.get_layer(name).units


@pytest.mark.parametrize("nested", [False, True])
def test_a_table_follows(nested):
    model, table, pruning = model_of(), Table(), pruning_of("epochs")
    last = keras.callbacks.CallbackList([table]) if nested else table
    fit(model, Clock(), pruning, last)
    cuts = [("cut", 1), ("cut", 2), ("rollback", 2), ("cut", 3), ("cut", 4), ("rollback", 4)]
    assert table.told == cuts


def test_rounds_that_are_undone_together_are_told_as_the_first():
    model, table, pruning = model_of(), Table(), pruning_of("batches", fraction=0.1)
    fit(model, Clock((0.1,)), table, pruning, epochs=1)
    assert table.told == [("cut", 1), ("cut", 2), ("rollback", 1)]


def test_a_round_that_an_error_ends_is_told():
    model, table, clock = model_of(), Table(), Clock()
    failing = Failing("on_train_batch_end", Full, clock)
    with pytest.raises(Full):
        fit(model, clock, table, pruning_of("epochs"), failing)
    assert table.told[-2:] == [("cut", 3), ("rollback", 3)]
    table.on_train_batch_begin(0)


def test_a_hook_that_fails_undoes_the_cut():
    def fail(round, logs):
        raise Full("on purpose")

    model, first, last = model_of(), Table(), Table()
    failing = keras.callbacks.LambdaCallback(on_cut=fail)
    with pytest.raises(Full, match="on purpose"):
        fit(model, callback(), first, failing, last)
    assert neurons(model) == 11
    assert first.told == [("cut", 1), ("rollback", 1)]
    assert last.told == []  # it was not told of the cut


def test_an_interrupt_in_a_roll_back_waits_for_those_that_follow(default_handler):
    class Interrupting(keras.callbacks.Callback):
        def on_rollback(self, round, logs=None):
            signal.raise_signal(signal.SIGINT)

    model, table = model_of(), Table()
    with pytest.raises(KeyboardInterrupt):
        fit(model, Clock(), Interrupting(), pruning_of("epochs"), table)
    assert table.told == [("cut", 1), ("cut", 2), ("rollback", 2)]
