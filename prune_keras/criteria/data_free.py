"""Criteria that look at weights only: functions of a kernel `(inputs, units)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def l1(kernel: np.ndarray) -> np.ndarray:
    r"""Sum of absolute weights: `s_j = sum_i |w_ij|`.

    Args:
        kernel: `(inputs, units)`.

    Returns:
        `(units,)`.

    Example:

    >>> l1(np.array([[1.0, -2.0], [3.0, 4.0]]))
    array([4., 6.])

    Reference:

    - Li et al., 2017, Pruning Filters for Efficient ConvNets, https://arxiv.org/abs/1608.08710
    """
    return np.abs(kernel).sum(axis=0, dtype=np.float64)


def l2(kernel: np.ndarray) -> np.ndarray:
    r"""Length of the weight vector: `s_j = sqrt(sum_i w_ij^2)`.

    Args:
        kernel: `(inputs, units)`.

    Returns:
        `(units,)`.

    Example:

    >>> l2(np.array([[3.0, 0.0], [4.0, 2.0]]))
    array([5., 2.])
    """
    # Squares and their sums in one pass: no second array of the kernel's size.
    return np.sqrt(np.einsum("ij,ij->j", kernel, kernel, dtype=np.float64))


@dataclass(frozen=True)
class Random:
    """Scores from a uniform distribution over (0, 1): the baseline that knows nothing.

    Args:
        seed: seed of the scores; the layers of a model still get different ones. Defaults to None:
            the seed that `score` or `prune` is given.
    """

    seed: int | None = None
    __name__ = "random"

    def __call__(self, kernel: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.asarray(rng.uniform(size=kernel.shape[1]))
