"""Debiasing: make the scores of different families comparable before they are ranked together.

A debias is a function from the scores of one family, `(neurons,)`, to scores of the same shape. It
must keep the order within the family.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Debias = Callable[[np.ndarray], np.ndarray]


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


DEBIASES: dict[str, Debias] = {f.__name__: f for f in (none, mean, l2, zscore, rank)}


def get(identifier: Any) -> Debias:
    """Return a debias by name, or a callable as it is.

    Args:
        identifier: one of `{"none", "mean", "l2", "zscore", "rank"}`, a function from `(neurons,)`
            scores to `(neurons,)` scores, or a config from `serialize`.

    Raises:
        ValueError: if the name is unknown.

    Example:

    >>> get("mean").__name__
    'mean'
    """
    if isinstance(identifier, dict):
        identifier = identifier.get("name")
    if callable(identifier):
        return identifier
    if identifier in DEBIASES:
        return DEBIASES[identifier]
    raise ValueError(
        f"`debias` must be one of {sorted(DEBIASES)} or a function of scores. "
        f"Received: debias={identifier!r}."
    )


def serialize(debias: Debias) -> dict[str, str]:
    """Return a config from which `get` makes the same debias."""
    return {"name": debias.__name__}
