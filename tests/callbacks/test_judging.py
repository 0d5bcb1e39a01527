"""Judging: bounds, directions, and what is refused."""

import math

import keras
import pytest

from prune_keras.rounds.judge import Judge


def test_without_bound_everything_is_accepted():
    judge = Judge("val_accuracy", "max", start=0.9)
    assert not judge.judges and not judge.waits and judge.bound is None
    assert judge.accepts(0.0) and judge.accepts(None) and judge.accepts(math.nan)


@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    ("floor", "max_drop", "expected"),
    [(0.5, None, 0.5), (None, 0.25, 0.75), (0.5, 0.25, 0.75), (0.875, 0.25, 0.875)],
)
def test_the_stricter_bound_holds(mode, floor, max_drop, expected):
    sign = 1 if mode == "max" else -1
    floor = None if floor is None else sign * floor
    judge = Judge("m", mode, floor, max_drop, start=sign * 1.0)
    assert judge.bound == sign * expected
    assert judge.accepts(sign * expected)
    assert not judge.accepts(sign * (expected - 1e-6))


def test_a_bound_refuses_what_is_no_number():
    judge = Judge("m", "max", floor=-math.inf)
    assert not any(judge.accepts(value) for value in (None, math.nan, math.inf, -math.inf))


def test_a_judge_waits_for_the_start():
    judge = Judge("m", "max", max_drop=0.1)
    assert judge.judges and judge.waits and judge.bound is None
    assert not judge.started(0.5).waits
    assert judge.started(0.5).bound == pytest.approx(0.4)
    assert judge.start is None


def test_the_metric_is_read_as_a_number():
    judge = Judge("m", "max", floor=0.0)
    assert judge.read({"m": 1}) == 1.0
    assert judge.read({"m": keras.ops.convert_to_tensor(0.5)}) == 0.5
    with pytest.raises(ValueError, match="must be one number"):
        judge.read({"m": keras.ops.ones(2)})


def test_a_metric_that_nobody_judges_may_be_missing():
    assert Judge("m", "max").read({}) is None
    assert Judge("m", "max").read(None) is None


def test_a_metric_that_is_judged_must_be_in_the_logs():
    with pytest.raises(ValueError, match=r"monitor='m', while the logs hold \['a', 'b'\]"):
        Judge("m", "max", floor=0.0).read({"b": 1, "a": 2})
