"""Moments: counts, means, and what lies about them, merged from batch to batch without loss.

A batch is centred where it lies, and batches are merged on the host in float64, so that a variance
stays exact however large the mean, and each position counts once whatever the batches' sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras


@dataclass(frozen=True)
class Moments:
    """What is known of values of some units.

    Args:
        count: how many values of each unit there were, or the sum of their weights.
        mean: `(units,)`, or a number that is the same for all of them.
        scatter: sum of squares about the mean, `(units,)`, or of products, `(units, units)`.

    Example:

    >>> joined = Moments.of(2, [1.0], [2.0]) + Moments.of(1, [4.0], [0.0])
    >>> joined.mean, joined.variance
    (array([2.]), array([2.66666667]))
    """

    count: float
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, count: Any, mean: Any, scatter: Any, left: Any = 0.0) -> Moments:
        """Return moments for tensors; `left` is what the mean lacks."""
        given = (count, mean, scatter, left)
        numbers = [np.asarray(ops.convert_to_numpy(tensor), np.float64) for tensor in given]
        return cls(float(numbers[0]), numbers[1] + numbers[3], numbers[2])

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        if other.count == 0:
            return self
        if self.count == 0:
            return other
        apart = other.mean - self.mean
        products = max(self.scatter.ndim, other.scatter.ndim) == 2
        share = other.count / count
        weighed = self.count * share * apart
        # In place: of many units, products are the most that there is in memory.
        scatter = (weighed[..., None] if products else weighed) * apart
        scatter = scatter + self.scatter
        scatter += other.scatter
        return Moments(count, self.mean + share * apart, scatter)

    @property
    def variance(self) -> np.ndarray:
        """Scatter of one value: `(units,)`, or the covariances `(units, units)`."""
        return self.scatter / self.count


def moments_of(rows: Any, weights: Any = None, products: bool = False) -> tuple[Any, ...]:
    """Return count, mean and scatter of rows, and what rounding took from the mean, as tensors.

    Args:
        rows: `(rows, units)`, in float32 or float64.
        weights: `(rows, 1)`, how often each row counts; what counts 0 times may be anything.
            Defaults to None: once.
        products: whether the scatter is of all pairs of units. Defaults to False.
    """
    if weights is None:
        count = ops.cast(ops.shape(rows)[0], rows.dtype)
        weigh = _as_they_are
    else:
        weights = ops.cast(weights, rows.dtype)
        rows = ops.where(weights > 0, rows, ops.zeros_like(rows))
        count = ops.sum(weights)

        def weigh(values: Any) -> Any:
            return values * weights

    most = ops.maximum(count, ops.ones_like(count))
    mean = _backend.sum_of_rows(weigh(rows)) / most
    apart = rows - mean
    weighed = weigh(apart)
    left = _backend.sum_of_rows(weighed) / most
    if products:
        scatter = ops.matmul(ops.transpose(weighed), apart) - count * ops.outer(left, left)
    else:
        scatter = _backend.sum_of_rows(weighed * apart) - count * ops.square(left)
    return count, mean, scatter, left


def merged(
    step: Callable, model: Any, inputs: Iterable[list], *arguments: Any, calls: float | None = None
) -> dict[str, Moments]:
    """Merge the moments that a step finds in batches, and at calls of a shared layer.

    Args:
        step: from flat inputs to a dict of lists of arguments of `Moments.of`.
        model: the model whose variables the step reads.
        inputs: flat inputs of batches.
        *arguments: further arguments of the step.
        calls: how many batches there will be, at most. Defaults to None: not known.
    """
    found: dict[str, Moments] = {}
    with _keras.passing(step, model, calls) as compiled:
        for x in inputs:
            x = _backend.shared_out(x, model)
            for key, given in compiled(x, *arguments).items():
                for call in given:
                    each = Moments.of(*call)
                    found[key] = found[key] + each if key in found else each
    return found


def exact(x: Any) -> Any:
    """Return a tensor in float32, or as it is where it has more digits."""
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def rows_of(x: Any, axis: int) -> Any:
    """Lay a tensor out as `(rows, units)`, with the units along an axis of it."""
    x = ops.moveaxis(x, axis, -1)
    return ops.reshape(x, (-1, x.shape[-1]))


def mask_rows(mask: Any, x: Any, axis: int) -> Any:
    """Return 1 for each row of `rows_of(x, axis)` where a mask is true, else 0; `(rows, 1)`.

    Args:
        mask: booleans along the first axes of `x`, or None, which comes back.
    """
    if mask is None:
        return None
    mask = ops.cast(mask, "float32")
    mask = ops.reshape(mask, (*ops.shape(mask), *[1] * (len(x.shape) - len(mask.shape))))
    one = ops.ones_like(ops.take(x, [0], axis=axis), dtype="float32")
    return ops.reshape(ops.moveaxis(mask * one, axis, -1), (-1, 1))


def _as_they_are(values: Any) -> Any:
    return values
