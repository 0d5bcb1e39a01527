"""Every way to train with ProgressivePruning, each across cuts and a round that is undone.

Metrics are told beforehand, so that rounds are kept and undone as a test wants; all else is a
real `fit`.
"""

import re

import keras
import numpy as np
import pytest
import ways_of_data  # noqa: F401  its ways join WAYS
from fits import (
    callback,
    judged,
    neurons,
    state_of,
)
from scripted import Script, assert_sliced, sliced
from training_cases import BATCHED, BESIDE, DATA, HELD, MIRRORED, SUBCLASSED, UNSEEN, VIEW
from ways import BACKEND, WAYS, reloaded
from ways_of_models import frozen, frozen_statistics

TITLE = "Ways to train"
SEEN = [BATCHED, DATA, MIRRORED, HELD, VIEW, BESIDE, SUBCLASSED, UNSEEN]
CASES = [*(way.case for way in WAYS), *SEEN]


def train(way):
    """Train in this way; return what was made, the callback, and the history.

    Return also the states before and after the callback begins an epoch, and the metric then.
    """
    if way.backends and BACKEND not in way.backends:
        pytest.skip(f"not offered on {BACKEND}")
    given = way.make()
    # What is fused is no slice.
    pruning, before, after, metrics = judged(**{"fuse": None} | given.pruning), {}, {}, {}

    def remember(epoch, logs):
        after[epoch] = state_of(given.model)
        metrics[epoch] = evaluated(given.model, given)[pruning.monitor.removeprefix("val_")]
        given.model.reset_metrics()

    callbacks = [
        Script(pruning.monitor, way.levels),
        keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, _: before.update({epoch: state_of(given.model)})
        ),
        pruning,
        keras.callbacks.LambdaCallback(on_epoch_begin=remember),
    ]
    options = {"epochs": len(way.levels), "verbose": 0} | given.fit
    history = given.model.fit(**options, callbacks=callbacks).history
    return given, pruning, history, before, after, metrics


def evaluated(model, given):
    return model.evaluate(**given.evaluate, batch_size=12, verbose=0, return_dict=True)


@pytest.mark.repeats(6)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_trains_on_across_cuts_and_a_round_that_is_undone(way):
    given, pruning, history, before, after, metrics = train(way)
    assert [done.kept for done in pruning.rounds] == [True, False, True]
    assert_logs(given, pruning, history)
    assert_measured(given, pruning, metrics)
    assert_states(given, pruning, before, after)
    assert_thin(given, pruning)


def assert_logs(given, pruning, history):
    assert all(np.isfinite(values).all() for values in history.values())
    assert set(given.logged) <= set(history)
    first = given.fit.get("initial_epoch", 0)
    for done in pruning.rounds:
        assert done.after.neurons == done.before.neurons - int(done.fraction * done.before.neurons)
        epochs = slice(done.epoch - first, done.epoch - first + done.epochs)
        assert history["neurons"][epochs] == [done.after.neurons] * done.epochs


def assert_measured(given, pruning, metrics):
    readable = not hasattr(given.fit["validation_data"], "__next__")
    for done in pruning.rounds:
        expected = pytest.approx(metrics[done.epoch], rel=1e-5) if readable else None
        assert done.metric_cut == expected


def assert_states(given, pruning, before, after):
    """Each cut keeps slices of what training left, which is what an undone round goes back to."""
    norms = [x for x in given.model.layers if isinstance(x, keras.layers.BatchNormalization)]
    measured = "data" in given.pruning and any(norm.trainable for norm in norms)
    base = None
    for done in pruning.rounds:
        base = before[done.epoch] if base is None else base
        assert_sliced(base, after[done.epoch], done.plan, measured)
        base = None if done.kept else before[done.epoch]
    for epoch in list(before)[1:]:
        trained = [path for path in after[epoch - 1] if re.search("(classes|level)/bias", path)]
        assert trained
        for path in trained:
            assert not np.array_equal(after[epoch - 1][path], before[epoch][path]), path


def assert_thin(given, pruning):
    model = given.model
    assert neurons(model) == pruning.rounds[-1].after.neurons
    twin = reloaded(model)
    assert evaluated(twin, given) == evaluated(model, given)
    for stored, variable in zip(twin.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(stored.numpy(), variable.numpy(), err_msg=variable.path)


@pytest.mark.parametrize(("make", "layer"), [(frozen, "hidden0"), (frozen_statistics, "norm")])
def test_what_is_frozen_is_cut_and_stays_as_it_was(make, layer):
    given, pruning = make(), callback(**make().pruning)
    variables = given.model.get_layer(layer).weights
    start = [v.numpy() for v in variables]
    given.model.fit(**given.fit, epochs=2, verbose=0, callbacks=[pruning])
    assert not given.model.get_layer(layer).trainable
    assert not [v.path for v in given.model.optimizer.variables if layer in v.path]
    for variable, value in zip(variables, start, strict=True):
        expected = sliced(variable.path, value, pruning.report.plan)
        assert expected.shape != value.shape
        np.testing.assert_array_equal(variable.numpy(), expected, err_msg=variable.path)
