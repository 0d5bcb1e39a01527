"""Schedules: one contract over all of them, values by hand, and what is refused."""

import pytest

from prune_keras import schedules
from prune_keras.schedules import Constant, Cubic, Geometric, OneShot

ALL = [Constant(0.1), Constant(0.5), Geometric(1), Geometric(7), Cubic(1), Cubic(5), OneShot()]


@pytest.mark.parametrize("target", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_every_schedule_falls_from_everything_to_the_target_and_stays(schedule, target):
    shares = [schedule(number, target) for number in range(60)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(target)
    assert all(target <= share + 1e-12 for share in shares)
    ahead = [share for share in shares if share > target + 1e-12]
    assert all(later < share for share, later in zip(ahead, [*ahead[1:], target], strict=True))


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_a_schedule_holds_no_state(schedule):
    assert [schedule(t, 0.3) for t in (3, 1, 3)] == [schedule(t, 0.3) for t in (3, 1, 3)]
    assert schedule == eval(repr(schedule))  # noqa: S307


@pytest.mark.parametrize("rounds", [1, 2, 9])
@pytest.mark.parametrize("kind", [Geometric, Cubic])
def test_the_target_is_reached_in_the_last_round_and_not_before(kind, rounds):
    assert kind(rounds)(rounds, 0.3) == pytest.approx(0.3)
    assert kind(rounds)(rounds - 1, 0.3) > 0.3


def test_geometric_takes_the_same_fraction_and_cubic_ever_less():
    shares = [Geometric(5)(t, 0.4) for t in range(6)]
    fractions = [1 - b / a for a, b in zip(shares[:-1], shares[1:], strict=True)]
    assert fractions == pytest.approx([fractions[0]] * 5)
    shares = [Cubic(5)(t, 0.4) for t in range(6)]
    taken = [a - b for a, b in zip(shares[:-1], shares[1:], strict=True)]
    assert taken == pytest.approx([0.6 * ((1 - t / 5) ** 3 - (0.8 - t / 5) ** 3) for t in range(5)])


def test_rounds_that_take_nothing_are_passed_over():
    target = {"params": 0.5, "flops": 0.2}
    assert schedules.due(Constant(0.1), 0, {"params": 1.0, "flops": 1.0}, target) == 1
    assert schedules.due(Constant(0.1), 1, {"params": 0.5, "flops": 0.7}, target) == 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(0), "fraction=0"),
        (lambda: Constant(1.0), "fraction=1.0"),
        (lambda: Geometric(0), "rounds=0"),
        (lambda: Cubic(2.5), "rounds=2.5"),
        (lambda: schedules.get("gradual"), "must be one of constant, .* Received: 'gradual'"),
        (lambda: schedules.get("cubic"), "must be given its arguments. Received: 'cubic'"),
        (lambda: schedules.get({"name": "one-shot", "rounds": 2}), "'one-shot'.*rounds"),
        (
            lambda: schedules.due(lambda t, s: 0.9, 0, {"params": 0.9}, {"params": 0.5}),
            r"come to the target.*remain for ever, with target=\{'params': 0.5\}",
        ),
    ],
)
def test_bad_schedules_say_what_was_received(make, message):
    with pytest.raises(ValueError, match=message):
        make()
