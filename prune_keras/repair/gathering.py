"""Gathering: rows of what a layer reads and misses, as they are while they are few, else as sums.

Fewer rows than a layer reads entries span less than these: they are laid out along an orthonormal
basis of what they read, in which sums are small, and least squares the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from prune_keras.repair.sums import Sums

TOGETHER = 2**12  # rows at least that are summed at once, where there are as many


@dataclass(frozen=True)
class Gathered:
    """Sums of rows.

    Args:
        fit, held: of rows to fit on, and of those held out.
        basis: `(groups, entries, read)`, what each number that is read stands for; None for itself.
    """

    fit: Sums
    held: Sums
    basis: np.ndarray | None = None

    @cached_property
    def joint(self) -> Sums:
        """Sums of all rows."""
        return self.fit + self.held

    @property
    def read(self) -> int:
        """How many numbers of a row stand for its entries."""
        return self.fit.read.shape[1]

    @property
    def entries(self) -> int:
        """How many entries of a row are read."""
        return self.read if self.basis is None else self.basis.shape[1]

    def widened(self, weights: np.ndarray) -> np.ndarray:
        """Return weights of all entries, from those of what stands for them."""
        return weights if self.basis is None else np.matmul(self.basis, weights)

    def narrowed(self, weights: np.ndarray) -> np.ndarray:
        """Return what weights of all entries come to by what stands for these."""
        if self.basis is None:
            return weights
        return np.matmul(self.basis.transpose(0, 2, 1), weights)


@dataclass
class Gathering:
    """Rows that come batch by batch.

    Args:
        entries: number of entries of a row that are read.

    Example: two rows of three entries, which two numbers stand for.

    >>> gathering = Gathering(3)
    >>> read, missed = np.array([[[3.0, 4.0, 0.0], [0.0, 0.0, 2.0]]]), np.ones((1, 2, 1))
    >>> gathering.add(read, missed, np.array([False, True]))
    >>> gathered = gathering.gathered()
    >>> gathered.read, np.abs(gathered.fit.read).tolist(), np.abs(gathered.held.read).tolist()
    (2, [[5.0, 0.0]], [[0.0, 2.0]])
    """

    entries: int
    parts: dict[bool, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    sums: dict[bool, Sums] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """How many rows are not summed yet."""
        return sum(read.shape[1] for parts in self.parts.values() for read, _ in parts)

    def add(self, read: np.ndarray, missed: np.ndarray, held: np.ndarray) -> None:
        """Add rows, of which some are held out.

        Args:
            read: `(groups, rows, entries)`.
            missed: `(groups, rows, units)`.
            held: `(rows,)` booleans.
        """
        for out in (False, True):
            rows = held == out
            if rows.any():
                self.parts.setdefault(out, []).append((read[:, rows], missed[:, rows]))
        # Sums are merged for each lot of rows: that takes as much as to sum up some of these.
        if self.waiting >= max(self.entries, TOGETHER):
            self._sum_up()

    def gathered(self) -> Gathered | None:
        """Return the sums; None if there are no rows of one kind."""
        basis = None
        if not self.sums and self.waiting < self.entries:
            reads = [read for parts in self.parts.values() for read, _ in parts]
            rows = np.concatenate(reads, axis=1, dtype="float64")
            basis = np.linalg.qr(rows.transpose(0, 2, 1))[0]
        self._sum_up(basis)
        if len(self.sums) < 2:
            return None
        return Gathered(self.sums[False], self.sums[True], basis)

    def _sum_up(self, basis: np.ndarray | None = None) -> None:
        for out, parts in self.parts.items():
            read, missed = (_joined(each) for each in zip(*parts, strict=True))
            each = Sums.of(read if basis is None else np.matmul(read, basis), missed)
            self.sums[out] = self.sums[out] + each if out in self.sums else each
        self.parts = {}


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
