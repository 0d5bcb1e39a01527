"""Arguments of `ProgressivePruning`: each in its range, and none that another one rules out."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from prune_keras.rounds.fine_tuning import FineTuning
from prune_keras.rounds.judge import Judge
from prune_keras.schedules import remaining
from prune_keras.selection.targets import check_request, split_target
from prune_keras.validation import check_count, check_number, check_seed, check_share

FRACTION = 0.1
_JUDGED = {
    "monitor": "monitor",
    "mode": "mode",
    "floor": "floor",
    "max_drop": "max_drop",
    "baseline": "start",
}


def judge_of(given: Any) -> Judge:
    """Return how a `ProgressivePruning` is to judge: its `judge`, or the arguments for most cases.

    Raises:
        ValueError: if both are given, or one is out of range.
    """
    defaults = {field.name: field.default for field in fields(given)}
    alone = {name: getattr(given, name) for name in _JUDGED}
    for name in ("max_drop", "floor", "baseline"):
        check_number(name, alone[name])
    if given.judge is None:
        return Judge(**{_JUDGED[name]: value for name, value in alone.items()})
    if not isinstance(given.judge, Judge):
        raise ValueError(
            "`judge` must be a prune_keras.callbacks.Judge. "
            f"Received: judge={given.judge!r}. Write judge=Judge(max_drop=0.01)."
        )
    for name, value in alone.items():
        if value != defaults[name]:
            raise ValueError(
                f"What `judge` says must not be said twice. Received: {name}={value!r} beside "
                f"judge={given.judge!r}. Pass it to Judge, as {_JUDGED[name]}=."
            )
    for name in ("floor", "start", "best"):
        check_number(name, getattr(given.judge, name))
    return given.judge


def check_arguments(given: Any, judge: Judge) -> None:
    """Raise a ValueError unless the arguments of a `ProgressivePruning` make sense."""
    shares, most = split_target(given.target)
    check_request(shares, given.fraction, given.of)
    check_share("fraction", given.fraction)
    check_share("min_fraction", given.min_fraction)
    if shares is None and most is None and not judge.judges:
        raise ValueError(
            "Pruning must know where to stop. Received: target=None, max_drop=None, "
            'floor=None. Give target={"flops": 0.5}, max_drop=0.01, or both.'
        )
    for name in ("epochs_per_round", "latency_batch_size", "steps_per_cut"):
        check_count(name, getattr(given, name))
    check_seed(given.seed)
    for name in ("recalibration_steps", "data_batch_size"):
        if getattr(given, name) is not None:
            check_count(name, getattr(given, name))
    if not isinstance(given.fine_tuning, FineTuning | None):
        raise ValueError(
            "`fine_tuning` must be a prune_keras.callbacks.FineTuning. Received: "
            f"fine_tuning={given.fine_tuning!r}. Write fine_tuning=FineTuning(rewind='fit')."
        )
    _check_schedule(given, shares)
    if given.max_epochs_per_round is not None:
        _check_most(given.max_epochs_per_round, given.epochs_per_round)
    if given.batches_per_round is not None:
        _check_batches(given)


def check_batches(every: int | None, steps: int | None) -> None:
    """Raise a ValueError if a round would be longer than an epoch of so many batches."""
    if every is not None and steps is not None and every > steps:
        raise ValueError(
            "`batches_per_round` must fit into an epoch. Received: "
            f"batches_per_round={every}, while an epoch has {steps} batches. "
            "Use epochs_per_round, whose rounds are whole epochs."
        )


def _check_schedule(given: Any, shares: Any) -> None:
    if given.schedule is None:
        return
    if not callable(given.schedule):
        raise ValueError(
            "`schedule` must be a function of a round and a target share. Received: "
            f"schedule={given.schedule!r}. Take one of prune_keras.schedules."
        )
    remaining(given.schedule, 1, 0.5)
    if shares is None:
        raise ValueError(
            "A schedule needs a target of shares to lead to. Received: "
            f"schedule={given.schedule!r}, target={given.target!r}. "
            'Give target={"flops": 0.5}, or fraction= instead of the schedule.'
        )
    if given.fraction != FRACTION:
        raise ValueError(
            "Rounds go by a schedule or by a fraction. Received: "
            f"schedule={given.schedule!r}, fraction={given.fraction}. Leave one of them out."
        )


def _check_most(most: int, least: int) -> None:
    check_count("max_epochs_per_round", most)
    if most < least:
        raise ValueError(
            "`max_epochs_per_round` must be at least epochs_per_round. Received: "
            f"max_epochs_per_round={most}, epochs_per_round={least}."
        )


def _check_batches(given: Any) -> None:
    check_count("batches_per_round", given.batches_per_round)
    if given.epochs_per_round != 1 or given.max_epochs_per_round is not None:
        raise ValueError(
            "Rounds are counted in batches or in epochs. Received: "
            f"batches_per_round={given.batches_per_round}, "
            f"epochs_per_round={given.epochs_per_round}, "
            f"max_epochs_per_round={given.max_epochs_per_round}. Leave one of them out."
        )
