"""A debias that is measured: what each layer loses by the share of its neurons that go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.debias.functions import Saving


@dataclass(frozen=True)
class Curve:
    """What one family loses.

    Args:
        size: number of its neurons when it was measured.
        shares: `(points,)`, shares of them that were cut, rising, in (0, 1].
        drops: `(points,)`, how far the metric fell behind its start at each.
    """

    size: int
    shares: tuple[float, ...]
    drops: tuple[float, ...]

    def at(self, shares: np.ndarray) -> np.ndarray:
        """Return the drop at any share: straight lines from no drop at 0, never falling.

        Past the last point the last line goes on, or the one from 0 to there if that is steeper.

        Example:

        >>> Curve(10, (0.2, 0.4), (0.1, 0.05)).at(np.array([0.1, 0.3, 0.8]))
        array([0.05, 0.1 , 0.2 ])
        """
        x = np.concatenate([[0.0], self.shares])
        y = np.maximum.accumulate(np.concatenate([[0.0], self.drops]))
        slope = max((y[-1] - y[-2]) / (x[-1] - x[-2]), y[-1] / x[-1])
        return np.interp(shares, x, y) + slope * np.maximum(shares - x[-1], 0)


@dataclass(frozen=True)
class Sensitivity:
    r"""The drop of a metric that a neuron's layer has come to when the neuron goes.

    Of a family of `n` neurons, the one of rank `r`, 1 for the lowest score, becomes `d(r / n)`,
    with `d` its `Curve`. Ranked together, all layers are cut to the same drop, each by a ratio of
    its own: by hand, this is careful pruning layer by layer. Where layers lose nothing, those that
    lose a smaller share go first. `prune_keras.sensitivity` measures the curves.

    Args:
        monitor: name of the metric.
        mode: one of `{"max", "min"}`: whether more or less of it is better.
        start: the metric before any cut.
        curves: name of the family -> its curve.

    Example:

    >>> by = Sensitivity("accuracy", "max", 0.9, {"conv": Curve(4, (0.5, 0.75), (0.0, 0.2))})
    >>> by(np.array([0.3, 0.1, 0.2, 0.4]), Saving("conv", params=10, flops=1000)).round(3)
    array([0.2, 0. , 0. , 0.4])
    """

    monitor: str
    mode: str
    start: float
    curves: Mapping[str, Curve]
    __name__ = "sensitivity"

    def __call__(self, scores: np.ndarray, saving: Saving) -> np.ndarray:
        curve, gone = self._curve(saving), _gone(scores)
        return self._lost(curve, curve.size - len(scores) + gone)

    def parts(self, scores: np.ndarray, saving: Saving) -> np.ndarray:
        """Return what each neuron adds to the drop as it goes: what is summed is the drop.

        Example:

        >>> by = Sensitivity("accuracy", "max", 0.9, {"conv": Curve(4, (0.5, 1.0), (0.1, 0.5))})
        >>> by.parts(np.array([0.3, 0.1, 0.2, 0.4]), Saving("conv", 10, 1000)).round(3)
        array([0.2 , 0.05, 0.05, 0.2 ])
        """
        curve = self._curve(saving)
        gone = curve.size - len(scores) + _gone(scores)
        return self._lost(curve, gone) - self._lost(curve, gone - 1)

    def _curve(self, saving: Saving) -> Curve:
        return saving.of(
            self.curves,
            "A sensitivity must be measured on",
            "Measure this model: prune_keras.sensitivity(model, data)",
        )

    def _lost(self, curve: Curve, gone: np.ndarray) -> np.ndarray:
        return curve.at(gone / curve.size) + 1e-9 * gone / curve.size

    def ratios(self, max_drop: float) -> dict[str, float]:
        """Return the largest share of each family, of those measured, that costs at most so much.

        A family never goes whole.

        Args:
            max_drop: how far the metric may fall, with one family cut.

        Example:

        >>> curves = {"conv": Curve(4, (0.5, 0.75), (0.0, 0.2))}
        >>> Sensitivity("accuracy", "max", 0.9, curves).ratios(0.1)
        {'conv': 0.5}
        """
        return {
            family: max(
                (
                    share
                    for share in curve.shares
                    if share < 1 and curve.at(np.array([share]))[0] <= max_drop
                ),
                default=0.0,
            )
            for family, curve in self.curves.items()
        }

    def rows(self) -> list[dict[str, Any]]:
        """Return the table: family, neurons, share cut, and the metric at that share."""
        sign = -1 if self.mode == "max" else 1
        return [
            {
                "family": family,
                "neurons": curve.size,
                "share": share,
                self.monitor: self.start + sign * drop,
            }
            for family, curve in self.curves.items()
            for share, drop in zip(curve.shares, curve.drops, strict=True)
        ]


def _gone(scores: np.ndarray) -> np.ndarray:
    """Return how many neurons of a family are gone when each of them is, the lowest first."""
    return np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1
