"""Arithmetic on channel labels: integers that say which channels must go together.

A label tensor stands for a real tensor while a model is traced. `ids` has the real tensor's rank
without the batch; along an axis where all entries are the same channel it has size 1. Two ids
that were united are one channel from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


class Partition:
    """A union-find over integers that records pairs first and resolves them all at once.

    Example:

    >>> partition = Partition()
    >>> a, b = partition.new(3), partition.new(3)
    >>> partition.unite(a, b)
    >>> partition.roots()
    array([0, 1, 2, 0, 1, 2])
    """

    def __init__(self) -> None:
        self.size = 0
        self._pairs: list[np.ndarray] = []

    def new(self, count: int) -> np.ndarray:
        """Return `count` fresh ids."""
        self.size += count
        return np.arange(self.size - count, self.size)

    def unite(self, first: np.ndarray, second: np.ndarray) -> None:
        """Make the ids of two arrays, broadcast against each other, the same pair by pair."""
        pair = np.stack(np.broadcast_arrays(first, second)).reshape(2, -1)
        self._pairs.append(pair[:, pair[0] != pair[1]])

    def roots(self) -> np.ndarray:
        """Return the smallest id that each id is united with, `(size,)`."""
        parent = np.arange(self.size)
        pairs = np.concatenate([np.zeros((2, 0), int), *self._pairs], axis=1)
        while True:
            first, second = parent[pairs[0]], parent[pairs[1]]
            differ = first != second
            if not differ.any():
                return parent
            first, second = first[differ], second[differ]
            np.minimum.at(parent, np.maximum(first, second), np.minimum(first, second))
            while (parent[parent] != parent).any():
                parent = parent[parent]


@dataclass(frozen=True)
class Labels:
    """The channel ids of one tensor.

    Args:
        ids: integer array; each axis has the tensor's size or 1.
        shape: the tensor's shape without the batch; `None` where unknown.
        rows: how many entries along the batch belong to one sample: more than one where positions
            were joined with the batch, as windows of a picture are; `None` where unknown.
        batch: the axis of the tensor along which the batch lies.
    """

    ids: np.ndarray
    shape: tuple[int | None, ...]
    rows: int | None = 1
    batch: int = 0

    @property
    def rank(self) -> int:
        return len(self.shape)

    def positions(self, axis: int) -> int | None:
        """Return the number of positions along all other axes, `None` where unknown."""
        axis %= self.rank
        return product(size for i, size in enumerate(self.shape) if i != axis)

    def full(self) -> np.ndarray | None:
        """Return the ids at the tensor's full shape, `None` where that is unknown."""
        return None if None in self.shape else np.broadcast_to(self.ids, self.shape)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Place:
    """Where channels lie in a tensor.

    Args:
        size: how many there are.
        axis: the axis along which they lie, counted without the batch.
        rank: the tensor's rank without the batch.
        dtype: the tensor's dtype.
    """

    size: int
    axis: int
    rank: int
    dtype: str


def product(sizes: Iterable[int | None]) -> int | None:
    """Return the product of sizes, `None` if one of them is unknown."""
    total = 1
    for size in sizes:
        if size is None:
            return None
        total *= size
    return total


def varies(ids: np.ndarray, axis: int) -> bool:
    """Tell whether ids differ along an axis."""
    return ids.shape[axis] > 1 and bool((ids != ids.take([0], axis)).any())


def varying_axes(ids: np.ndarray) -> list[int]:
    return [axis for axis in range(ids.ndim) if varies(ids, axis)]


def compress(ids: np.ndarray) -> np.ndarray:
    """Drop to size 1 every axis along which all ids are the same."""
    for axis in range(ids.ndim):
        if ids.shape[axis] > 1 and not varies(ids, axis):
            ids = ids.take([0], axis)
    return ids


def vector(ids: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """Lay a vector of ids along one axis of a tensor of the given rank."""
    shape = [1] * rank
    shape[axis % rank] = -1
    return np.reshape(ids, shape)


def count(mask: np.ndarray) -> int:
    """Return how many entries are kept."""
    return int(mask.sum())


def kept_sizes(mask: np.ndarray, shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Return a tensor's shape once only the entries where `mask` is true are left.

    Args:
        mask: booleans, shaped as the tensor's `Labels.ids`; a product of one mask an axis.
        shape: the tensor's shape without the batch.
    """
    sizes = list(shape)
    for axis in range(mask.ndim):
        if mask.shape[axis] > 1:
            others = tuple(i for i in range(mask.ndim) if i != axis)
            sizes[axis] = int(mask.any(axis=others).sum())
    return tuple(sizes)
