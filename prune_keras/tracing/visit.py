"""Visits: what a rule is told of one call of one operation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from prune_keras.tracing.labels import Labels, vector


@dataclass(frozen=True)
class Visit:
    """One call of one operation, as a rule sees it.

    Args:
        path: path of the operation in the model.
        operation: the layer or raw operation.
        node: the call in the graph.
        args: positional arguments of the call, with `Labels` in place of tensors.
        kwargs: keyword arguments of the call, with `Labels` in place of tensors.
        shape: shape of the output without the batch; of the first one where there are several.
        shapes: shapes of all outputs.
    """

    path: str
    operation: Any
    node: Any
    args: tuple
    kwargs: dict
    shape: tuple[int | None, ...]
    shapes: list[tuple[int | None, ...]]

    @property
    def inputs(self) -> list[Labels]:
        """All labels that come in, flat."""
        flat = tree.flatten((self.args, self.kwargs))
        return [value for value in flat if isinstance(value, Labels)]

    @property
    def input(self) -> Labels:
        """The first, or only, labels that come in."""
        return self.inputs[0]

    def argument(self, position: int, name: str) -> Any:
        """Return an argument of the call, however it was passed; None where it was not."""
        return self.args[position] if position < len(self.args) else self.kwargs.get(name)

    def output(self, ids: np.ndarray, axis: int = -1) -> np.ndarray:
        """Return ids for the output that lie along one of its axes.

        Args:
            ids: `(size,)` ids.
            axis: the axis of the output, counted without the batch. Defaults to the last one.
        """
        return vector(ids, axis, len(self.shape))
