"""Rules of what joins tensors into one."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, varies, varying_axes, vector
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import (
    BATCH,
    moves_the_batch,
    reshapes_the_unknown,
    resized,
    without_batch,
)
from prune_keras.tracing.rules.constants import Constant, constants_of, slice_along
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(raw.Stack)
def stacked(visit: Visit, trace: Trace) -> Found:
    """Tensors that are stacked stay equally wide: channel `j` of all of them is one."""
    axis = without_batch(visit.operation.axis, len(visit.shape))
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if joins_constants(visit):
        return trace.refuse(visit, f"{visit.path} stacks them with a constant array")
    return np.expand_dims(same(visit.inputs, trace), axis)


@register_rule(*named(raw, "Append Dstack Hstack"))
def joined(visit: Visit, trace: Trace) -> Found:
    axis = getattr(visit.operation, "axis", 2 if type(visit.operation).__name__ == "Dstack" else 1)
    rank = visit.input.rank
    axis = BATCH if axis is None or axis > rank else without_batch(axis, rank)
    return moves_the_batch(visit, trace) if axis == BATCH else concatenated(visit, trace, axis)


@register_rule(layers.Concatenate, raw.Concatenate)
def concatenate(visit: Visit, trace: Trace) -> Found:
    axis = without_batch(visit.operation.axis, visit.input.rank)
    return moves_the_batch(visit, trace) if axis == BATCH else concatenated(visit, trace, axis)


def concatenated(visit: Visit, trace: Trace, axis: int) -> np.ndarray:
    """Return the ids of tensors that are joined along an axis, counted without the batch."""
    inputs = _with_constants(visit, trace, axis)
    if None in (labels.shape[axis] for labels in inputs):
        joined = any(varies(labels.ids, axis) for labels in inputs)
        return reshapes_the_unknown(visit, trace) if joined else same(inputs, trace)
    parts = [_sized(labels, axis) for labels in inputs]
    sizes = [np.array(part.shape) for part in parts]
    shape = np.max(sizes, axis=0)
    whole = [np.broadcast_to(p, [*resized(shape, axis, p.shape[axis])]) for p in parts]
    return trace.rectangle(np.concatenate(whole, axis=axis))


def joins_constants(visit: Visit) -> bool:
    """Tell whether not all that is joined is a tensor of the graph."""
    return len(visit.inputs) < len(keras.tree.flatten((visit.args, visit.kwargs)))


def _with_constants(visit: Visit, trace: Trace, axis: int) -> list[Labels]:
    """Return all that is joined; a constant's entries go with channels, or are some themselves."""
    constants, cuts = {each.path: each for each in constants_of(visit)}, []
    found = []
    for path, value in _joined(visit):
        if isinstance(value, Labels):
            found.append(value)
            continue
        labels = _labels_of(constants[path], visit, trace, axis)
        found.append(labels)
        for each in varying_axes(labels.ids):
            ids = np.moveaxis(labels.ids, each, -1).reshape(-1, labels.ids.shape[each])[0]
            cuts.append((constants[path], each - labels.rank, ids))
    slice_along(visit, trace, cuts)
    return found


def _labels_of(constant: Constant, visit: Visit, trace: Trace, axis: int) -> Labels:
    """Return ids for a constant: new ones along the axis, or those of the channels beside it."""
    beside, shape = visit.input, constant.shape[1:]
    if varies(beside.ids, axis) or not varying_axes(beside.ids):
        return Labels(vector(trace.fresh(shape[axis]), axis, beside.rank), shape)
    return Labels(beside.ids.take([0], axis), shape)


def _joined(visit: Visit) -> list[tuple[tuple, Any]]:
    """Return what is joined, and where it lies among the arguments."""
    arguments = [*enumerate(visit.args), *visit.kwargs.items()]
    listed = [(place, value) for place, value in arguments if isinstance(value, list | tuple)]
    pairs: list = [((place, at), part) for place, value in listed for at, part in enumerate(value)]
    return pairs or [((place,), value) for place, value in arguments]


def same(inputs: list[Labels], trace: Trace) -> np.ndarray:
    """Unite tensors that are joined along an axis on which none of them holds channels."""
    first, *others = inputs
    for other in others:
        trace.unite(first.ids, other.ids)
    sizes = np.broadcast_shapes(*(labels.ids.shape for labels in inputs))
    return np.broadcast_to(first.ids, sizes)


def _sized(labels: Labels, axis: int) -> np.ndarray:
    """Return ids at full size along one axis."""
    return np.broadcast_to(labels.ids, resized(labels.ids.shape, axis, labels.shape[axis]))
