"""Bounds: equal but for rounding, by the best so far, after training without cuts, and steps."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, begin, callback, dense_model, drive, fit, neurons

from prune_keras import frontier
from prune_keras.accounting import Cost
from prune_keras.callbacks import Judge
from prune_keras.selection.targets import Target, meets, missed


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e-3])
@pytest.mark.parametrize(("count", "lost"), [(100, 1), (200, 4), (1000, 10), (5000, 50), (10, 1)])
def test_a_drop_of_just_as_much_as_allowed_is_accepted(count, lost, scale, mode):
    sign, drop = (1 if mode == "max" else -1), scale * lost / count
    one = scale / count
    for hits in range(lost, count + 1, 7):
        start, metric = (float(np.float32(scale * n / count)) for n in (hits, hits - lost))
        judge = Judge("a", mode, max_drop=drop, start=sign * start)
        assert judge.accepts(sign * metric)
        assert not judge.accepts(sign * (metric - one / 10))


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize("written", [0.9, 0.3, 0.1, 123.4, 0.0])
def test_a_floor_holds_for_what_float32_makes_of_it(written, mode):
    sign = 1 if mode == "max" else -1
    judge = Judge("a", mode, floor=sign * written)
    logged = float(np.float32(written))
    below = float(np.nextafter(np.float32(written), np.float32(-1))) if written else 0.0
    for near in (logged, written, below):
        assert judge.accepts(sign * near)
        assert judge.started(sign * near).start == sign * near
    worse = written - max(1e-5, written * 1e-5)
    assert not judge.accepts(sign * worse)
    with pytest.raises(ValueError, match="hold the floor"):
        judge.started(sign * worse)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_model_is_picked_by_a_metric_that_it_has_but_for_rounding(mode):
    sign = 1 if mode == "max" else -1
    found = sign * float(np.float32(0.9 if mode == "max" else 0.3))
    point = frontier.Point(1, True, found, Cost(9, 9, 9), {"a": 8})
    wanted = sign * (0.9 if mode == "max" else 0.3)
    assert frontier.pick([point], metric=wanted, mode=mode) is point


def test_a_target_in_float32_is_met_by_just_as_much():
    cost, share = Cost(7, 7, 7), float(np.float32(0.7))
    assert share * 10 < 7
    assert meets(cost, {"neurons": share * 10}) and not meets(cost, {"neurons": 6.9999})
    assert missed(Target({"neurons": share}, Cost(10, 10, 10)), cost, "why") == ()


def test_an_amount_is_exact_however_large():
    most = 50_000_000
    assert meets(Cost(most, 1, 1), {"params": most})
    assert not meets(Cost(most + 1, 1, 1), {"params": most})


def judging(**arguments):
    return callback(target=None, min_fraction=0.05, judge=Judge(**arguments))


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_bound_by_the_best_rises_with_it(mode):
    sign = 1 if mode == "max" else -1
    model = dense_model()
    pruning = judging(monitor="m", mode=mode, max_drop=0.1, against="best")
    levels = [sign * level for level in (0.3, 0.6, 0.55, 0.45)]
    drive(pruning, model, levels, monitor="m")
    assert [done.kept for done in pruning.rounds] == [True, True, False]
    assert pruning.frontier[0].metric == sign * 0.3
    # What is undone sets no bound, and what is measured later does.
    drive(pruning, model, [sign * 0.52, sign * 0.7, sign * 0.59], monitor="m")
    assert [done.kept for done in pruning.rounds[3:]] == [True, True, False]


def test_a_bound_by_the_start_stays():
    model, pruning = dense_model(), judging(monitor="m", mode="max", max_drop=0.1)
    drive(pruning, model, [0.3, 0.6, 0.25], monitor="m")
    assert [done.kept for done in pruning.rounds] == [True, True]


@pytest.mark.parametrize(("first", "uncut"), [(0, 1), (1, 1), (3, 3)])
def test_nothing_is_cut_before_its_epoch_whose_forerunner_is_the_start(first, uncut):
    model = dense_model()
    pruning = judging(monitor="m", mode="max", max_drop=0.1, start_from_epoch=first)
    levels = [0.1, 0.2, 0.5, 0.6, 0.35]
    drive(pruning, model, levels, monitor="m")
    assert [done.epoch for done in pruning.rounds] == list(range(uncut, 5))
    assert pruning.frontier[0].metric == levels[uncut - 1]
    assert pruning.rounds[-1].kept == (uncut == 1)


def test_without_a_bound_too_a_model_trains_before_it_is_cut():
    model, pruning = dense_model(), callback(judge=Judge(start_from_epoch=2))
    drive(pruning, model, [0.5] * 4)
    assert [done.epoch for done in pruning.rounds] == [2, 3]
    drive(pruning, model, [0.5])  # rounds have begun: they go on at once
    assert pruning.rounds[-1].epoch == 0 and len(pruning.rounds) == 3


@pytest.mark.parametrize(
    "arguments", [{"max_drop": 0.1}, {"floor": 0.9}, {"max_drop": 0.1, "start": 0.9}]
)
def test_a_fit_that_ends_before_the_first_cut_keeps_what_it_trained(arguments):
    model = dense_model()
    pruning = judging(monitor="m", mode="max", start_from_epoch=5, **arguments)
    states = drive(pruning, model, [0.1, 0.2], monitor="m")
    trained = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.variables}
    for path, value in trained.items():
        np.testing.assert_array_equal(value, states[-1][path])
    assert not pruning.rounds


def test_a_floor_counts_from_the_first_cut_on():
    model = dense_model()
    pruning = judging(monitor="m", mode="max", floor=0.5, start_from_epoch=2)
    drive(pruning, model, [0.1, 0.6, 0.7], monitor="m")
    assert [done.epoch for done in pruning.rounds] == [2]


def test_the_start_is_measured_by_an_epoch_with_validation():
    model = dense_model()
    pruning = callback(judge=Judge(max_drop=1.0, start_from_epoch=3))
    fit(model, pruning, epochs=6, validation_freq=2)
    assert [done.epoch for done in pruning.rounds] == [4]


@pytest.mark.parametrize("goes_back", [True, False])
def test_steps_go_back_with_a_round_or_count_on(goes_back):
    model = dense_model(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.1, 9))
    )
    pruning = judging(monitor="m", mode="max", max_drop=0.1, start=0.9, undo_steps=goes_back)
    drive(pruning, model, [0.9, 0.1, 0.9, 0.1], monitor="m")
    assert [done.kept for done in pruning.rounds] == [True, False, True, False]
    assert int(model.optimizer.iterations) == (4 if goes_back else 8)
    moments = [np.abs(keras.ops.convert_to_numpy(m)).max() for m in model.optimizer._momentums]
    assert np.allclose(moments, 0.02)  # of two good epochs, whatever is counted


def test_a_fit_counts_steps_on():
    model = dense_model(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))
    model.fit(SAMPLES, LABELS, batch_size=12, verbose=0)
    pruning = judging(monitor="val_loss", max_drop=0.0, start=-1.0, undo_steps=False)
    fit(model, pruning, epochs=3)
    assert len(pruning.rounds) and not any(done.kept for done in pruning.rounds)
    assert int(model.optimizer.iterations) == 8 and neurons(model) == 24


def test_arguments_and_a_judge_are_one_and_the_same():
    models = [dense_model() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    ways = [
        callback(target=None, monitor="m", mode="min", max_drop=0.1, floor=0.8, baseline=0.5),
        callback(target=None, judge=Judge("m", "min", floor=0.8, max_drop=0.1, start=0.5)),
    ]
    for model, pruning in zip(models, ways, strict=True):
        drive(pruning, model, [0.55, 0.7, 0.5], monitor="m")
    first, second = ([(r.kept, r.after) for r in pruning.rounds] for pruning in ways)
    assert first == second and [kept for kept, _ in first] == [True, False, True]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"judge": Judge(max_drop=0.1), "max_drop": 0.1}, "twice. Received: max_drop=0.1 beside"),
        ({"judge": Judge(), "monitor": "loss"}, "Received: monitor='loss' beside"),
        ({"judge": Judge(), "mode": "max"}, "Received: mode='max' beside"),
        ({"judge": Judge(), "floor": 0.0}, "Received: floor=0.0 beside"),
        ({"judge": Judge(), "baseline": 0.9}, "Received: baseline=0.9 .*as start="),
        (
            {"judge": "best"},
            "`judge` must be a prune_keras.callbacks.Judge. Received: judge='best'",
        ),
        ({"judge": Judge(), "target": None}, "where to stop"),
        ({"judge": Judge(floor="90%")}, "Received: floor='90%'"),
        ({"judge": Judge(floor=float("inf"))}, "Received: floor=inf"),
        ({"judge": Judge(floor=True)}, "Received: floor=True"),
        ({"target": {"latency_ms": True}}, "Received: .*=True"),
        ({"judge": Judge(start=float("nan"))}, "Received: start=nan"),
    ],
)
def test_what_is_said_twice_or_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        callback(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "up"}, "Received: mode='up'"),
        ({"monitor": None}, "Received: monitor=None"),
        ({"against": "last", "max_drop": 0.1}, "Received: against='last'"),
        ({"against": "best", "floor": 0.1}, "against='best', max_drop=None"),
        ({"max_drop": -1}, "Received: max_drop=-1"),
        ({"max_drop": "1%"}, "Received: max_drop='1%'"),
        ({"start_from_epoch": -1}, "Received: start_from_epoch=-1"),
        ({"start_from_epoch": 2.5}, "Received: start_from_epoch=2.5"),
        ({"undo_steps": "no"}, "`undo_steps` must be True or False. Received: undo_steps='no'"),
        ({"max_drop": True}, "Received: max_drop=True"),
    ],
)
def test_a_judge_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Judge(**arguments)


def test_a_start_below_the_floor_after_training_is_named():
    model = dense_model()
    pruning = judging(monitor="m", mode="max", floor=0.9, start_from_epoch=2)
    begin(pruning, model, 3)
    pruning.on_epoch_begin(0)
    pruning.on_epoch_end(0, {"m": 0.1})
    pruning.on_epoch_begin(1)
    with pytest.raises(ValueError, match="hold the floor before pruning. Received: m=0.2"):
        pruning.on_epoch_end(1, {"m": 0.2})
    assert neurons(model) == 24
