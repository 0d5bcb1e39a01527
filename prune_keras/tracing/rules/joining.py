"""Rules of what joins tensors into one."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, varies
from prune_keras.tracing.rules.axes import (
    BATCH,
    moves_the_batch,
    reshapes_the_unknown,
    resized,
    without_batch,
)
from prune_keras.tracing.rules.registry import named, register_rule


@register_rule(raw.Stack)
def stacked(visit, trace):
    """Tensors that are stacked stay equally wide: channel `j` of all of them is one."""
    axis = without_batch(visit.operation.axis, len(visit.shape))
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if joins_constants(visit):
        return trace.refuse(visit, f"{visit.path} stacks them with a constant array")
    return np.expand_dims(same(visit, trace), axis)


@register_rule(*named(raw, "Append Dstack Hstack"))
def joined(visit, trace):
    axis = getattr(visit.operation, "axis", 2 if type(visit.operation).__name__ == "Dstack" else 1)
    rank = visit.input.rank
    axis = BATCH if axis is None or axis > rank else without_batch(axis, rank)
    return moves_the_batch(visit, trace) if axis == BATCH else concatenated(visit, trace, axis)


@register_rule(layers.Concatenate, raw.Concatenate)
def concatenate(visit, trace):
    axis = visit.operation.axis
    return concatenated(visit, trace, axis if axis < 0 else axis - 1)


def concatenated(visit, trace, axis: int) -> np.ndarray:
    """Return the ids of tensors that are joined along an axis, counted without the batch."""
    if joins_constants(visit):
        return trace.refuse(visit, f"{visit.path} joins them with a constant array")
    if None in (labels.shape[axis] for labels in visit.inputs):
        joined = any(varies(labels.ids, axis) for labels in visit.inputs)
        return reshapes_the_unknown(visit, trace) if joined else same(visit, trace)
    parts = [_sized(labels, axis) for labels in visit.inputs]
    sizes = [np.array(part.shape) for part in parts]
    shape = np.max(sizes, axis=0)
    whole = [np.broadcast_to(p, [*resized(shape, axis, p.shape[axis])]) for p in parts]
    return trace.rectangle(np.concatenate(whole, axis=axis))


def joins_constants(visit) -> bool:
    """Tell whether not all that is joined is a tensor of the graph."""
    return len(visit.inputs) < len(keras.tree.flatten((visit.args, visit.kwargs)))


def same(visit, trace) -> np.ndarray:
    """Unite tensors that are joined along an axis on which none of them holds channels."""
    first, *others = visit.inputs
    for other in others:
        trace.unite(first.ids, other.ids)
    sizes = np.broadcast_shapes(*(labels.ids.shape for labels in visit.inputs))
    return np.broadcast_to(first.ids, sizes)


def _sized(labels: Labels, axis: int) -> np.ndarray:
    """Return ids at full size along one axis."""
    return np.broadcast_to(labels.ids, resized(labels.ids.shape, axis, labels.shape[axis]))
