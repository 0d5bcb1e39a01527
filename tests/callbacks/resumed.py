"""Fits that are cut off, as by a kill, and go on in a model that a script builds anew."""

import keras
import numpy as np
from exits import Clock
from fits import LABELS, callback, state_of

TIMES = ("pruning_seconds", "seconds", "fine_tuning_seconds", "phases", "latency_ms")


class Killed(BaseException):
    """Stands for SIGKILL: what is done about it does not reach the disk."""


class Kill(keras.callbacks.Callback):
    """Ends the fit at a moment: `("epoch", 2)`, `("end", 2)`, or `("batch", 5)`, over all."""

    def __init__(self, moment):
        super().__init__()
        self.moment, self.batches = moment, 0

    def _check(self, *here):
        if here == self.moment:
            raise Killed

    def on_epoch_begin(self, epoch, logs=None):
        self._check("epoch", epoch)

    def on_epoch_end(self, epoch, logs=None):
        self._check("end", epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._check("batch", self.batches)
        self.batches += 1


def small_model(optimizer="adam", eager=True, **options):
    """A network with all that training changes: weights, statistics, slots, seeds, metrics."""
    hidden = [
        keras.layers.Dense(10, activation="relu", name="first"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dropout(0.3, name="dropout"),
        keras.layers.Dense(8, activation="relu", name="second"),
    ]
    last = keras.layers.Dense(3, activation="softmax", name="classes")
    model = keras.Sequential([keras.Input((6,)), *hidden, last], name="small")
    loss = "sparse_categorical_crossentropy"
    model.compile(optimizer, loss, metrics=["accuracy"], run_eagerly=eager, **options)
    return model


def arrays():
    x = np.random.default_rng(5).normal(size=(24, 6)).astype("float32")
    return {"x": x, "y": LABELS, "batch_size": 5}


def run(folder, moment=None, build=small_model, data=arrays, beside=(Clock,), **arguments):
    """Fit as a script would from its beginning; return the model, the callback and the history."""
    keras.backend.clear_session()  # as in a process of its own
    keras.utils.set_random_seed(3)
    model, given = build(), data()
    epochs = arguments.pop("epochs", 4)
    pruning = callback(backup_dir=folder, **arguments)
    callbacks = [*(each() for each in beside), pruning]
    if moment is not None:
        callbacks.append(Kill(moment))
    validation = (arrays()["x"], LABELS)
    options = {"validation_data": validation, "epochs": epochs, "verbose": 0} | given
    return model, pruning, model.fit(callbacks=callbacks, **options)


def killed(*args, **kwargs):
    try:
        run(*args, **kwargs)
    except Killed:
        return
    raise AssertionError("it was to be killed")


def outcome(model, pruning, history=None):
    """Return all that a run must end with: structure, weights, slots, plan, rounds, frontier."""
    rounds = [each.to_dict() for each in pruning.rounds]
    rounds = [{k: v for k, v in each.items() if k not in TIMES} for each in rounds]
    report = pruning.report
    told = {"rounds": rounds, "plan": report.plan.to_dict(), "notes": report.notes}
    if history is not None:
        told["history"] = {k: v for k, v in history.history.items() if k not in TIMES}
    return state_of(model) | told | {"frontier": [each.to_dict() for each in pruning.frontier]}
