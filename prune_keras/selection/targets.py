"""Targets: how much may remain, as shares and as absolute budgets, and whether that is met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_keras.accounting import METRICS, Cost
from prune_keras.rounding import at_most
from prune_keras.validation import check_number, check_share

NAMES = {"flops": "FLOPs", "activation_bytes": "activation memory"}


MEASURED = "latency_ms"


def meets(cost: Cost, budget: Mapping[str, float]) -> bool:
    """Tell whether a cost is within a budget, metric by metric, but for rounding errors."""
    return all(at_most(getattr(cost, metric), most) for metric, most in budget.items())


def budget_of(target: Mapping[str, float] | None, cost: Cost) -> dict[str, float]:
    """Turn shares into absolute budgets, metric by metric."""
    budget = {}
    for metric, share in (target or {}).items():
        if getattr(cost, metric) is None:
            raise ValueError(
                f"A target on {NAMES.get(metric, metric)} needs known spatial sizes. Received: "
                f"target={dict(target or {})}, while the model leaves them open. "
                "Pass input_shape, e.g. input_shape=(224, 224, 3)."
            )
        budget[metric] = share * getattr(cost, metric)
    return budget


def split_target(target: Any) -> tuple[Any, float | None]:
    """Return the shares of a target, None if there are none, and its latency in milliseconds.

    Raises:
        ValueError: if the latency is no positive number.
    """
    if not isinstance(target, Mapping) or MEASURED not in target:
        return target, None
    most = target[MEASURED]
    check_number(f"target[{MEASURED!r}]", most)
    if most is None or most <= 0:
        raise ValueError(
            f"A target on latency is in milliseconds. Received: target[{MEASURED!r}]={most!r}. "
            f'Write target={{"{MEASURED}": 5.0}}.'
        )
    return {m: share for m, share in target.items() if m != MEASURED} or None, float(most)


def check_request(target: Mapping[str, float] | None, fraction: float | None) -> None:
    """Raise a ValueError unless at least one of target and fraction is given and in range."""
    if target is None and fraction is None:
        raise ValueError(
            "Say how much to prune. Received: target=None, fraction=None. "
            'Give target={"params": 0.5}, fraction=0.3, or both.'
        )
    if isinstance(target, Mapping) and MEASURED in target:
        raise ValueError(
            f"`{MEASURED}` is measured on thin models, between rounds. Received: target={target!r} "
            "for one choice. Use callbacks.ProgressivePruning, or a target on FLOPs."
        )
    if target is not None:
        if not isinstance(target, Mapping) or not target or not set(target) <= set(METRICS):
            raise ValueError(
                f"`target` must map some of {METRICS} to the share that may remain. "
                f'Received: target={target!r}. Write target={{"params": 0.5}}.'
            )
        for metric, share in target.items():
            check_share(f"target[{metric!r}]", share)
    if fraction is not None:
        check_share("fraction", fraction)


def missed(
    target: Mapping[str, float] | None, before: Cost, after: Cost, why: str
) -> tuple[str, ...]:
    """Return a note that a target was not reached: what remains, what was asked for, and why."""
    left = after.share_of(before)
    over = {m: share for m, share in (target or {}).items() if not at_most(left[m], share)}
    if not over:
        return ()
    parts = [f"{left[m]:.2%} of the {m} remain, not {share:.2%}" for m, share in over.items()]
    return (f"the target is not reached: {', '.join(parts)}: {why}",)
