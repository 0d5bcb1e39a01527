"""Bending: behind an activation that is flat, what responses miss may not show.

All that is below zero is alike behind a ReLU. Where both networks are on the same flat end, a
response is as it should be; where only the dense one is, it shall just come to it. Weights are
fitted again to what is asked for then, several times, each of which can only lessen what is missed
behind the activation.

Reference: Zhang et al., 2015, Accelerating Very Deep Convolutional Networks for Classification and
Detection, https://arxiv.org/abs/1505.06798, who take the nonlinearity into account by a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prune_keras.repair.gathering import Gathered
from prune_keras.repair.least_squares import Allowed, Fit, shift_of, solved, within
from prune_keras.repair.sums import Sums

TIMES = 4
RIDGE = 1e-5  # at least, as rows are of float32


@dataclass(frozen=True)
class Rows:
    """What is in front of an activation, row by row; of float32.

    Args:
        read: `(groups, rows, read)`, what the layer reads.
        dense: `(groups, rows, units)`, what the activation gets in the dense model.
        thin: the same in the thin model, with the weights as they are.
    """

    read: np.ndarray
    dense: np.ndarray
    thin: np.ndarray

    @classmethod
    def of(cls, read: np.ndarray, dense: np.ndarray, thin: np.ndarray) -> Rows:
        return cls(read.astype("float32"), dense.astype("float32"), thin.astype("float32"))

    @classmethod
    def joined(cls, parts: Sequence[tuple[Rows, np.ndarray]], out: bool) -> Rows:
        """Return those rows of all parts that are held out, or those that are not."""
        return cls(
            np.concatenate([rows.read[:, held == out] for rows, held in parts], axis=1),
            np.concatenate([rows.dense[:, held == out] for rows, held in parts], axis=1),
            np.concatenate([rows.thin[:, held == out] for rows, held in parts], axis=1),
        )

    def along(self, basis: np.ndarray | None) -> Rows:
        """Return rows of what stands for the entries that are read."""
        if basis is None:
            return self
        return replace(self, read=np.matmul(self.read, basis.astype("float32")))


@dataclass(frozen=True)
class Bend:
    """An activation that is a straight line between two ends, and flat beyond them.

    Args:
        low, high: the ends.
        slope: `(groups, 1, units)`, by what responses are multiplied on their way to it.
        inverse: the same, what takes that back.
    """

    low: float
    high: float
    slope: np.ndarray
    inverse: np.ndarray

    def given(self, rows: Rows, fit: Fit) -> np.ndarray:
        """Return what the activation is given in the thin model, with weights that were fitted."""
        weights = fit.weights.astype("float32")
        return rows.thin + self.slope * (np.matmul(rows.read, weights) + fit.shift[:, None])

    def wanted(self, dense: np.ndarray, thin: np.ndarray) -> np.ndarray:
        """Return what is nearest to what the activation is given, and comes to the same.

        Example:

        >>> relu = Bend(0.0, np.inf, np.ones(1), np.ones(1))
        >>> relu.wanted(np.array([2.0, -2.0, -2.0]), np.array([-1.0, -1.0, 1.0]))
        array([ 2., -1.,  0.])
        """
        wanted = np.where(dense <= self.low, np.minimum(thin, self.low), dense)
        return np.where(dense >= self.high, np.maximum(thin, self.high), wanted)

    def error(self, rows: Rows, fit: Fit) -> float:
        """Return the mean square of what is missed behind the activation."""
        thin = self.given(rows, fit)
        return float(np.mean(np.square(thin - self.wanted(rows.dense, thin), dtype="float64")))

    def toward(self, rows: Rows, sums: Sums, fit: Fit) -> Sums:
        """Return sums of what is read, and of what is still missed behind the activation."""
        thin = self.given(rows, fit)
        return sums.toward(rows.read, self.inverse * (self.wanted(rows.dense, thin) - thin))

    def again(
        self, parts: Sequence[tuple[Rows, Sums]], gathered: Gathered, fit: Fit, allowed: Allowed
    ) -> Fit:
        """Fit weights several times over, each time to what is still missed."""
        for _ in range(TIMES):
            first, *others = (self.toward(rows, sums, fit) for rows, sums in parts)
            toward = sum(others, start=first)
            step = solved(toward, gathered, max(fit.ridge, RIDGE), centred=True)
            weights = within(fit.weights + step, gathered, allowed)
            shift = fit.shift + shift_of(toward, weights - fit.weights, True)
            fit = replace(fit, weights=weights, shift=shift)
        return fit


def bent(
    fit: Fit, gathered: Gathered, front: Sequence[Rows], bend: Bend, allowed: Allowed
) -> tuple[Fit, np.ndarray]:
    """Return a fit that counts what shows behind an activation, if rows held out gain by it.

    Args:
        fit: what was fitted to all that responses miss.
        gathered: sums of rows.
        front: the same rows: those to fit on, and those held out.
        bend: the activation.
        allowed: what becomes of a change that a constraint is put on.

    Returns:
        The fit, and `(groups, units)`, what it adds to responses on average.
    """
    start = replace(fit, weights=gathered.narrowed(fit.weights))
    own, held = (
        (rows.along(gathered.basis), sums)
        for rows, sums in zip(front, (gathered.fit, gathered.held), strict=True)
    )
    tried = bend.again([own], gathered, start, allowed)
    if bend.error(held[0], tried) >= bend.error(held[0], start):
        return fit, np.zeros_like(fit.shift)
    found = bend.again([own, held], gathered, start, allowed)
    mean = (own[1] + held[1]).mean[:, : gathered.read]
    change = np.einsum("gr,gru->gu", mean, found.weights - start.weights)
    whole = gathered.widened(found.weights)
    whole = whole if allowed is None else allowed(whole)
    return replace(found, weights=whole), change + found.shift - fit.shift
