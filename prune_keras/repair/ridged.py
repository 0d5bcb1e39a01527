"""Ridged: what least squares with a ridge are solved by, once it is factored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prune_keras.repair.gathering import Gathered
from prune_keras.repair.sums import Sums

EXACT = 1e-6  # a ridge below is there for rounding only, whose errors squared no sum shows

BLOCK = 64  # entries that are solved for at once, the others by products


@dataclass(frozen=True)
class Ridged:
    """Second moments of what is read, with a ridge.

    Args:
        inner: `(groups, read, read)`, without it.
        lower: the same, the lower factor of Cholesky of both together.
        inverses: of the blocks along its diagonal.
        ridge: the ridge, of the mean second moment.
        centred: whether moments are about the means.
    """

    inner: np.ndarray
    lower: np.ndarray
    inverses: tuple[np.ndarray, ...]
    ridge: float
    centred: bool

    @classmethod
    def of(cls, sums: Sums, rows: Gathered, ridge: float, centred: bool) -> Ridged:
        """Factor what is read; with a larger ridge, by tens, where rounding outweighs this one.

        Args:
            sums: of finite numbers.
            rows: that these are sums of.
            ridge, centred: see above.

        Example:

        >>> read = np.array([[[1.0, 2.0], [3.0, 1.0], [2.0, 5.0]]])
        >>> sums = Sums.of(read, read @ np.array([[[1.0], [-1.0]]]))
        >>> ridged = Ridged.of(sums, Gathered(sums, sums), 1e-12, centred=True)
        >>> ridged.solve(sums).round(6).tolist()
        [[[1.0], [-1.0]]]
        """
        inner = sums.inner_moment(centred)
        level = np.trace(inner, axis1=1, axis2=2) / rows.entries
        # What hardly varies must not be believed for its rounding.
        about = np.square(sums.read).sum(axis=1) / rows.entries
        level = level + 1e-12 * about + 1e-6 * level.max()
        level = level + np.finfo(float).tiny ** 0.5
        held = inner.copy()
        while True:
            np.einsum("gii->gi", held)[:] = np.einsum("gii->gi", inner) + ridge * level[:, None]
            try:
                lower = np.linalg.cholesky(held)
            except np.linalg.LinAlgError:
                ridge *= 10
                continue
            inverses = (np.linalg.inv(lower[:, each, each]) for each in _blocks(lower))
            return cls(inner, lower, tuple(inverses), ridge, centred)

    def solve(self, sums: Sums) -> np.ndarray:
        """Return the weights of what stands for the entries, by what these rows miss."""
        toward = sums.toward_moment(self.centred)
        weights = self._solved(toward)
        if self.ridge < EXACT:
            weights += self._solved(toward - np.matmul(self.inner, weights))
        return weights

    def _solved(self, right: np.ndarray) -> np.ndarray:
        """Return what the factor times its transpose makes `right` of."""
        found, upper = right.copy(), self.lower.transpose(0, 2, 1)
        blocks = list(zip(_blocks(self.lower), self.inverses, strict=True))
        for each, inverse in blocks:
            known = np.matmul(self.lower[:, each, : each.start], found[:, : each.start])
            found[:, each] = np.matmul(inverse, found[:, each] - known)
        for each, inverse in reversed(blocks):
            known = np.matmul(upper[:, each, each.stop :], found[:, each.stop :])
            found[:, each] = np.matmul(inverse.transpose(0, 2, 1), found[:, each] - known)
        return found


def _blocks(lower: np.ndarray) -> list[slice]:
    return [slice(first, first + BLOCK) for first in range(0, lower.shape[1], BLOCK)]
