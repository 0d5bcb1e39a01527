"""Repair: what makes up, without training, for neurons that go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.graph import Graph
from prune_keras.repair.fusing import assign, check_fuse, fused, too_wide
from prune_keras.repair.recalibration import check_readable_again, recalibrate
from prune_keras.repair.refit import Refit
from prune_keras.repair.walking import refitted

__all__ = ["Refit", "Repair", "check_fuse", "check_readable_again", "recalibrate"]


@dataclass(frozen=True)
class Repair:
    """What a thin model gets right after a cut: made before it, while the neurons are still there.

    Args:
        values: (position in `model.variables`, value) pairs, what weights that read neurons become.
        data: samples that batch normalization is measured anew on; None leaves its statistics.
        steps: number of batches of them, at most; None for as many as hold 1,280 samples.
        notes: what is to be said of layers that keep their weights.
    """

    values: tuple[tuple[int, np.ndarray], ...]
    data: Any
    steps: int | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: Any,
        graph: Graph,
        kept: np.ndarray,
        data: Any,
        fuse: str | Refit | None,
        steps: int | None = None,
    ) -> Repair:
        """Look at a model before it is cut; it is not changed.

        Args:
            model: the model.
            graph: its graph.
            kept: `(neurons,)` booleans, which neurons stay.
            data: inputs, `(inputs, targets)`, a dataset of batches, or None for no repair.
            fuse: one of `{"weights", "bias", None}`, see `fusing.fused`; or `"sequential"` or a
                `Refit`, see `walking.refitted`, which measures statistics itself.
            steps: batches of `data` for batch normalization, at most. Defaults to None: as many as
                hold 1,280 samples.
        """
        if fuse == "sequential":
            fuse = Refit()
        if isinstance(fuse, Refit):
            values, notes = refitted(model, graph, kept, data, fuse)
            return cls(tuple(values), None, None, notes)
        values = [] if fuse is None else fused(model, graph, kept, data, fuse)
        notes = too_wide(model, graph, kept) if fuse == "weights" else ()
        return cls(tuple(values), data, steps, notes)

    def apply(self, thin: Any) -> None:
        """Change the model that is left of it, in place: fuse, then measure statistics anew."""
        assign(thin, self.values)
        if self.data is not None:
            recalibrate(thin, self.data, self.steps)
