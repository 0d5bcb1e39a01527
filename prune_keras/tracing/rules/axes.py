"""Which axis holds channels, and parts of it that are tied."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from keras import layers
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import product
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.visit import Visit

BATCH = -1
PERMUTING = (raw.Transpose, raw.Moveaxis, raw.Swapaxes)


def channel_axis(layer: Any) -> int:
    """Return the axis of a layer's channels, counted without the batch."""
    return 0 if getattr(layer, "data_format", None) == "channels_first" else -1


def tied_groups(visit: Visit, trace: Trace, ids: np.ndarray) -> np.ndarray:
    """Unite channel `j` of all groups, so that these stay equally wide; return the first group."""
    groups = visit.operation.groups
    if 1 < groups == len(ids):
        trace.fix(ids, f"each of them is a group of its own in {visit.path}")
    return tied_parts(trace, ids, groups)


def tied_parts(trace: Trace, ids: np.ndarray, count: int) -> np.ndarray:
    """Unite channel `j` of all of equally wide parts; return the first part."""
    parts = ids.reshape(count, -1)
    trace.unite(parts[1:], parts[:1])
    return parts[0]


def without_batch(axis: int, rank: int) -> int:
    """Return an axis counted without the batch, from 0 on; `BATCH` for the batch itself."""
    return axis % (rank + 1) - 1


def moves_the_batch(visit: Visit, trace: Trace) -> list[np.ndarray]:
    return trace.refuse(visit, f"{visit.path} moves, joins or splits the batch")


def resized(sizes: Iterable[Any], axis: int, size: int | None) -> tuple:
    """Return sizes with another one along an axis."""
    sizes = list(sizes)
    sizes[axis] = size
    return tuple(sizes)


def reshapes_the_unknown(visit: Visit, trace: Trace) -> np.ndarray:
    reason = f"{visit.path} reshapes an axis of unknown size"
    trace.fix(visit.input.ids, reason)
    return trace.nothing(len(visit.shape), reason)


def permutation(operation: Any, rank: int) -> Sequence[int]:
    """Return which axis comes to stand where, the batch counted."""
    numbered = np.empty(range(rank))  # of no entry, but each axis has its number for size
    if isinstance(operation, layers.Permute):
        return (0, *operation.dims)
    if isinstance(operation, raw.Moveaxis):
        return np.moveaxis(numbered, operation.source, operation.destination).shape
    if isinstance(operation, raw.Swapaxes):
        return np.swapaxes(numbered, operation.axis1, operation.axis2).shape
    return np.transpose(numbered, operation.axes).shape


def keeps_the_batch(visit: Visit) -> bool:
    """Tell whether a reshape works on each entry of the batch alone."""
    new, (before, *_) = visit.operation.newshape, visit.node.input_tensors
    if isinstance(new, int):
        return False
    if None in (*visit.input.shape, *visit.shape):
        return new[0] == before.shape[0]
    return product(visit.input.shape) == product(visit.shape)
