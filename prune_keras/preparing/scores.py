"""Norms and ranks of neurons as tensors, where they are needed inside of a compiled step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras.graph import Family, Graph
from prune_keras.samples.subject import by_units


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons of some families in a row, and what of the model's weights belongs to each.

    Args:
        graph: the model's graph.
        families: the families, of which each takes the next places of the row.
    """

    graph: Graph
    families: Sequence[Family]

    @property
    def count(self) -> int:
        return sum(family.size for family in self.families)

    @property
    def sizes(self) -> np.ndarray:
        """`(families,)`, neurons of each."""
        return np.array([family.size for family in self.families])

    @property
    def family_of(self) -> np.ndarray:
        """`(count,)`, the number of the family of each neuron."""
        return np.repeat(np.arange(len(self.families)), self.sizes)

    def places(self, neurons: np.ndarray) -> np.ndarray:
        """Return the place of each neuron, and `count` for those of other families."""
        found = np.full(self.graph.ids + 1, self.count)
        rows = [family.neurons for family in self.families]
        found[np.concatenate(rows)] = np.arange(self.count)
        return found[neurons]

    def squares(self) -> tuple[Any, np.ndarray]:
        """Return the sums of squares of the incoming weights, of all members, and their places."""
        sums, places = [], []
        for producer in self.graph.producers.values():
            place = self.places(producer.neurons)
            if (place < self.count).any():
                kernel = ops.cast(producer.kernel.value, "float32")
                rows = by_units(kernel, producer.axis, len(place))
                sums.append(ops.sum(ops.square(rows), axis=0))
                places.append(place)
        return ops.concatenate(sums), np.concatenate(places)

    def norms(self) -> Any:
        """Return `(count,)` L2 norms of incoming weights, averaged over a neuron's members."""
        squares, places = self.squares()
        members = np.bincount(places, minlength=self.count + 1)[: self.count]
        summed = self.summed(ops.sqrt(ops.stop_gradient(squares)), places)
        return summed / ops.convert_to_tensor(members.astype("float32"))

    def lengths(self) -> Any:
        """Return `(count,)` L2 norms of all incoming weights of a neuron's members together."""
        # Not quite zero at zero, where a root has no slope.
        return ops.sqrt(self.summed(*self.squares()) + 1e-12)

    def summed(self, values: Any, places: np.ndarray) -> Any:
        """Return `(count,)` sums of the values at each place."""
        found = ops.segment_sum(values, places.astype("int32"), self.count + 1)
        return found[: self.count]

    def are_lowest(self, scores: Any, share: Any) -> Any:
        """Return `(count,)` ones for the share of each family that is lowest, and zeros else.

        Args:
            scores: `(count,)`.
            share: a scalar tensor in [0, 1]; of equals, all are lowest.
        """
        widest, starts = int(self.sizes.max()), np.cumsum(self.sizes) - self.sizes
        columns = np.arange(widest)[None]
        inside = columns < self.sizes[:, None]
        rows = ops.take(scores, np.where(inside, starts[:, None] + columns, 0))
        rows = ops.sort(ops.where(inside, rows, np.inf), axis=1)
        limits = thresholds(rows, lowest(share, self.sizes.astype("float32"))[:, None], axis=1)
        return ops.cast(scores <= ops.take(limits[:, 0], self.family_of), "float32")


def lowest(share: Any, size: Any) -> Any:
    """Return how many of `size` are the lowest `share`, rounded down but for rounding."""
    count = share * ops.convert_to_tensor(size, "float32")
    return ops.cast(ops.floor(count + 1e-3), "int32")


def thresholds(ordered: Any, count: Any, axis: int) -> Any:
    """Return the largest of the `count` first entries along an axis; -1 where there are none.

    Args:
        ordered: entries of at least 0, rising along the axis.
        count: how many, with 1 entry along the axis.
        axis: the axis.
    """
    found = ops.take_along_axis(ordered, ops.maximum(count - 1, 0), axis=axis)
    return ops.where(count > 0, found, ops.full_like(found, -1.0))


def spread(values: Any, axis: int, variable: keras.Variable) -> Any:
    """Lay a row of values along an axis of a variable."""
    shape = [1] * len(variable.shape)
    shape[axis] = -1
    return ops.reshape(values, shape)
