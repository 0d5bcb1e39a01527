"""Two networks on the same images: how far they differ, and how sure that is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prune_keras.models.images import Pair
from prune_keras.models.settings import Settings, least

RESAMPLES = 10_000


def hits(model: Any, images_and_labels: Pair, settings: Settings) -> np.ndarray:
    """Return `(n,)` booleans: which images a model classifies correctly."""
    images, labels = images_and_labels
    outputs = model.predict(images, batch_size=settings.validation_batch_size, verbose=0)
    single = outputs.shape[-1] == 1
    return (outputs[:, 0] > least(model) if single else outputs.argmax(axis=-1)) == labels


def compare(first: np.ndarray, second: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Return by how much the first network is better, with a 95 % interval of the bootstrap.

    Images are drawn with replacement, each with what both networks made of it, so that what is hard
    for both does not widen the interval. `p` is that of McNemar's exact test.

    Args:
        first: `(n,)` booleans, which of the images one network gets right.
        second: the same of the other network, on the same images.
        seed: of the bootstrap.

    Example:

    >>> compare(np.array([1, 1, 1, 0] * 9, bool), np.array([1, 1, 0, 0] * 9, bool))["difference"]
    0.25

    Reference:
        McNemar: Note on the sampling error of the difference between correlated proportions, 1947.
    """
    differences = first.astype(int) - second.astype(int)
    counts = [int((differences == sign).sum()) for sign in (1, -1)]
    n = len(differences)
    shares = [*(count / n for count in counts), 1 - sum(counts) / n]
    drawn = np.random.default_rng(seed).multinomial(n, shares, RESAMPLES)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / n, (0.025, 0.975))
    return {
        "difference": (counts[0] - counts[1]) / n,
        "low": float(low),
        "high": float(high),
        "only_first_right": counts[0],
        "only_second_right": counts[1],
        "p": _mcnemar(*counts),
    }


def _mcnemar(a: int, b: int) -> float:
    """Return the two-sided p of `a` against `b` heads of a fair coin."""
    tail = sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b)
    return min(1.0, 2 * tail)
