"""Criteria made of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Mean:
    r"""Mean of several criteria, each divided by its layer's mean.

    `s_j = mean_c s_cj / mean_i |s_ci|` over the criteria `c` and the units `i` of the layer.

    Args:
        criteria: names, or what else `get` takes.

    Example:

    >>> Mean(["taylor", "l2"]).__name__
    'mean(taylor, l2)'
    """

    criteria: Sequence[Any]

    def __post_init__(self) -> None:
        from prune_keras.criteria import get

        if isinstance(self.criteria, str) or not self.criteria:
            raise ValueError(
                "`criteria` must be a list of at least one criterion. "
                f"Received: criteria={self.criteria!r}."
            )
        object.__setattr__(self, "criteria", tuple(get(each) for each in self.criteria))

    @property
    def __name__(self) -> str:
        return f"mean({', '.join(each.__name__ for each in self.criteria)})"


@dataclass(frozen=True)
class Switch:
    """One criterion for the first rounds, another one after that.

    Args:
        first: name or criterion of the first rounds.
        then: name or criterion of all others.
        after: number of rounds with `first`, at least 1.

    Example:

    >>> switch = Switch("taylor", "l2", after=3)
    >>> switch.at(2).__name__, switch.at(3).__name__
    ('taylor', 'l2')
    """

    first: Any
    then: Any
    after: int

    def __post_init__(self) -> None:
        from prune_keras.criteria import get
        from prune_keras.validation import check_count

        check_count("after", self.after)
        for name in ("first", "then"):
            object.__setattr__(self, name, get(getattr(self, name)))

    @property
    def __name__(self) -> str:
        return f"{self.first.__name__}, after {self.after} rounds {self.then.__name__}"

    def at(self, round: int) -> Any:
        """Return the criterion of a round, counted from 0."""
        return self.first if round < self.after else self.then
