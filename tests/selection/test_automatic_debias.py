"""What `debias="auto"` stands for: scores that are parts of one loss stay as they are."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, fit

import prune_keras
from prune_keras.selection.scores import Ranking

PAIR = (SAMPLES, LABELS)
SCORES = {"a": np.array([1.0, 2.0, 3.0, 4.0]), "b": np.array([10.0, 20.0, 30.0, 40.0])}


@pytest.fixture
def graph():
    widths = [keras.layers.Dense(4, name=name) for name in "ab"]
    return prune_keras.trace(keras.Sequential([keras.Input((4,)), *widths, keras.layers.Dense(2)]))


@pytest.mark.parametrize(
    ("ranking", "expected"),
    [
        (Ranking(), "mean"),
        (Ranking("per_cost"), "mean"),
        (Ranking("optimal"), "none"),
        (Ranking(running=True), "none"),
        (Ranking("per_cost", running=True), "none"),
        (Ranking(debias="max", running=True), "max"),
        (Ranking("optimal", "flops"), "flops"),
    ],
)
def test_what_it_stands_for(ranking, expected):
    assert ranking.by.__name__ == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, "mean"), ({"running": True}, "none"), ({"scope": "optimal"}, "none")],
)
def test_select_takes_it_by_itself(graph, options, expected):
    chosen = prune_keras.select(graph, SCORES, fraction=0.5, **options)
    assert chosen == prune_keras.select(graph, SCORES, fraction=0.5, debias=expected, **options)
    other = {"mean": "none", "none": "mean"}[expected]
    assert chosen != prune_keras.select(graph, SCORES, fraction=0.5, debias=other, **options)


@pytest.mark.repeats(1)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"criterion": "obs"}, "none"),
        ({"criterion": "taylor"}, "mean"),
        ({"criterion": "taylor", "scope": "optimal"}, "none"),
    ],
)
def test_prune_and_the_callback_take_it_by_itself(options, expected):
    shared = {"data": PAIR, "fuse": "weights"} | options
    model = dense_model()
    _, report = prune_keras.prune(model, fraction=0.5, **shared)
    _, named = prune_keras.prune(model, fraction=0.5, debias=expected, **shared)
    assert report.plan == named.plan
    plans = []
    for debias in ({}, {"debias": expected}):
        keras.utils.set_random_seed(0)
        pruning = callback(fraction=0.25, **shared, **debias)
        fit(dense_model(), pruning, epochs=2)
        plans.append(pruning.report.plan)
    assert plans[0] == plans[1] and plans[0].removed


def test_what_is_no_loss_is_not_summed_for_it():
    with pytest.raises(ValueError, match="parts of one loss. Received: criterion='l2'"):
        prune_keras.prune(dense_model(), fraction=0.5, criterion="l2", scope="optimal")
