"""What rules report during one trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prune_keras.tracing.labels import Labels

Product = tuple[list[np.ndarray], int | None]
"""Ids along axes of tensors that are multiplied with each other, and how often they are."""

Bound = tuple[np.ndarray, int]
"""Ids that lie along an axis of a weight, and how many of them must be left."""


@dataclass(frozen=True)
class Fixing:
    """Ids that must stay, and why."""

    ids: np.ndarray
    reason: str


@dataclass(frozen=True)
class MadeUnits:
    """Units that a layer makes, and the calls in which it does."""

    path: str
    layer: Any
    ids: np.ndarray
    kernel: Any
    axis: int
    calls: list[tuple[Any, int]]


@dataclass
class UsedWeight:
    """A variable with channels along its axes; `times` grows with every call."""

    path: str
    variable: Any
    axes: dict[int, np.ndarray]
    reads: tuple[int, ...]
    times: int | None
    scale: tuple[np.ndarray, Callable[[np.ndarray], float]] | None


@dataclass(frozen=True)
class Refusal:
    """An operation that is not looked into, and why."""

    path: str
    operation: Any
    reason: str
    has_rule: bool


@dataclass(frozen=True)
class Reach:
    """All objects, by their id, that code of an operation may use."""

    path: str
    reason: str
    objects: dict[int, Any]


@dataclass
class Record:
    """Everything that rules reported during one trace."""

    fixings: list[Fixing] = field(default_factory=list)
    notes: list[Fixing] = field(default_factory=list)
    made: dict[tuple[int, str, int], MadeUnits] = field(default_factory=dict)
    used: dict[int, UsedWeight] = field(default_factory=dict)
    products: list[Product] = field(default_factory=list)
    settings: dict[tuple[int, str], tuple] = field(default_factory=dict)
    rectangles: list[np.ndarray] = field(default_factory=list)
    least: list[Bound] = field(default_factory=list)
    tensors: dict[int, tuple[Any, Labels]] = field(default_factory=dict)
    results: list[tuple[Labels, str]] = field(default_factory=list)
    regularized: list[tuple[str, Any, Labels]] = field(default_factory=list)
    pointwise: set[int] = field(default_factory=set)
    refusals: dict[str, Refusal] = field(default_factory=dict)
    reaches: list[Reach] = field(default_factory=list)
    activations: dict[tuple, tuple[Any, str | None]] = field(default_factory=dict)
    recompute_shapes: bool = False
