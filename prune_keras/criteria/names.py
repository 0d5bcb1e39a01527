"""The table of criteria by name, and criteria made of others, which get their parts from it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prune_keras.criteria.activations import activation_std, apoz, mean_activation
from prune_keras.criteria.criterion import (
    Criterion,
    at_round,
    loses,
    needs_loss,
    needs_samples,
    needs_targets,
)
from prune_keras.criteria.discrimination import Discrimination
from prune_keras.criteria.gradients import sensitivity, taylor, taylor_weights
from prune_keras.criteria.obs import OptimalBrainSurgeon
from prune_keras.criteria.oracle import Oracle
from prune_keras.criteria.reconstruction import Reconstruction
from prune_keras.criteria.weights import (
    BatchNormScale,
    Random,
    geometric_median,
    l1,
    l2,
    measured,
)
from prune_keras.samples.subject import Subject
from prune_keras.validation import check_count, named

CRITERIA: dict[str, Any] = {
    criterion.__name__: criterion
    for criterion in (
        *(l1, l2, BatchNormScale(), geometric_median, Random()),
        *(apoz, mean_activation, activation_std, Reconstruction()),
        *(taylor, taylor_weights, sensitivity, Discrimination(), OptimalBrainSurgeon(), Oracle()),
    )
}


def get(identifier: Any) -> Any:
    """Return a criterion by name, or one as it is.

    Args:
        identifier: one of `{"l1", "l2", "bn_scale", "geometric_median", "random", "apoz",
            "mean_activation", "activation_std", "reconstruction", "taylor", "taylor_weights",
            "sensitivity", "discrimination", "obs", "oracle"}`, several of them as in
            `"mean(taylor, l2)"`, a function from a kernel `(inputs, units)` to scores `(units,)`, a
            record such as `Activations`, `Mean` or `Switch`, or a config from `serialize`.

    Raises:
        ValueError: if the name is unknown.

    Example:

    >>> get("mean(taylor, l2)") == Mean(["taylor", "l2"])
    True
    """
    several = re.fullmatch(r"mean\((.+)\)", identifier) if isinstance(identifier, str) else None
    if several:
        return Mean([name.strip() for name in several[1].split(",")])
    if isinstance(identifier, dict):
        return _from_config(identifier)
    if callable(identifier) or isinstance(identifier, Criterion):
        return identifier
    return named("criterion", identifier, CRITERIA, "a function of a kernel")


def serialize(criterion: Any) -> dict[str, Any]:
    """Return a config from which `get` makes the same criterion.

    Raises:
        ValueError: if the criterion, or a part of it, is not one of prune_keras' own.

    Example:

    >>> serialize(Switch("taylor", "l2", after=3))
    {'name': 'switch', 'first': {'name': 'taylor'}, 'then': {'name': 'l2'}, 'after': 3}
    """
    own, kinds = getattr(criterion, "__name__", ""), {kind: n for n, kind in MIXTURES.items()}
    arguments = {name: getattr(criterion, name) for name in getattr(criterion, "arguments", ())}
    known = CRITERIA.get(own)
    if type(criterion) in kinds:
        own = kinds[type(criterion)]
    elif known is None or (replace(known, **arguments) if arguments else known) != criterion:
        raise ValueError(
            f"Only criteria of prune_keras can be stored by name. Received: {criterion!r}. "
            "Keep a criterion of your own in code."
        )
    return {"name": own} | {name: _serialized(value) for name, value in arguments.items()}


def _serialized(value: Any) -> Any:
    if isinstance(value, tuple):
        return [serialize(each) for each in value]
    return value if value is None or isinstance(value, int | float) else serialize(value)


def _from_config(config: dict[str, Any]) -> Any:
    arguments = dict(config)
    name = arguments.pop("name", "")
    if name in MIXTURES:
        return MIXTURES[name](**arguments)
    found = get(name)
    return replace(found, **arguments) if arguments else found


class _Mixture(Criterion):
    """A criterion that needs what its parts need."""

    @property
    def parts(self) -> Sequence[Any]:
        raise NotImplementedError

    @property
    def needs_samples(self) -> bool:
        return any(map(needs_samples, self.parts))

    @property
    def needs_loss(self) -> bool:
        return any(map(needs_loss, self.parts))

    @property
    def needs_targets(self) -> bool:
        return any(map(needs_targets, self.parts))


@dataclass(frozen=True)
class Mean(_Mixture):
    r"""Mean of several criteria, each divided by its layer's mean.

    `s_j = mean_c s_cj / mean_i |s_ci|` over the criteria `c` and the units `i` of the layer.

    Args:
        criteria: names, or what else `get` takes.

    Example:

    >>> Mean(["taylor", "l2"]).__name__
    'mean(taylor, l2)'
    """

    criteria: Sequence[Any]
    arguments = ("criteria",)

    def __post_init__(self) -> None:
        if isinstance(self.criteria, str) or not self.criteria:
            raise ValueError(
                "`criteria` must be a list of at least one criterion. "
                f"Received: criteria={self.criteria!r}."
            )
        object.__setattr__(self, "criteria", tuple(get(each) for each in self.criteria))

    @property
    def __name__(self) -> str:
        return f"mean({', '.join(each.__name__ for each in self.criteria)})"

    @property
    def parts(self) -> Sequence[Any]:
        return self.criteria

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        found = [measured(each, subject) for each in self.criteria]
        return {p: np.mean([_by_mean(each[p]) for each in found], axis=0) for p in found[0]}

    def at(self, round: int) -> Any:
        return Mean([at_round(each, round) for each in self.criteria])


def _by_mean(scores: np.ndarray) -> np.ndarray:
    mean = np.abs(scores).mean()
    return scores / mean if mean > 0 else scores


@dataclass(frozen=True)
class Switch(_Mixture):
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
    arguments = ("first", "then", "after")

    def __post_init__(self) -> None:
        check_count("after", self.after)
        for name in ("first", "then"):
            object.__setattr__(self, name, get(getattr(self, name)))

    @property
    def __name__(self) -> str:
        return f"{self.first.__name__}, after {self.after} rounds {self.then.__name__}"

    @property
    def parts(self) -> Sequence[Any]:
        return self.first, self.then

    @property
    def loses(self) -> str | None:
        return loses(self.first) if loses(self.first) == loses(self.then) else None

    def at(self, round: int) -> Any:
        """Return the criterion of a round, counted from 0."""
        return at_round(self.first if round < self.after else self.then, round)


MIXTURES: dict[str, Any] = {"mean": Mean, "switch": Switch}
