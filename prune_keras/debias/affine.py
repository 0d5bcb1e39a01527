"""A debias that is fitted: a scale and a shift for each family, so that scores foretell losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prune_keras.debias.functions import Saving


@dataclass(frozen=True)
class Affine:
    r"""A scale and a shift for each family: `a_f s_i + b_f` with `a_f > 0`.

    `prune_keras.fit_affine` fits them to measured changes of the loss.

    Args:
        families: name of the family -> `(scale, shift)`.

    Example:

    >>> by = Affine({"conv": (2.0, -1.0)})
    >>> by(np.array([1.0, 3.0]), Saving("conv", params=10, flops=1000))
    array([1., 5.])

    Reference:

    - after Chin et al., 2020, Towards Efficient Model Compression via Learned Global Ranking,
      https://arxiv.org/abs/1904.12368, which finds both by an evolution of whole networks
    """

    families: Mapping[str, tuple[float, float]]
    __name__ = "affine"

    def __call__(self, scores: np.ndarray, saving: Saving) -> np.ndarray:
        scale, shift = saving.of(
            self.families,
            "An affine debias must be fitted to",
            "Fit it to this model: prune_keras.fit_affine(model, criterion, data)",
        )
        return scale * scores + shift


def fit(scores: np.ndarray, losses: np.ndarray) -> tuple[float, float]:
    """Return the scale and shift that bring scores nearest to losses, by least squares.

    Args:
        scores: `(samples,)`.
        losses: `(samples,)`.

    Returns:
        `(scale, shift)`; the scale stays positive, however badly the two agree.

    Example:

    >>> scale, shift = fit(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 5.0]))
    >>> round(scale, 6), round(shift, 6)
    (2.0, -1.0)
    """
    spread, wanted = scores.std(), losses.std()
    if spread == 0:
        return 1.0, float(losses.mean() - scores.mean())
    slope = np.mean((scores - scores.mean()) * (losses - losses.mean())) / spread**2
    scale = float(max(slope, 1e-3 * wanted / spread, 1e-12))
    return scale, float(losses.mean() - scale * scores.mean())
