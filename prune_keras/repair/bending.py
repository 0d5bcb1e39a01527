"""Bending: behind an activation that is flat, what responses miss may not show.

All that is below zero is alike behind a ReLU. Where both networks are on the same flat end, a
response is as it should be; where only the dense one is, it shall just come to it. Weights are
fitted again to what is asked for then, several times, each of which can only lessen what is missed
behind the activation: on rows to fit on, and where those held out gain by it, on all of them.

Reference: Zhang et al., 2015, Accelerating Very Deep Convolutional Networks for Classification and
Detection, https://arxiv.org/abs/1505.06798, who take the nonlinearity into account by a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prune_keras.repair.gathering import Gathered
from prune_keras.repair.least_squares import Allowed, Fit, within
from prune_keras.repair.ridged import Ridged
from prune_keras.repair.sums import Sums

TIMES, MORE = 3, 1  # on rows to fit on, and then on all
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
        return cls(*(each.astype("float32", copy=False) for each in (read, dense, thin)))

    @classmethod
    def joined(cls, parts: Sequence[tuple[Rows, np.ndarray]]) -> Rows:
        """Return the rows of all parts: those to fit on, then those that are held out."""

        def joined(name: str) -> np.ndarray:
            each = [(getattr(rows, name), held) for rows, held in parts]
            return np.concatenate(
                [x[:, held == out] for out in (False, True) for x, held in each], 1
            )

        return cls(joined("read"), joined("dense"), joined("thin"))

    def between(self, first: int, last: int | None) -> Rows:
        return Rows(*(each[:, first:last] for each in (self.read, self.dense, self.thin)))

    def about(self, gathered: Gathered) -> Rows:
        """Return rows of what stands for the entries that are read, about their mean."""
        mean = gathered.joint.read[:, None].astype("float32")
        if gathered.basis is None:
            return replace(self, read=self.read - mean)
        return replace(self, read=np.matmul(self.read, gathered.basis.astype("float32")) - mean)


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
        change = fit.shift[:, None].astype("float32")
        if fit.weights.any():
            change = change + np.matmul(rows.read, fit.weights.astype("float32"))
        return rows.thin + self.slope.astype("float32") * change

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
        return float(np.mean(np.square(thin - self.wanted(rows.dense, thin)), dtype="float64"))

    def toward(self, rows: Rows, sums: Sums, fit: Fit) -> Sums:
        """Return sums of what is read, and of what is still missed behind the activation."""
        thin = self.given(rows, fit)
        missed = self.inverse.astype("float32") * (self.wanted(rows.dense, thin) - thin)
        return sums.toward_other(rows.read, missed)


@dataclass(frozen=True)
class Bending:
    """Weights that are fitted to what is missed behind an activation.

    Args:
        bend: the activation.
        gathered: sums of rows.
        start: what was fitted to all that responses miss, as of what stands for the entries.
        allowed: what becomes of a change that a constraint is put on.
    """

    bend: Bend
    gathered: Gathered
    start: Fit
    allowed: Allowed

    def again(self, rows: Rows, sums: Sums, change: Fit, times: int) -> Fit:
        """Fit weights several times over, each time to what is still missed.

        Args:
            rows: about their mean, with the weights of the start.
            sums: of these rows.
            change: what is added to the start.
            times: how often.
        """
        mean = sums.read - self.gathered.joint.read
        ridged = Ridged.of(sums, self.gathered, max(self.start.ridge, RIDGE), centred=True)
        for _ in range(times):
            toward = self.bend.toward(rows, sums, change)
            wanted = self.start.weights + change.weights + ridged.solve(toward)
            whole = within(wanted, self.gathered, self.allowed)
            weights = whole - self.start.weights
            moved = np.matmul(mean[:, None], weights - change.weights)[:, 0]
            change = replace(change, weights=weights, shift=change.shift + toward.missed - moved)
        return change


def bent(
    fit: Fit, gathered: Gathered, front: Rows, bend: Bend, allowed: Allowed
) -> tuple[Fit, np.ndarray]:
    """Return a fit that counts what shows behind an activation, if rows held out gain by it.

    Args:
        fit: what was fitted to all that responses miss.
        gathered: sums of rows.
        front: the same rows: those to fit on, then those held out.
        bend: the activation.
        allowed: what becomes of a change that a constraint is put on.

    Returns:
        The fit, and `(groups, units)`, what it adds to responses on average.
    """
    start = replace(fit, weights=gathered.narrowed(fit.weights))
    rows = replace(front.about(gathered), thin=bend.given(front, fit))
    own, held = rows.between(0, gathered.fit.count), rows.between(gathered.fit.count, None)
    none = replace(start, weights=np.zeros_like(start.weights), shift=np.zeros_like(fit.shift))
    bending = Bending(bend, gathered, start, allowed)
    tried = bending.again(own, gathered.fit, none, TIMES)
    if bend.error(held, tried) >= bend.error(held, none):
        return fit, none.shift
    found = bending.again(rows, gathered.joint, tried, MORE)
    whole = gathered.widened(start.weights + found.weights)
    whole = whole if allowed is None else allowed(whole)
    # Rows were about their mean, what is returned is not.
    shift = found.shift - np.matmul(gathered.joint.read[:, None], found.weights)[:, 0]
    return replace(fit, weights=whole, shift=fit.shift + shift), found.shift
