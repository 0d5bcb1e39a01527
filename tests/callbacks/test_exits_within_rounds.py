"""A fit that ends within a cut, a judgement or a roll-back, by an error or by Ctrl-C."""

import signal

import keras
import numpy as np
import pytest
from exits import Clock, Full, Good, assert_good, fit, pruning_of, ready
from fits import SAMPLES, compiled

import prune_keras
from prune_keras import _keras, surgery
from prune_keras.repair import recalibration
from prune_keras.rounds import course, cutter, keeper, progress

# Where it happens, what is called there, and at which call in the third epoch: that begins with a
# roll-back, followed by a cut, and ends with a judgement.
PLACES = {
    "the roll-back of the first value": (_keras, "set_value", 1),
    "the roll-back of a slot": (_keras, "set_value", 12),
    "the roll-back of an attribute": (_keras, "set_attribute", 2),
    "the roll-back, at its end": (_keras, "refresh", 1),
    "the trace after the roll-back": (progress, "trace", 1),
    "scoring": (cutter, "score_graph", 1),
    "the check for other models": (cutter, "check_alone", 1),
    "the cut of the first value": (surgery, "_cut", 1),
    "the cut of a slot": (surgery, "_cut", 6),
    "the cut of an attribute": (_keras, "set_attribute", 30),
    "the cut, at its end": (_keras, "refresh", 2),
    "the trace after the cut": (progress, "trace", 2),
    "recalibration": (recalibration, "_assign", 1),
    "the measurement after the cut": (course.Course, "measured", 1),
    "export": (keeper, "export", 1),
    "the copy of the good state": (progress, "capture", 1),
    "the end of a round": (course.Course, "_accept", 1),
    "the record on disk": (keeper, "write_rounds", 1),
}


class Striking(keras.callbacks.Callback):
    """Strikes once, right before or after a function is called in the third epoch."""

    def __init__(self, place, strike, before, patch):
        super().__init__()
        self.owner, self.name, self.call = PLACES[place]
        self.strike, self.before, self.patch, self.calls = strike, before, patch, 0

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            self.real = getattr(self.owner, self.name)
            # A function, which also becomes a method where the owner is a class.
            self.patch.setattr(self.owner, self.name, lambda *a, **k: self.called(*a, **k))

    def called(self, *arguments, **options):
        self.calls += 1
        if self.before and self.calls == self.call:
            self.strike()
        result = self.real(*arguments, **options)
        if not self.before and self.calls == self.call:
            self.strike()
        return result


def normalized():
    hidden = [keras.layers.Dense(n, name=f"hidden{n}") for n in (6, 5)]
    norm = keras.layers.BatchNormalization()
    last = keras.layers.Dense(3, activation="softmax")
    return ready(compiled(keras.Sequential([keras.Input((6,)), hidden[0], norm, hidden[1], last])))


def fail():
    raise Full("on purpose")


def interrupt():
    signal.raise_signal(signal.SIGINT)


@pytest.mark.repeats(8)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("strike", [fail, interrupt])
def test_the_last_good_state_is_left(place, strike, tmp_path, monkeypatch, default_handler):
    model, clock = normalized(), Clock()
    options = {"data": SAMPLES[:4], "criterion": "l2", "fuse": None, "log_dir": tmp_path}
    pruning = pruning_of("epochs", keep_rounds=tmp_path if place == "export" else None, **options)
    measured, good = Good(model), Good(model)
    before = list(PLACES).index(place) % 2 == 0
    striking = Striking(place, strike, before, monkeypatch)
    with pytest.raises((Full, KeyboardInterrupt)):
        fit(model, clock, striking, measured, pruning, good)
    monkeypatch.undo()
    assert striking.calls >= striking.call
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    last = measured if len(pruning.rounds) == 3 else good  # it was judged, and recorded, already
    assert_good(model, pruning, last.state, tmp_path if strike is interrupt else None)


@pytest.mark.parametrize("name", ["set_value", "set_attribute", "refresh"])
def test_ctrl_c_while_an_error_is_undone(name, monkeypatch, default_handler):
    model, clock, pruning = normalized(), Clock(), pruning_of("epochs")
    good, real = Good(model), getattr(_keras, name)

    def interrupted(*arguments, **options):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)
        return real(*arguments, **options)

    class Failing(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if clock.epoch == 2:
                monkeypatch.setattr(_keras, name, interrupted)
                fail()

    with pytest.raises(KeyboardInterrupt):
        fit(model, clock, pruning, good, Failing())
    assert_good(model, pruning, good.state)


@pytest.mark.parametrize("name", ["_cut", "_assign_attributes"])
def test_ctrl_c_waits_until_a_cut_in_place_is_whole(name, monkeypatch, default_handler):
    model = normalized()
    graph = prune_keras.trace(model)
    plan = prune_keras.select(graph, prune_keras.score(model, "l2"), fraction=0.4)
    real = getattr(surgery, name)

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        real(*arguments)

    monkeypatch.setattr(surgery, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        prune_keras.shrink_in_place(model, plan)
    monkeypatch.undo()
    assert prune_keras.trace(model).widths == plan.new_widths
    assert np.isfinite(fit(model, epochs=1).history["loss"]).all()
