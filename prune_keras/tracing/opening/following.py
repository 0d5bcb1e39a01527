"""Following: attributes of a layer that hold widths, as functions of what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.tracing.labels import kept_sizes
from prune_keras.tracing.opening.probing import Thin
from prune_keras.tracing.rules.constants import Constant


@dataclass(frozen=True)
class Width:
    """How long a tensor or weight is along an axis, as a function of what is kept.

    Args:
        neurons: `(...)`, those that lie in it.
        shape: its shape.
        axis: the axis.
    """

    neurons: np.ndarray
    shape: tuple
    axis: int

    @property
    def size(self) -> int:
        return self.shape[self.axis]

    def left(self, kept: np.ndarray) -> int:
        """Return the size for what is kept, booleans of the shape of `neurons`."""
        return kept_sizes(kept, self.shape)[self.axis] or 0

    def along(self, kept: np.ndarray) -> np.ndarray:
        """Return which entries along the axis are left, `(size,)` booleans."""
        others = tuple(axis for axis in range(kept.ndim) if axis != self.axis)
        return np.asarray(kept.any(axis=others))


@dataclass(frozen=True)
class Follower:
    """What an attribute becomes that holds a width: a number, or an array as long along axes.

    Args:
        widths: the width, or that along each of the axes.
        array: what the attribute holds; None for the number.
        axes: the axes of the array.
    """

    widths: tuple[Width, ...]
    array: Any = None
    axes: tuple[int, ...] = (0,)

    @property
    def neurons(self) -> np.ndarray:
        if len(self.widths) == 1:
            return self.widths[0].neurons
        return np.concatenate([width.neurons.reshape(-1) for width in self.widths])

    def value(self, kept: np.ndarray) -> Any:
        """Return it for what is kept, booleans of the shape of `neurons`."""
        if self.array is None:
            return self.widths[0].left(kept)
        ends = np.cumsum([width.neurons.size for width in self.widths])[:-1]
        value, parts = self.array, np.split(kept.reshape(-1), ends)
        for width, axis, part in zip(self.widths, self.axes, parts, strict=True):
            along = width.along(part.reshape(width.neurons.shape))
            value = Constant((), value).slicer(axis)(along)
        return value

    def at(self, thin: Thin) -> Any:
        """Return it for what is left of a graph."""
        return self.value(thin.kept[self.neurons])

    def beside(self, other: Follower) -> Follower:
        """Return one along the axes of both, of which this one has the last word."""
        if self.array is None:
            return self
        new = [
            pair for pair in zip(other.axes, other.widths, strict=True) if pair[0] not in self.axes
        ]
        axes, widths = zip(*zip(self.axes, self.widths, strict=True), *new, strict=True)
        return Follower(widths, self.array, axes)


def together(candidates: Sequence[tuple[str, Follower]]) -> dict[str, Follower]:
    """Return what all of them are at once: arrays along several axes."""
    found: dict[str, Follower] = {}
    for name, follower in candidates:
        found[name] = found[name].beside(follower) if name in found else follower
    return found
