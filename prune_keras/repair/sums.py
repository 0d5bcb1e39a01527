"""Sums over rows of what a layer reads and misses, from which least squares are decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sums:
    """Sums over rows, of which there are several groups side by side; of float64.

    Args:
        count: number of rows.
        read, missed: means of what is read and missed, `(groups, entries)` and `(groups, units)`.
        inner: sum of products of what is read, about the means, `(groups, entries, entries)`.
        toward: of what is read and what is missed, `(groups, entries, units)`.
        power: sum of squares of what is missed, about the means, `(groups, units)`.

    Example:

    >>> one = Sums.of(np.array([[[1.0], [3.0]]]), np.array([[[2.0], [6.0]]]))
    >>> both = one + Sums.of(np.array([[[8.0]]]), np.array([[[1.0]]]))
    >>> both.count, both.read.item(), both.inner.item(), both.toward.item(), both.power.item()
    (3, 4.0, 26.0, -8.0, 14.0)
    """

    count: int
    read: np.ndarray
    missed: np.ndarray
    inner: np.ndarray
    toward: np.ndarray
    power: np.ndarray

    @classmethod
    def of(cls, read: np.ndarray, missed: np.ndarray) -> Sums:
        """Return the sums of `(groups, rows, entries)` and `(groups, rows, units)`."""
        means = read.mean(axis=1, dtype="float64"), missed.mean(axis=1, dtype="float64")
        read, missed = read - means[0][:, None], missed - means[1][:, None]
        flat = read.transpose(0, 2, 1)
        products = np.matmul(flat, read), np.matmul(flat, missed)
        return cls(read.shape[1], *means, *products, np.square(missed).sum(axis=1))

    def __add__(self, other: Sums) -> Sums:
        count = self.count + other.count
        share = other.count / count
        read, missed = other.read - self.read, other.missed - self.missed
        weighed = self.count * share * read[:, :, None]
        return Sums(
            count,
            self.read + share * read,
            self.missed + share * missed,
            _total(weighed * read[:, None], self.inner, other.inner),
            _total(weighed * missed[:, None], self.toward, other.toward),
            self.power + other.power + self.count * share * np.square(missed),
        )

    def toward_other(self, read: np.ndarray, missed: np.ndarray) -> Sums:
        """Return the sums of the same rows that miss something else.

        Args:
            read: `(groups, rows, entries)`, about any mean.
            missed: `(groups, rows, units)`.
        """
        mean = missed.mean(axis=1, dtype="float64")
        apart = missed - mean[:, None].astype(missed.dtype)
        toward = np.matmul(read.transpose(0, 2, 1), apart).astype("float64")
        power = np.square(apart).sum(axis=1, dtype="float64")
        return Sums(self.count, self.read, mean, self.inner, toward, power)

    def of_units(self, most: int) -> Sums:
        """Return the sums of so many units at most, as far apart as can be."""
        some = slice(None, None, -(-self.missed.shape[1] // most))
        parts = self.read, self.missed[:, some], self.inner, self.toward[..., some]
        return Sums(self.count, *parts, self.power[:, some])

    def inner_moment(self, centred: bool) -> np.ndarray:
        """Return the second moments of what is read, about the means or about zero."""
        return self._moment(self.inner, self.read, centred)

    def toward_moment(self, centred: bool) -> np.ndarray:
        """Return those of what is read with what is missed."""
        return self._moment(self.toward, self.missed, centred)

    def _moment(self, products: np.ndarray, means: np.ndarray, centred: bool) -> np.ndarray:
        found = products / self.count
        if not centred:
            found += self.read[:, :, None] * means[:, None]
        return found


def _total(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Add arrays to the first one, in its place: of many entries, they are large."""
    for each in others:
        first += each
    return first
