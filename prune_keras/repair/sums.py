"""Sums over rows of numbers, from which everything about least squares is decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sums:
    """Sums over rows of numbers, of which there are several groups side by side.

    Args:
        count: number of rows.
        mean: `(groups, numbers)`.
        scatter: sum of products about the mean, `(groups, numbers, numbers)`.

    Example:

    >>> one, other = Sums.of(np.array([[[1.0], [3.0]]])), Sums.of(np.array([[[8.0]]]))
    >>> both = one + other
    >>> both.count, both.mean.item(), both.scatter.item()
    (3, 4.0, 26.0)
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> Sums:
        """Return the sums of `(groups, rows, numbers)`."""
        mean = rows.mean(axis=1)
        apart = rows - mean[:, None]
        return cls(rows.shape[1], mean, np.matmul(apart.transpose(0, 2, 1), apart))

    def __add__(self, other: Sums) -> Sums:
        count = self.count + other.count
        apart, share = other.mean - self.mean, other.count / count
        between = (self.count * share) * apart[:, :, None] * apart[:, None]
        scatter = self.scatter + other.scatter + between
        return Sums(count, self.mean + share * apart, scatter)

    def toward(self, rows: np.ndarray, missed: np.ndarray) -> Sums:
        """Return the sums of the same rows, `(groups, rows, read)`, that miss something else."""
        read, mean = rows.shape[2], missed.mean(axis=1, dtype="float64")
        apart = (missed - mean[:, None]).astype(rows.dtype)
        centred = rows - self.mean[:, None, :read].astype(rows.dtype)
        across = np.matmul(centred.transpose(0, 2, 1), apart).astype("float64")
        own = np.zeros((len(across), across.shape[2], across.shape[2]))
        inner = self.scatter[:, :read, :read]
        scatter = np.block([[inner, across], [across.transpose(0, 2, 1), own]])
        return Sums(self.count, np.concatenate([self.mean[:, :read], mean], axis=1), scatter)

    def second(self, centred: bool) -> np.ndarray:
        """Return second moments about the mean, or about zero."""
        about = self.scatter / self.count
        return about if centred else about + self.mean[:, :, None] * self.mean[:, None]
