"""Latency: what is measured, and pruning until it is met."""

import time
from types import SimpleNamespace

import keras
import pytest
from fits import callback, dense_model, fit, neurons

import prune_keras
from prune_keras import timing
from prune_keras.rounds import goal


def test_latency_is_the_median_of_the_calls_that_follow_the_first_three(monkeypatch):
    times = iter([9.0, 9.0, 9.0, 0.001, 0.005, 0.003])
    monkeypatch.setattr(timing, "_time", lambda function, samples: next(times))
    assert prune_keras.latency(dense_model(), repeats=3) == pytest.approx(3.0)


@pytest.mark.parametrize("size", [1, 7])
def test_latency_is_that_of_a_batch(size, monkeypatch):
    seen = []
    monkeypatch.setattr(timing, "_time", lambda f, samples: seen.append(f(samples).shape) or 1.0)
    assert prune_keras.latency(dense_model(), batch_size=size) == 1000
    assert seen == [(size, 3)] * 23


@pytest.fixture
def alone(monkeypatch):
    """Measure the time of the processor, of which other processes take none."""
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=time.process_time))


def test_a_larger_model_takes_longer(alone):
    inputs = keras.Input((512,))
    small = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    x = inputs
    for _ in range(6):
        x = keras.layers.Dense(2048)(x)
    large = keras.Model(inputs, keras.layers.Dense(1)(x))
    assert prune_keras.latency(large, 64) > 2 * prune_keras.latency(small, 64)


def test_open_sizes_have_no_latency():
    inputs = keras.Input((None, 3))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match=r"input of shape \(None, None, 3\)"):
        prune_keras.latency(model)


def by_neurons(monkeypatch):
    """Let a model take a millisecond a neuron, for a batch of five."""
    seen = []

    def measured(model, size):
        seen.append(neurons(model))
        assert size == 5
        return float(seen[-1])

    monkeypatch.setattr(goal, "latency", measured)
    return seen


def timed(target, **arguments):
    return callback(target=target, latency_batch_size=5, **arguments)


def test_rounds_go_on_until_the_latency_is_met(monkeypatch):
    seen, model, pruning = by_neurons(monkeypatch), dense_model(), timed({"latency_ms": 15})
    fit(model, pruning, epochs=5)
    assert seen == [24, 18, 14]
    assert [point.latency_ms for point in pruning.frontier] == [24, 18, 14]
    assert pruning.report.notes == ("latency for batches of 5: 24 -> 14 ms",)


def test_a_latency_that_is_not_met_is_told(monkeypatch):
    by_neurons(monkeypatch)
    model, pruning = dense_model(), timed({"latency_ms": 2})
    fit(model, pruning, epochs=1)
    assert "24 -> 18 ms; not 2.0 ms: fit had no epochs left" in pruning.report.notes[0]


@pytest.mark.parametrize(("most", "left"), [(20, 18), (11, 10)])
def test_shares_and_a_latency_are_both_met(monkeypatch, most, left):
    by_neurons(monkeypatch)
    model, pruning = dense_model(), timed({"neurons": 0.75, "latency_ms": most}, fraction=0.2)
    fit(model, pruning, epochs=8)
    assert neurons(model) == left


def test_a_schedule_leads_to_the_shares_and_the_fraction_on_to_the_latency(monkeypatch):
    by_neurons(monkeypatch)
    schedule = prune_keras.schedules.Geometric(2)
    target = {"neurons": 0.5, "latency_ms": 11.5}
    model, pruning = dense_model(), timed(target, fraction=0.1, schedule=schedule)
    fit(model, pruning, epochs=8)
    assert [point.cost.neurons for point in pruning.frontier] == [24, 16, 12, 11]


def test_rounds_end_with_the_first_latency_that_meets_the_target(alone):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(3000, activation="relu")(inputs)
    x = keras.layers.Dense(3000, activation="relu")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = prune_keras.latency(model, 32)
    target = {"latency_ms": before / 2}
    pruning = callback(target=target, fraction=0.5, latency_batch_size=32)
    fit(model, pruning, epochs=4)
    # How long it takes is up to the machine; rounds end with the first that is quick enough.
    met = [point.latency_ms <= before / 2 for point in pruning.frontier]
    assert not any(met[:-1]) and (met[-1] or len(pruning.rounds) == 4)


def test_a_model_that_is_quick_enough_is_refused(monkeypatch):
    by_neurons(monkeypatch)
    with pytest.raises(ValueError, match="latency_ms=30.0, while it takes 24 ms for batches of 5"):
        fit(dense_model(), timed({"latency_ms": 30}))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: timed({"latency_ms": 0}), r"milliseconds. Received: target\['latency_ms'\]=0"),
        (lambda: timed({"latency_ms": "5"}), r"target\['latency_ms'\]='5'"),
        (lambda: callback(latency_batch_size=0), "latency_batch_size=0"),
        (
            lambda: prune_keras.prune(dense_model(), {"latency_ms": 5.0}),
            "measured on thin models, between rounds.*Use callbacks.ProgressivePruning",
        ),
        (lambda: prune_keras.latency(dense_model(), repeats=0), "repeats=0"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
