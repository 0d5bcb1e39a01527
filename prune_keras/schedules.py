r"""Schedules: how much may remain after each round on the way to a target.

A schedule is a function of the number of a round, 1 for the first, and of the target share `s` of a
metric; it returns the share that may remain after that round. It holds no counter, falls from round
to round, and ends at the target. Any callable of two arguments works.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prune_keras.rounding import at_most
from prune_keras.validation import check_count, check_share, is_number

Schedule = Callable[[int, float], float]
MOST_ROUNDS = 10_000


@dataclass(frozen=True)
class Constant:
    r"""Take the same fraction `f` of what is still there: `max(s, (1 - f)^t)` after round `t`.

    Args:
        fraction: share of what is still there, in (0, 1). Defaults to 0.1.

    Example:

    >>> [round(Constant(0.2)(t, 0.5), 3) for t in (1, 2, 3, 4)]
    [0.8, 0.64, 0.512, 0.5]
    """

    fraction: float = 0.1

    def __post_init__(self) -> None:
        check_share("fraction", self.fraction)

    def __call__(self, round: int, target: float) -> float:
        return max(target, (1 - self.fraction) ** round)


@dataclass(frozen=True)
class Geometric:
    r"""Reach the target in `n` rounds that take the same fraction: `s^(t / n)` after round `t`.

    Args:
        rounds: how many there are.

    Example:

    >>> [round(Geometric(2)(t, 0.25), 3) for t in (1, 2, 3)]
    [0.5, 0.25, 0.25]
    """

    rounds: int

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds)

    def __call__(self, round: int, target: float) -> float:
        return target ** (min(round, self.rounds) / self.rounds)


@dataclass(frozen=True)
class Cubic:
    r"""Take much at first and ever less: `s + (1 - s) (1 - t / n)^3` after round `t` of `n`.

    Args:
        rounds: how many there are.

    Example:

    >>> [round(Cubic(4)(t, 0.5), 3) for t in (1, 2, 3, 4, 5)]
    [0.711, 0.562, 0.508, 0.5, 0.5]

    Reference:

    - Zhu and Gupta, 2017, To prune, or not to prune, https://arxiv.org/abs/1710.01878
    """

    rounds: int

    def __post_init__(self) -> None:
        check_count("rounds", self.rounds)

    def __call__(self, round: int, target: float) -> float:
        left = 1 - min(round, self.rounds) / self.rounds
        return target + (1 - target) * left**3


@dataclass(frozen=True)
class OneShot:
    r"""Reach the target in the first round.

    Example:

    >>> OneShot()(1, 0.3)
    0.3
    """

    def __call__(self, round: int, target: float) -> float:
        return target if round > 0 else 1.0


BY_NAME: dict[str, Any] = {
    "constant": Constant,
    "geometric": Geometric,
    "cubic": Cubic,
    "one-shot": OneShot,
}


def get(identifier: Any) -> Schedule:
    """Return a schedule of a config, or one as it is.

    Args:
        identifier: a schedule, its name, one of `{"constant", "geometric", "cubic", "one-shot"}`,
            or its name and its arguments in a dictionary.

    Raises:
        ValueError: if the name is unknown, or the arguments are not those of the schedule.

    Example:

    >>> get({"name": "geometric", "rounds": 5}), get("one-shot")
    (Geometric(rounds=5), OneShot())
    """
    if callable(identifier):
        return identifier
    arguments = {"name": identifier} if isinstance(identifier, str) else dict(identifier)
    name = arguments.pop("name", None)
    if name not in BY_NAME:
        raise ValueError(
            f"A schedule must be one of {', '.join(BY_NAME)}. Received: {name!r}. "
            "Choose one of these names."
        )
    try:
        return BY_NAME[name](**arguments)
    except TypeError as error:
        raise ValueError(
            f"A schedule must be given its arguments. Received: {identifier!r} ({error}). "
            'Write {"name": "geometric", "rounds": 5}, say.'
        ) from error


def remaining(schedule: Schedule, number: int, target: float) -> float:
    """Return the share that a schedule lets remain after a round; never less than the target.

    Raises:
        ValueError: if it cannot be called with a round and a target, or returns no number.

    Example:

    >>> remaining(lambda number, target: 0.8**number, 4, 0.5)
    0.5
    """
    try:
        share = schedule(number, target)
    except TypeError as error:
        raise ValueError(
            "A schedule must be a function of a round and a target share. Received: "
            f"{schedule!r} ({error}). Write schedules.Geometric(5), say, with its arguments."
        ) from error
    if not is_number(share):
        raise ValueError(
            "A schedule must return the share that may remain. Received: "
            f"{schedule!r}, which returned {share!r} for round {number}. Return a number."
        )
    return max(target, float(share))


def due(
    schedule: Schedule, done: int, remains: Mapping[str, float], target: Mapping[str, float]
) -> int:
    """Return the next round of a schedule that takes anything.

    Args:
        schedule: the schedule.
        done: number of the last round that was done, 0 for none.
        remains: metric -> share that remains now.
        target: metric -> share that may remain at last; not reached yet.

    Raises:
        ValueError: if the schedule does not come to the target.

    Example:

    >>> due(Geometric(4), 1, {"params": 0.6}, {"params": 0.5})
    3
    """
    for number in range(done + 1, done + MOST_ROUNDS):
        for metric, share in target.items():
            left = remaining(schedule, number, share)
            if at_most(left, share) or not at_most(remains[metric], left):
                return number
    raise ValueError(
        f"A schedule must come to the target. Received: {schedule!r}, which lets "
        f"{dict(remains)} remain for ever, with target={dict(target)}. "
        "Return the target itself from some round on."
    )


__all__ = ["Constant", "Cubic", "Geometric", "OneShot", "Schedule", "due", "get", "remaining"]
