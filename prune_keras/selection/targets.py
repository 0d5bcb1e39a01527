"""Targets: how much may remain, as shares or amounts, and whether that is met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prune_keras.accounting import METRICS, Cost
from prune_keras.rounding import at_most
from prune_keras.validation import check_number, check_share, is_number, plain

NAMES = {"flops": "FLOPs", "activation_bytes": "activation memory"}


MEASURED = "latency_ms"


@dataclass(frozen=True)
class Target:
    """What may remain of a model at most.

    Args:
        asked: metric -> a share below 1, or an amount above 1; empty for no target.
        whole: what shares are of.
        of_original: whether that is not the model's own cost. Defaults to False.

    Example:

    >>> target = Target({"params": 0.5, "flops": 300}, Cost(100, 1000, 8))
    >>> target.budget, target.shares
    ({'params': 50.0, 'flops': 300}, {'params': 0.5, 'flops': 0.3})
    """

    asked: Mapping[str, float]
    whole: Cost
    of_original: bool = False

    @property
    def budget(self) -> dict[str, float]:
        """Metric -> the most that may remain."""
        return {
            metric: most * getattr(self.whole, metric) if most < 1 else most
            for metric, most in self.asked.items()
        }

    @property
    def shares(self) -> dict[str, float]:
        """Metric -> the share of the whole that may remain."""
        return {metric: most / getattr(self.whole, metric) for metric, most in self.budget.items()}

    def is_met_by(self, cost: Cost) -> bool:
        return meets(cost, self.budget)

    def met_by(self, cost: Cost) -> list[str]:
        """Return the metrics of which a cost has no more than may remain."""
        return [metric for metric, most in self.budget.items() if meets(cost, {metric: most})]

    def told(self, cost: Cost) -> dict[str, float]:
        """Return what a cost has of each metric, as a share or an amount, as it was asked for."""
        shares = cost.share_of(self.whole)
        return {
            metric: float(f"{shares[metric]:.3g}") if most < 1 else getattr(cost, metric)
            for metric, most in self.asked.items()
        }

    def __str__(self) -> str:
        asked = {m: float(f"{most:.3g}") if most < 1 else most for m, most in self.asked.items()}
        if all(most >= 1 for most in asked.values()):
            return f"{asked}"
        return f"{asked} of what the {'original has' if self.of_original else 'model has now'}"


_BY_SIZES = ("flops", "activation_bytes")  # which open sizes leave unknown


def target_of(asked: Mapping[str, float] | None, of: Cost | None, cost: Cost) -> Target:
    """Return the target for a model of this cost.

    Args:
        asked: metric -> share or amount; None for no target.
        of: the cost that shares are of. None for the model's own.
        cost: the model's cost.

    Raises:
        ValueError: if a metric is not known.
    """
    for metric in asked or {}:
        unknown = [each for each in (cost, of or cost) if getattr(each, metric) is None]
        if unknown and metric not in _BY_SIZES:
            raise ValueError(
                f"`of` must know {NAMES.get(metric, metric)} that a target is on. Received: "
                f"target={dict(asked or {})}, of={of}. Pass prune_keras.cost(original)."
            )
        if unknown:
            raise ValueError(
                f"A target on {NAMES.get(metric, metric)} needs known spatial sizes. Received: "
                f"target={dict(asked or {})}, while the model leaves them open. "
                "Pass input_shape, e.g. input_shape=(224, 224, 3), to `of` as well; where rounds "
                "are cut in fit, build the model with known sizes."
            )
        if metric != "neurons" and not getattr(of or cost, metric):
            raise ValueError(
                f"A target on {NAMES.get(metric, metric)} needs a model that has some. Received: "
                f"target={dict(asked or {})}, for a model of {of or cost}. Choose another metric."
            )
    return Target({m: plain(most) for m, most in (asked or {}).items()}, of or cost, of is not None)


def meets(cost: Cost, budget: Mapping[str, float]) -> bool:
    """Tell whether a cost is within a budget, metric by metric, but for rounding errors."""
    # An amount is exact, however large: what is counted in whole numbers is never one over it.
    left = {metric: getattr(cost, metric) for metric in budget}
    return all(at_most(left[m], most) and left[m] < most + 0.5 for m, most in budget.items())


def check_unmet(target: Target, cost: Cost) -> None:
    """Raise a ValueError if a model of this cost meets the target before anything is cut."""
    if target.asked and target.is_met_by(cost):
        raise ValueError(
            f"The target must be less than the model has. Received: target={target}, while the "
            f"model is at {target.told(cost)}. Ask for less."
        )


def check_reached(target: Target, left: Cost) -> None:
    """Raise a ValueError if what a plan leaves does not meet the target."""
    if not target.is_met_by(left):
        raise ValueError(
            f"The target must be reachable in the order of the scores. Received: target={target}, "
            f"while the limits leave {target.told(left)} where neurons of coupled layers "
            "go in that order. Loosen a limit, or give coupled layers the same round_to."
        )


def split_target(target: Any) -> tuple[Any, float | None]:
    """Return the metrics of a target, None if there are none, and its latency in milliseconds.

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


def check_request(
    target: Mapping[str, float] | None, fraction: float | None, of: Cost | None = None
) -> None:
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
                f"`target` must map some of {METRICS} to what may remain. "
                f'Received: target={target!r}. Write target={{"params": 0.5}}.'
            )
        for metric, most in target.items():
            _check_most(metric, most)
    if fraction is not None:
        check_share("fraction", fraction)
    if of is not None and not isinstance(of, Cost):
        raise ValueError(
            f"`of` must be the cost that shares of the target are of. Received: of={of!r}. "
            "Pass of=prune_keras.cost(original), or of=report.before."
        )


def _check_most(metric: str, most: Any) -> None:
    if not is_number(most) or not (0 < most < 1 or (most > 1 and most % 1 == 0)):
        raise ValueError(
            f"`target[{metric!r}]` must be a share in (0, 1), or a whole number above 1 for an "
            f"amount. Received: target[{metric!r}]={most!r}. "
            "Write 0.5 for one half, 120_000 for so many."
        )


def missed(target: Target, after: Cost, why: str) -> tuple[str, ...]:
    """Return a note that a target was not reached: what remains, what was asked for, and why."""
    over = {m: most for m, most in target.asked.items() if not meets(after, {m: target.budget[m]})}
    if not over:
        return ()
    left = after.share_of(target.whole)
    parts = [
        f"{left[m]:.2%} of the {m} remain, not {most:.2%}"
        if most < 1
        else f"{getattr(after, m):,} {m} remain, not {most:,.0f}"
        for m, most in over.items()
    ]
    return (f"the target is not reached: {', '.join(parts)}: {why}",)
