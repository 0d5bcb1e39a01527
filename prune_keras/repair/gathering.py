"""Gathering: rows of what a layer reads and misses, as they are while they are few, else as sums.

Fewer rows than a layer reads entries span less than these: they are laid out along an orthonormal
basis of what they read, in which sums are small, and least squares the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from prune_keras.repair.sums import Sums


@dataclass(frozen=True)
class Gathered:
    """Sums of rows.

    Args:
        fit, held: of rows to fit on, and of those held out.
        read: number of entries of a row that are read, or that stand for them.
        basis: `(groups, entries, read)`, what each of them stands for; None for itself.
    """

    fit: Sums
    held: Sums
    read: int
    basis: np.ndarray | None = None

    @property
    def entries(self) -> int:
        """How many entries of a row are read."""
        return self.read if self.basis is None else self.basis.shape[1]

    @property
    def count(self) -> int:
        return self.fit.count + self.held.count

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
    """Rows that come batch by batch, `[read, missed]`.

    Args:
        read: number of entries of a row that are read.

    Example: two rows of three entries, which two numbers stand for.

    >>> gathering = Gathering(3)
    >>> gathering.add(np.array([[[3.0, 4.0, 0.0, 1.0], [0.0, 0.0, 2.0, 1.0]]]), np.array([0, 1]))
    >>> gathered = gathering.gathered()
    >>> gathered.read, np.abs(gathered.fit.mean).tolist(), np.abs(gathered.held.mean).tolist()
    (2, [[5.0, 0.0, 1.0]], [[0.0, 2.0, 1.0]])
    """

    read: int
    few: list[tuple[bool, np.ndarray]] = field(default_factory=list)
    sums: dict[bool, Sums] = field(default_factory=dict)

    def add(self, rows: np.ndarray, held: np.ndarray) -> None:
        """Add `(groups, rows, numbers)`, of which some are held out."""
        for out in (False, True):
            part = rows[:, held == out]
            if part.shape[1]:
                self.few.append((out, part))
        if self.sums or sum(part.shape[1] for _, part in self.few) >= self.read:
            self._sum_up()

    def gathered(self) -> Gathered | None:
        """Return the sums; None if there are no rows of one kind."""
        read, basis = self.read, None
        if self.few:
            reads = np.concatenate([part[:, :, :read] for _, part in self.few], axis=1)
            basis = np.linalg.qr(reads.transpose(0, 2, 1))[0]
            self.few = [(out, _along(basis, part, read)) for out, part in self.few]
            read = basis.shape[2]
            self._sum_up()
        if len(self.sums) < 2:
            return None
        return Gathered(self.sums[False], self.sums[True], read, basis)

    def _sum_up(self) -> None:
        for out, part in self.few:
            each = Sums.of(part)
            self.sums[out] = self.sums[out] + each if out in self.sums else each
        self.few = []


def _along(basis: np.ndarray, rows: np.ndarray, read: int) -> np.ndarray:
    return np.concatenate([np.matmul(rows[:, :, :read], basis), rows[:, :, read:]], axis=-1)
