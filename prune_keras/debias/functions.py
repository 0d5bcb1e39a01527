"""Debiases: functions from the scores of one family, `(neurons,)`, to scores of the same shape.

Each keeps the order within the family. Some of them also take what a neuron of the family saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Known = TypeVar("Known")


@dataclass(frozen=True)
class Saving:
    """What goes with one neuron of a family as the model stands.

    Args:
        family: name of the family.
        params: parameters.
        flops: FLOPs for one sample; `None` where spatial sizes are unknown.
    """

    family: str
    params: int
    flops: int | None

    def of(self, known: Mapping[str, Known], must: str, remedy: str) -> Known:
        """Return what is known of the family.

        Args:
            known: name of the family -> what was found out about it.
            must: what a debias must be, in the words of the error.
            remedy: what to do, in its words.

        Raises:
            ValueError: if nothing is.
        """
        if self.family in known:
            return known[self.family]
        raise ValueError(
            f"{must} the families that it is used on. Received: family {self.family!r}, while it "
            f"knows {list(known)}. {remedy}."
        )


def none(scores: np.ndarray) -> np.ndarray:
    """Leave scores as they are.

    Example:

    >>> none(np.array([1.0, 3.0]))
    array([1., 3.])
    """
    return scores


def mean(scores: np.ndarray) -> np.ndarray:
    r"""Divide by the family's mean: `s_i / mean(|s|)`.

    A neuron of average importance gets 1 in every family, whatever the scale of its layer.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros stay zeros.

    Example:

    >>> mean(np.array([1.0, 3.0]))
    array([0.5, 1.5])
    """
    return _divided(scores, np.abs(scores).mean())


def sum(scores: np.ndarray) -> np.ndarray:
    r"""Divide by the family's sum: `s_i / sum_j |s_j|`; larger families get smaller scores.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros stay zeros.

    Example:

    >>> sum(np.array([1.0, 3.0]))
    array([0.25, 0.75])
    """
    return _divided(scores, np.abs(scores).sum())


def max(scores: np.ndarray) -> np.ndarray:
    r"""Divide by the family's largest score: `s_i / max_j |s_j|`.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros stay zeros.

    Example:

    >>> max(np.array([1.0, 4.0]))
    array([0.25, 1.  ])
    """
    return _divided(scores, np.abs(scores).max())


def median(scores: np.ndarray) -> np.ndarray:
    r"""Divide by the median of the family's scores that are not zero: `s_i / median_j |s_j|`.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros stay zeros.

    Example:

    >>> median(np.array([0.0, 1.0, 2.0, 9.0]))
    array([0. , 0.5, 1. , 4.5])
    """
    sizes = np.abs(scores)
    return _divided(scores, np.median(sizes[sizes > 0]) if sizes.any() else 0.0)


def l2(scores: np.ndarray) -> np.ndarray:
    r"""Divide by the family's L2 norm: `s_i / sqrt(sum_j s_j^2)`.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros stay zeros.

    Example:

    >>> l2(np.array([3.0, 4.0]))
    array([0.6, 0.8])

    Reference:

    - Molchanov et al., 2017, Pruning Convolutional Neural Networks for Resource Efficient
      Inference, https://arxiv.org/abs/1611.06440
    """
    return _divided(scores, np.sqrt(np.square(scores).sum()))


def zscore(scores: np.ndarray) -> np.ndarray:
    r"""Subtract the family's mean and divide by its standard deviation.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros where all scores are equal.

    Example:

    >>> zscore(np.array([1.0, 3.0]))
    array([-1.,  1.])
    """
    return _divided(scores - scores.mean(), scores.std())


def minmax(scores: np.ndarray) -> np.ndarray:
    r"""Spread the family over [0, 1]: `(s_i - min s) / (max s - min s)`.

    The lowest neuron of every family gets 0, so that all families lose one before any loses two.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros where all scores are equal.

    Example:

    >>> minmax(np.array([1.0, 2.0, 5.0]))
    array([0.  , 0.25, 1.  ])
    """
    return _divided(scores - scores.min(), np.ptp(scores))


def robust(scores: np.ndarray) -> np.ndarray:
    r"""Subtract the median `m`, divide by the median absolute deviation: `(s_i - m) / (1.4826 d)`.

    `d = median_j |s_j - m|`; the factor makes it the standard deviation of a normal distribution.
    Where it is zero, the mean absolute deviation takes its place, times 1.2533.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`; zeros where all scores are equal.

    Example:

    >>> robust(np.array([1.0, 2.0, 3.0, 90.0])).round(2)
    array([-1.01, -0.34,  0.34, 59.02])

    Reference:

    - Iglewicz and Hoaglin, 1993, How to Detect and Handle Outliers
    """
    deviations = np.abs(scores - np.median(scores))
    typical = 1.4826 * np.median(deviations) or 1.2533 * deviations.mean()
    return _divided(scores - np.median(scores), typical)


def params(scores: np.ndarray, saving: Saving) -> np.ndarray:
    r"""Divide by the parameters that go with a neuron: what is lost for each one that is saved.

    Args:
        scores: `(neurons,)`.
        saving: what goes with one neuron of the family.

    Returns:
        `(neurons,)`.

    Example:

    >>> params(np.array([1.0, 3.0]), Saving("conv", params=10, flops=1000))
    array([0.1, 0.3])
    """
    return scores / np.maximum(saving.params, 1)


def flops(scores: np.ndarray, saving: Saving) -> np.ndarray:
    r"""Divide by the FLOPs that go with a neuron: what is lost for each one that is saved.

    Args:
        scores: `(neurons,)`.
        saving: what goes with one neuron of the family.

    Returns:
        `(neurons,)`.

    Raises:
        ValueError: if the model leaves spatial sizes open.

    Example:

    >>> flops(np.array([1.0, 3.0]), Saving("conv", params=10, flops=1000))
    array([0.001, 0.003])
    """
    if saving.flops is None:
        raise ValueError(
            "debias='flops' needs known spatial sizes. Received: a model that leaves them open. "
            "Pass input_shape, e.g. input_shape=(224, 224, 3), to trace or prune; where rounds are "
            "cut in fit, build the model with known sizes."
        )
    return scores / np.maximum(saving.flops, 1)


def rank(scores: np.ndarray) -> np.ndarray:
    r"""Replace scores by their rank in the family, evenly spread over (0, 1]; ties go by position.

    Ranked together, all families lose the same fraction of their neurons.

    Args:
        scores: `(neurons,)`.

    Returns:
        `(neurons,)`.

    Example:

    >>> rank(np.array([5.0, 1.0, 1.0, 9.0]))
    array([0.75, 0.25, 0.5 , 1.  ])
    """
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1) / len(scores)
    return ranks


def _divided(scores: np.ndarray, by: float) -> np.ndarray:
    return scores / by if by > 0 else np.zeros_like(scores, dtype=float)
