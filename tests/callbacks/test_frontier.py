"""The frontier: what it holds, the models on disk, and picking one of them."""

import json

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model, drive, fit, judged, neurons

import prune_keras
from prune_keras import Cost, frontier
from prune_keras.frontier import Point


def outputs(model):
    return keras.ops.convert_to_numpy(model(SAMPLES))


def walk(folder, metrics=(0.9, 0.85, 0.1, 0.86), **arguments):
    model, pruning = dense_model(), judged(fraction=0.25, keep_rounds=folder, **arguments)
    drive(pruning, model, list(metrics))
    return model, pruning


def test_the_frontier_has_the_start_and_every_round_undone_ones_marked():
    pruning = walk(None)[1]
    points = pruning.frontier
    assert [(p.number, p.kept, p.metric, p.cost.neurons) for p in points] == [
        (0, True, 0.9, 24),
        (1, True, 0.9, 18),
        (2, True, 0.85, 14),
        (3, False, 0.1, 11),
        (4, True, 0.86, 13),
    ]
    for point in points:
        a, b = point.widths["hidden0"], point.widths["hidden1"]
        params = 7 * a + (a + 1) * b + (b + 1) * 3
        assert (point.cost.neurons, point.cost.params) == (a + b, params)
        assert point.cost.flops == 2 * (6 * a + a * b + b * 3)


def test_the_report_tells_the_frontier_in_its_json():
    pruning = walk(None)[1]
    stored = json.loads(pruning.report.to_json())["frontier"]
    assert [each["kept"] for each in stored] == [True, True, True, False, True]
    assert [each["cost"]["params"] for each in stored] == [p.cost.params for p in pruning.frontier]
    assert stored[2]["widths"] == pruning.frontier[2].widths


def test_without_a_bound_the_first_metric_is_the_one_before_the_first_cut():
    model, pruning = dense_model(), callback(max_drop=1.0)
    history = fit(model, pruning, epochs=2).history["val_accuracy"]
    assert [point.metric for point in pruning.frontier] == history


def test_models_of_all_rounds_are_kept_and_read_back(tmp_path):
    start = outputs(dense_model())
    model, pruning = walk(tmp_path)
    names = [f"round-00{number}.keras" for number in range(5)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["frontier.json", *names]
    for point in pruning.frontier:
        assert prune_keras.cost(point.load()) == point.cost
    assert outputs(pruning.pick(0)).shape == start.shape
    np.testing.assert_array_equal(outputs(pruning.pick(4)), outputs(model))
    assert neurons(pruning.pick(3)) == 11


def test_the_first_model_is_the_one_that_was_measured(tmp_path):
    model, pruning, seen = dense_model(), callback(max_drop=1.0, keep_rounds=tmp_path), []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(outputs(model)))
    fit(model, note, pruning, epochs=3)
    start = pruning.pick(0)
    np.testing.assert_array_equal(outputs(start), seen[0])
    start.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    measured = start.evaluate(SAMPLES, LABELS, verbose=0, return_dict=True)["accuracy"]
    assert measured == pytest.approx(pruning.frontier[0].metric)
    assert neurons(start) == 24 and neurons(pruning.pick(1)) == 18


def test_a_folder_is_read_wherever_it_lies(tmp_path):
    pruning = walk(tmp_path / "here")[1]
    (tmp_path / "here").rename(tmp_path / "there")
    points = frontier.read(tmp_path / "there")
    assert [(p.number, p.kept, p.metric, p.cost, p.widths) for p in points] == [
        (p.number, p.kept, p.metric, p.cost, p.widths) for p in pruning.frontier
    ]
    assert neurons(frontier.pick(points, metric=0.85).load()) == 13


def test_the_cheapest_model_that_holds_a_metric_is_picked(tmp_path):
    pruning = walk(tmp_path, metrics=(0.9, 0.85, 0.1, 0.86))[1]
    assert neurons(pruning.pick(metric=0.9)) == 18
    assert neurons(pruning.pick(metric=0.85, by="flops")) == 13
    assert neurons(pruning.pick(metric=0.0)) == 11


@pytest.mark.parametrize(("monitor", "left"), [("val_accuracy", 24), ("val_loss", 18)])
def test_without_a_bound_the_model_tells_whether_more_is_better(monitor, left, tmp_path):
    model, pruning = dense_model(), callback(monitor=monitor, keep_rounds=tmp_path, baseline=0.8)
    fit(model, epochs=1)
    drive(pruning, model, [0.4], monitor=monitor)
    assert neurons(pruning.pick(metric=0.6)) == left


def test_a_second_fit_goes_on_with_the_numbers(tmp_path):
    model, pruning = dense_model(), callback(keep_rounds=tmp_path)
    fit(model, pruning, epochs=1)
    fit(model, pruning, epochs=1)
    assert [p.cost.neurons for p in frontier.read(tmp_path)] == [24, 18, 14]


def test_of_rounds_of_batches_the_last_of_an_epoch_is_kept(tmp_path):
    model, pruning = dense_model(), callback(keep_rounds=tmp_path, batches_per_round=1)
    fit(model, pruning, epochs=1)
    assert [point.file is None for point in pruning.frontier] == [False, True, False]
    with pytest.raises(ValueError, match="round 1 must be on disk"):
        pruning.pick(1)


def test_a_metric_that_is_no_number_is_left_open(tmp_path):
    pruning = walk(tmp_path, metrics=(0.9, float("nan")))[1]
    assert [p.metric for p in pruning.frontier] == [0.9, 0.9, None]
    assert "NaN" not in (tmp_path / "frontier.json").read_text()
    assert pruning.pick(metric=0.5).get_layer("hidden0").units < 16


POINTS = [
    Point(0, True, 0.5, Cost(9, 90, 9), {}),
    Point(1, True, 0.7, Cost(5, 80, 5), {}),
    Point(2, False, 0.9, Cost(2, 85, 2), {}),
]


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ({"number": 1}, 1),
        ({"metric": 0.6}, 2),
        ({"metric": 0.6, "by": "flops"}, 1),
        ({"metric": 0.6, "mode": "min"}, 0),
        ({"metric": 0.9, "mode": "min", "by": "flops"}, 1),
    ],
)
def test_pick_by_hand(arguments, number):
    assert frontier.pick(POINTS, **arguments).number == number


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "number=None, metric=None"),
        ({"number": 1, "metric": 0.5}, "number=1, metric=0.5"),
        ({"metric": 0.5, "by": "size"}, "by='size'"),
        ({"number": 7}, r"number=7, metric=None, while .* \{0: 0.5, 1: 0.7, 2: 0.9\}"),
        ({"metric": 0.95}, "A round must fit. Received: number=None, metric=0.95"),
        ({"metric": 0.5, "mode": "MAX"}, r"`mode` must be one of \('max', 'min'\).*mode='MAX'"),
    ],
)
def test_what_cannot_be_picked_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        frontier.pick(POINTS, **arguments)


def test_of_open_sizes_the_cheapest_is_not_guessed():
    points = [Point(n, True, 0.9, Cost(9 - n, None, 9), {}) for n in (0, 1)]
    with pytest.raises(ValueError, match=r"sizes that are known. Received: by='flops'"):
        frontier.pick(points, metric=0.5, by="flops")
    assert frontier.pick(points, metric=0.5).number == 1
    assert frontier.pick(points, number=0, by="flops").number == 0


def test_a_folder_without_a_frontier_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"without frontier.json. Pass keep_rounds"):
        frontier.read(tmp_path)
