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

    Reference:

    - He et al., 2018, Soft Filter Pruning, https://arxiv.org/abs/1808.06866
    """
    # Squares and their sums in one pass: no second array of the kernel's size.
    return np.sqrt(np.einsum("ij,ij->j", kernel, kernel, dtype=np.float64))


def geometric_median(kernel: np.ndarray) -> np.ndarray:
    r"""Distance to all other units of the layer: `s_j = sum_k |w_j - w_k|`.

    What lies near the layer's geometric median can be made up for by the others.

    Args:
        kernel: `(inputs, units)`.

    Returns:
        `(units,)`.

    Example:

    >>> geometric_median(np.array([[0.0, 3.0, 3.0], [0.0, 4.0, 4.0]]))
    array([10.,  5.,  5.])

    Reference:

    - He et al., 2019, Filter Pruning via Geometric Median, https://arxiv.org/abs/1811.00250
    """
    weights = np.asarray(kernel, np.float64)
    products = weights.T @ weights
    squares = np.diag(products)
    distances = np.maximum(squares[:, None] + squares - 2 * products, 0)
    # Rounding leaves about 1e-16 of the squares between equal units.
    distances[distances < 1e-12 * squares.max(initial=0)] = 0
    return np.sqrt(distances).sum(axis=1)


@dataclass(frozen=True)
class BatchNormScale:
    r"""Scale of the batch normalization that the unit passes: `s_j = mean_l |gamma_lj|`.

    `l` counts the layers with a scale that the unit, or what it is coupled to, passes through.
    Every prunable unit must pass one; others are an error that names their layer.

    Reference:

    - Liu et al., 2017, Learning Efficient Convolutional Networks through Network Slimming,
      https://arxiv.org/abs/1708.06519
    """

    __name__ = "bn_scale"


@dataclass(frozen=True)
class Random:
    """Scores from a uniform distribution over (0, 1): the baseline that knows nothing.

    Args:
        seed: seed of the scores; the layers of a model still get different ones. Defaults to None:
            the seed that `score` or `prune` is given.
    """

    seed: int | None = None
    __name__ = "random"
