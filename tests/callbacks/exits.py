"""Fits that fail on purpose, and what must be left of them.

Rounds are judged by scores told beforehand. What the model must go back to is what it was at the
last epoch that the callback had judged to be good, as a callback right behind it saw it then.
"""

import json

import keras
import numpy as np
from fits import LABELS, SAMPLES, assert_same, callback, dense_model, judged, state_of

import prune_keras

# Kept, undone, and the same again; the last as fit ends.
SCORES = (0.9, 0.1, 0.9, 0.1)
WAYS = ("epochs", "batches", "unbounded")


class Full(OSError):
    """An error of the user's own."""


ERRORS = (Full, KeyboardInterrupt, SystemExit)


class Clock(keras.callbacks.Callback):
    """Tells the score of each epoch, and in which one the fit is."""

    def __init__(self, scores=SCORES):
        super().__init__()
        self.scores, self.epoch = scores, -1

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]


class Good(keras.callbacks.Callback):
    """Remembers the last good state; stands right behind the callback that cuts."""

    def __init__(self, model, bounded=True):
        super().__init__()
        self.bounded, self.state = bounded, state_of(model)

    def on_epoch_end(self, epoch, logs=None):
        if not self.bounded or logs["score"] >= 0.8:
            self.state = state_of(self.model)


class Failing(keras.callbacks.Callback):
    """Raises an error in one of its hooks, in the third epoch or as fit begins or ends.

    An epoch ends with it in the second one already, with which a round ends that is to be undone.
    """

    def __init__(self, hook, error, clock):
        super().__init__()
        self.clock, self.error = clock, error
        self.epochs = (1,) if hook == "on_epoch_end" else (-1, 2, 3)
        setattr(self, hook, self.fail)

    def fail(self, *_, **__):
        if self.clock.epoch in self.epochs:
            raise self.error("on purpose")


def ready(model):
    """Build the optimizer, and let steps run without tracing."""
    model.run_eagerly = True
    model.optimizer.build(model.trainable_variables)
    return model


def model_of(widths=(6, 5)):
    return ready(dense_model(widths))


def pruning_of(way, **arguments):
    bound = {"monitor": "score", "mode": "max"}
    made = {
        "epochs": lambda: judged(**bound | arguments),
        "batches": lambda: judged(batches_per_round=1, **bound | arguments),
        "unbounded": lambda: callback(target={"neurons": 0.3}, monitor="score", **arguments),
    }
    return made[way]()


def fit(model, *callbacks, epochs=4, **arguments):
    options = {"batch_size": 12, "verbose": 0}
    data = {} if "x" in arguments else {"x": SAMPLES, "y": LABELS}
    return model.fit(epochs=epochs, callbacks=list(callbacks), **data | options | arguments)


def assert_good(model, pruning, good, folder=None):
    """Check that the model is back at a state, that the record is true, and that it can go on."""
    assert_same(good, state_of(model))
    assert_record(model, pruning, folder)
    assert_goes_on(model, pruning)


def assert_record(model, pruning, folder=None):
    cost = prune_keras.cost(model)
    assert pruning.report.after == cost
    kept = [point for point in pruning.frontier if point.kept][-1]
    assert kept.cost == cost
    assert [done.number for done in pruning.rounds] == list(range(1, 1 + len(pruning.rounds)))
    assert [point.number for point in pruning.frontier] == [0, *(d.number for d in pruning.rounds)]
    if folder is not None:
        stored = json.loads((folder / "rounds.json").read_text())
        assert stored == json.loads(json.dumps([done.to_dict() for done in pruning.rounds]))


def assert_goes_on(model, pruning):
    """Check that bad rounds of a second fit are undone, and that training changes the weights."""
    before = state_of(model)
    if pruning.max_drop is not None:
        number = len(pruning.rounds)
        fit(model, Clock((0.1,)), pruning, epochs=1)
        assert not any(done.kept for done in pruning.rounds[number:])
        assert_same(before, state_of(model))
    history = fit(model, epochs=1).history
    assert np.isfinite(history["loss"]).all()
    assert all(
        np.abs(before[weight.path] - keras.ops.convert_to_numpy(weight.value)).max() > 0
        for weight in model.trainable_variables
    )
