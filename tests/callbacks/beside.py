"""A fit of rounds that are kept and undone, with another callback beside the one that cuts."""

import keras
import numpy as np
import pytest
from fits import (
    LABELS,
    SAMPLES,
    dense_model,
    fit,
    judged,
    neurons,
    state_of,
)
from matrix import Case

PLACES = ("before", "after")
# A round that is kept, one that is rolled back, and the same again; the last as fit ends.
SCORES = (0.9, 0.1, 0.9, 0.1)
KEPT = [True, False, True, False]


def works_in(cases):
    """Return a decorator that adds a case to the table; its test runs with both orders."""

    def works(name, note):
        cases.append(Case(name, note))
        return pytest.mark.parametrize("place", PLACES)

    return works


def in_order(place, pruning, *others):
    return [*others, pruning] if place == "before" else [pruning, *others]


def eager(model):
    """Spare a model the tracing that follows each cut; its steps stay the same."""
    model.run_eagerly = True
    return model


def beside(place, *others, model=None, **arguments):
    """Fit over rounds that end as SCORES says, with other callbacks beside the one that cuts."""
    model = eager(dense_model()) if model is None else model
    score = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(score=SCORES[epoch])
    )
    pruning = judged(monitor="score", mode="max")
    listed = in_order(place, pruning, *others)
    history = fit(model, score, *listed, **{"epochs": len(SCORES)} | arguments).history
    assert [done.kept for done in pruning.rounds] == KEPT[: len(history["loss"])]
    return model, history


class States(keras.callbacks.Callback):
    """Remembers the model's state at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.states = []

    def on_epoch_end(self, epoch, logs=None):
        self.states.append(state_of(self.model))


def assert_measured(file, history, epoch):
    """The file holds the model of which the history tells the metrics of that epoch."""
    loaded = eager(keras.models.load_model(file))
    found = loaded.evaluate(SAMPLES, LABELS, batch_size=12, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["loss"], history["val_loss"][epoch], rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], history["val_accuracy"][epoch], rtol=1e-5)
    assert neurons(loaded) == history["neurons"][epoch]


def events(tensorflow, folder):
    """Return what TensorBoard's files hold: tag -> list of (step, tensor)."""
    found = {}
    for file in folder.rglob("events.*"):
        for event in tensorflow.compat.v1.train.summary_iterator(str(file)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.tensor))
    return found
