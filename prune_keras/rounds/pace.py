"""Pace: how far the next round goes, by a fraction or by a schedule, and after rounds undone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from prune_keras.rounding import at_most
from prune_keras.schedules import Schedule, due, remaining


@dataclass(frozen=True)
class Pace:
    """How far rounds go.

    Args:
        fraction: share of the neurons still there that a round removes, without a schedule.
        schedule: see `prune_keras.schedules`; None for none.
        scale: what rounds that were undone left of a step. Defaults to 1.
        number: the round of the schedule, 1 for the first. Defaults to 0.

    Example:

    >>> pace = Pace(0.1, lambda number, target: target).halved()
    >>> pace.next({"flops": 1.0}, {"flops": 0.5}).shares({"flops": 1.0}, {"flops": 0.5})
    {'flops': 0.75}
    """

    fraction: float
    schedule: Schedule | None = None
    scale: float = 1.0
    number: int = 0

    @property
    def step(self) -> float:
        """Share of the neurons still there."""
        return self.fraction * self.scale

    def halved(self) -> Pace:
        """Return half the pace."""
        return replace(self, scale=self.scale / 2)

    def next(self, remains: Mapping[str, float], target: Mapping[str, float]) -> Pace:
        """Return the pace of the next round, for shares that remain and those to come to."""
        if self.schedule is None:
            return self
        return replace(self, number=due(self.schedule, self.number, remains, target))

    def shares(self, remains: Mapping[str, float], target: Mapping[str, float]) -> dict[str, float]:
        """Return the shares that the schedule lets remain after this round."""
        if self.schedule is None:
            return dict(target)
        asked = {m: remaining(self.schedule, self.number, share) for m, share in target.items()}
        return {m: remains[m] - self.scale * (remains[m] - share) for m, share in asked.items()}

    def is_last(self, target: Mapping[str, float]) -> bool:
        """Tell whether the schedule asks for all of the target by now."""
        if self.schedule is None:
            return True
        asked = ((remaining(self.schedule, self.number, s), s) for s in target.values())
        return all(at_most(left, share) for left, share in asked)
