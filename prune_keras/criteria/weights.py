"""Criteria that look at weights only: of the kernel that makes the units, or of what they pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.criteria.criterion import Criterion
from prune_keras.graph import Producer
from prune_keras.samples.subject import Subject, as_numpy


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
class BatchNormScale(Criterion):
    r"""Scale of the batch normalization that the unit passes: `s_j = mean_l |gamma_lj|`.

    `l` counts the layers with a scale that the unit, or what it is coupled to, passes through.
    Every prunable unit must pass one; others are an error that names their layer.

    Reference:

    - Liu et al., 2017, Learning Efficient Convolutional Networks through Network Slimming,
      https://arxiv.org/abs/1708.06519
    """

    __name__ = "bn_scale"

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        scales = defaultdict(list)
        gammas = _keras.batch_scales(subject.model)
        for weight in subject.graph.weights:
            if id(weight.variable) in gammas:
                values = np.abs(ops.convert_to_numpy(weight.variable.value).astype(np.float64))
                for neuron, value in zip(weight.axes[0].tolist(), values.tolist(), strict=True):
                    scales[neuron].append(value)
        return {p.path: _scales_of(p, scales) for p in subject.producers}


@dataclass(frozen=True)
class Random(Criterion):
    """Scores from a uniform distribution over (0, 1): the baseline that knows nothing.

    Args:
        seed: seed of the scores; the layers of a model still get different ones. Defaults to None:
            the seed that `score` or `prune` is given.
    """

    seed: int | None = None
    __name__ = "random"
    arguments = ("seed",)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        rng = subject.rng(self.seed)
        return {p.path: rng.uniform(size=len(p.neurons)) for p in subject.producers}


def measured(criterion: Any, subject: Subject) -> dict[str, np.ndarray]:
    """Measure what a criterion asks for; what it does not see is scored by `l2`."""
    if not isinstance(criterion, Criterion):
        return score_kernels(criterion, subject)
    scores = criterion.measure(subject)
    if any(producer.path not in scores for producer in subject.producers):
        scores = score_kernels(l2, subject) | scores
    return {p.path: ops.convert_to_numpy(scores[p.path]) for p in subject.producers}


def score_kernels(criterion: Callable, subject: Subject) -> dict[str, np.ndarray]:
    """Call a function of a kernel `(inputs, units)` for each layer."""
    return {p.path: _score_kernel(p, criterion) for p in subject.producers}


def _score_kernel(producer: Producer, criterion: Callable) -> np.ndarray:
    units = len(producer.neurons)
    kernel = ops.convert_to_numpy(producer.kernel.value)
    kernel = np.moveaxis(kernel, producer.axis, -1).reshape(-1, units)  # gates follow one another
    values = as_numpy(criterion(kernel))
    if values.shape != (units,):
        raise ValueError(
            "A criterion must return one score a unit. Received: shape "
            f"{values.shape} for the {units} units of {producer.path!r}."
        )
    return values


def _scales_of(producer: Producer, scales: dict[int, list[float]]) -> np.ndarray:
    neurons = producer.neurons.tolist()
    without = [n for n, p in zip(neurons, producer.prunable, strict=True) if p and n not in scales]
    if without:
        raise ValueError(
            "The criterion 'bn_scale' needs a batch normalization with a scale behind every "
            f"prunable layer. Received: {producer.path!r}, where {len(without)} of {len(neurons)} "
            "units pass none. Use another criterion, such as 'l2'."
        )
    return np.array([np.mean(scales[n]) if n in scales else 0.0 for n in neurons])
