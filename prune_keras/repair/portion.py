"""Portion: the samples that a refit looks at, and which of them it holds out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from prune_keras.repair.side_by_side import Both

HELD_OUT = 4  # one sample in so many


@dataclass(frozen=True)
class Portion:
    """Batches of samples.

    Args:
        batches: flat inputs of each.
        sizes: how many samples each has.
        is_limited: whether memory left others out. Defaults to False.

    Example:

    >>> portion = Portion([[np.zeros((6, 2))], [np.zeros((3, 2))]], [6, 3])
    >>> portion.is_held_out(1, np.arange(3))
    array([False,  True, False])
    """

    batches: list[list]
    sizes: list[int]
    is_limited: bool = False

    @classmethod
    def of(cls, found: Iterator[list], needed: Callable[[list], int], memory: int) -> Portion:
        """Return as many batches as may be held at once, of which the first one tells the size.

        Args:
            found: flat inputs of batches.
            needed: from one of them to the bytes that are held at once for it.
            memory: bytes that all may take.

        Raises:
            ValueError: if there are too few samples to hold some out.
        """
        held: list[list] = []
        samples, most, is_limited = 0, math.inf, False
        for batch in found:
            if len(held) == 1:
                most = memory // max(needed(held[0]), 1)
            is_limited = len(held) >= most and samples >= HELD_OUT  # with fewer nothing is fitted
            if is_limited:
                break
            held.append(batch)
            samples += len(batch[0])
        portion = cls(held, [len(batch[0]) for batch in held], is_limited)
        if portion.samples < HELD_OUT:
            raise ValueError(
                "A sequential refit must have samples to hold out. Received: data of "
                f"{portion.samples} samples, of at least {HELD_OUT}. Pass some hundreds in `data`."
            )
        return portion

    @property
    def samples(self) -> int:
        return sum(self.sizes)

    def is_held_out(self, number: int, samples: np.ndarray) -> np.ndarray:
        """Tell which samples of a batch are held out."""
        return (sum(self.sizes[:number]) + samples) % HELD_OUT == HELD_OUT - 1

    def share(self, most: int, number: int) -> int:
        """Return how many positions of a batch to look at, of so many in all."""
        return -(-most * self.sizes[number] // self.samples)

    def as_both(self, number: int | None = None) -> list[Both]:
        """Return what stands for each input in both models: that of all batches, or of one."""
        return as_both(self.batches if number is None else [self.batches[number]])


def as_both(batches: list[list]) -> list[Both]:
    """Return what stands for each input in both models."""
    tensors = (list(each) for each in zip(*batches, strict=True))
    return [Both(each, each) for each in tensors]
