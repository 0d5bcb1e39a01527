"""Least squares of responses on what is read, and of how much to believe them.

Everything is decided from sums of products: those of rows to fit on, and of rows held out, by
which a ridge is chosen and a change is judged. Sums are of float64 and centred.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RIDGES = (1e1, 1e-14)  # the largest and the least, of the mean second moment

EXACT = 1e-6  # a ridge below is there for rounding only, whose errors squared no sum shows


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


@dataclass(frozen=True)
class Fit:
    """What is added to the weights of a layer.

    Args:
        weights: `(groups, read, units)`.
        shift: `(groups, units)`, what is added to each response.
        before, after: mean square of what responses miss on rows held out, without and with it.
        ridge: the ridge that was chosen.
    """

    weights: np.ndarray
    shift: np.ndarray
    before: float
    after: float
    ridge: float = 0.0


def fitted(
    fit: Sums,
    held: Sums,
    read: int,
    shifts: bool,
    learns: bool = True,
    allowed: Callable[[np.ndarray], np.ndarray] = lambda weights: weights,
) -> Fit:
    """Return what is best added to the weights by which responses are made of what is read.

    Args:
        fit: sums of rows `[read, missed]`: what a layer reads, and what its responses miss.
        held: sums of other rows.
        read: number of entries of a row that are read.
        shifts: whether responses can be shifted for free.
        learns: whether weights may change.
        allowed: what becomes of a change that a constraint is put on.
    """
    none = np.zeros((len(fit.mean), read, fit.mean.shape[1] - read))
    before = _error(held, none, np.zeros_like(fit.mean[:, read:]))

    def tried(ridge: float) -> float:
        weights = allowed(solved(fit, read, ridge, shifts))
        return _error(held, weights, shift_of(fit, weights, shifts))

    ridge, after = _descended(tried) if learns else (0.0, np.inf)
    joint, weights = fit + held, none
    shifted = _error(held, none, shift_of(fit, none, shifts))
    if after < min(before, shifted):
        weights = allowed(solved(joint, read, ridge, shifts))
    shift = shift_of(joint, weights, shifts)
    return Fit(weights, shift, before, min(before, after, shifted), ridge)


def _descended(error: Callable[[float], float]) -> tuple[float, float]:
    """Return the ridge of the least error, and that: a way down from the middle, by tens."""
    ridge = 1e-2
    best = error(ridge)
    for step in (0.1, 10.0):
        while RIDGES[-1] <= ridge * step <= RIDGES[0]:
            found = error(ridge * step)
            if found >= best:
                break
            ridge, best = ridge * step, found
    return ridge, best


def solved(sums: Sums, read: int, ridge: float, centred: bool) -> np.ndarray:
    second = sums.second(centred)
    inner, toward = second[:, :read, :read], second[:, :read, read:]
    level = np.trace(inner, axis1=1, axis2=2) / read
    # What hardly varies must not be believed for its rounding.
    level = level + 1e-12 * np.square(sums.mean[:, :read]).mean(axis=1) + 1e-6 * level.max()
    level = level + np.finfo(float).tiny ** 0.5
    held = inner + (ridge * level)[:, None, None] * np.eye(read)
    weights = np.linalg.solve(held, toward)
    if ridge < EXACT:
        weights = weights + np.linalg.solve(held, toward - np.matmul(inner, weights))
    return weights


def shift_of(sums: Sums, weights: np.ndarray, shifts: bool) -> np.ndarray:
    """Return by how much responses are missed on average."""
    read = weights.shape[1]
    missed = sums.mean[:, read:] - np.einsum("gp,gpo->go", sums.mean[:, :read], weights)
    return missed if shifts else np.zeros_like(missed)


def _error(sums: Sums, weights: np.ndarray, shift: np.ndarray) -> float:
    """Return the mean square, over rows and units, of what is missed with some weights more."""
    read = weights.shape[1]
    second = sums.second(centred=True)
    across, missed = second[:, :read, read:], np.diagonal(second[:, read:, read:], 0, 1, 2)
    explained = (2 * across - np.matmul(second[:, :read, :read], weights)) * weights
    mean = shift_of(sums, weights, True) - shift
    return float(np.mean(missed - explained.sum(axis=1) + np.square(mean)))
