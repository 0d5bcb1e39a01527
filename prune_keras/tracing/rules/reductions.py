"""Rules of what works along some axes: sums, means, extremes, softmax, sorting.

Along an axis of positions each channel is by itself. Along the axis of channels, a reduction is
over the ones that are left: for a sum that is the same as silencing the others, for all else the
report notes it. What gives every channel a new value from all of them fixes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers
from keras.src.ops import linalg, math, nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, varies
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import BATCH, moves_the_batch, without_batch
from prune_keras.tracing.rules.constants import join_constants
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit

SUMS = named(raw, "Sum Nansum")
REDUCTIONS = (
    *SUMS,
    *named(raw, "All Amax Amin Any CountNonzero Max Mean Median Min Prod Ptp Std Var"),
    *named(raw, "Nanmax Nanmean Nanmedian Nanmin Nanprod Nanstd Nanvar"),
    *(*named(math, "Logsumexp"), linalg.Norm),
)
QUANTILES = named(raw, "Nanpercentile Nanquantile Percentile Quantile")
POSITIONS = named(raw, "Argmax Argmin Nanargmax Nanargmin")
SOFTMAXES = (layers.Softmax, *named(nn, "Softmax LogSoftmax Sparsemax"))
ALONG = named(raw, "Argsort Cumprod Cumsum Nancumprod Nancumsum Roll Sort")


@register_rule(*REDUCTIONS, *POSITIONS, nn.Moments)
def reduced(visit: Visit, trace: Trace) -> Found:
    operation, x = visit.operation, visit.input
    axes = _axes(operation, x.rank)
    if not axes or BATCH in axes:
        return moves_the_batch(visit, trace)
    ids = _whole_along(trace, x.ids, axes)
    if any(varies(ids, axis) for axis in axes):
        _over_channels(visit, trace, ids)
        ids = trace.nothing(x.rank, f"{visit.path} leaves no channels")
    if not getattr(operation, "keepdims", False):
        ids = _without(ids, axes)
    return [ids] * len(visit.shapes)


@register_rule(*QUANTILES)
def quantile(visit: Visit, trace: Trace) -> Found:
    """Several quantiles lie along a new axis in front of the batch."""
    given = visit.argument(1, "q")
    single = not isinstance(given, list | tuple) and np.ndim(given) == 0
    return reduced(visit, trace) if single else moves_the_batch(visit, trace)


@register_rule(raw.Average)
def average(visit: Visit, trace: Trace) -> Found:
    if visit.argument(1, "weights") is not None:
        return trace.refuse(visit, f"{visit.path} weighs the entries that it adds")
    return reduced(visit, trace)


def _over_channels(visit: Visit, trace: Trace, ids: np.ndarray) -> None:
    if isinstance(visit.operation, POSITIONS):
        trace.fix(ids, f"{visit.path} tells the position of one of them")
    elif not isinstance(visit.operation, SUMS):
        trace.note(ids, f"{visit.path} is over the channels that are left")


def _without(ids: np.ndarray, axes: list[int]) -> np.ndarray:
    for axis in sorted(axes, reverse=True):
        ids = ids.take(0, axis)
    return ids


def _axes(operation: Any, rank: int) -> list[int]:
    """Return the axes along which an operation works, without the batch; none for all of them."""
    given = operation.axes if isinstance(operation, nn.Moments) else operation.axis
    return [] if given is None else [without_batch(a, rank) for a in np.atleast_1d(given).tolist()]


def _whole_along(trace: Trace, ids: np.ndarray, axes: list[int]) -> np.ndarray:
    """Unite along the axes what also differs along others, so that each lies there as a whole."""
    others = [axis for axis in range(ids.ndim) if axis not in axes]
    if any(varies(ids, axis) for axis in others):
        for axis in axes:
            trace.unite(ids, ids.take([0], axis))
            ids = ids.take([0], axis)
    return ids


@register_rule(*SOFTMAXES, *ALONG)
def along_axes(visit: Visit, trace: Trace) -> Found:
    axes = _axes(visit.operation, visit.input.rank)
    if not axes or BATCH in axes:
        return moves_the_batch(visit, trace)
    ids = _whole_along(trace, visit.input.ids, axes)
    for mask in visit.inputs[1:]:
        _masked(visit, trace, ids, mask)
    join_constants(visit, trace, Labels(ids, visit.shape))
    if any(varies(ids, axis) for axis in axes):
        softmax = isinstance(visit.operation, SOFTMAXES)
        does = "is a softmax over them" if softmax else "works along the axis on which they lie"
        trace.fix(ids, f"{visit.path} {does}")
        return trace.nothing(visit.input.rank, f"{visit.path} {does}")
    return ids


def _masked(visit: Visit, trace: Trace, ids: np.ndarray, mask: Labels) -> None:
    """Keep what a mask tells of, and the channels along an axis on which it differs."""
    trace.fix(mask.ids, f"{visit.path} takes them as a mask")
    shape = mask.shape if mask.rank == ids.ndim else (None, *mask.shape)  # it has no batch then
    for axis, size in enumerate(shape, ids.ndim - len(shape)):
        if size != 1 and varies(ids, axis):
            trace.fix(ids, f"{visit.path} has a mask along the axis on which they lie")


@register_rule(*named(nn, "Normalize"))
def by_a_norm(visit: Visit, trace: Trace) -> Found:
    """What is gone adds nothing to a norm."""
    axes = _axes(visit.operation, visit.input.rank)
    if not axes or BATCH in axes or not visit.operation.order > 0:
        return trace.refuse(visit, f"{visit.path} divides by another norm than that of a sample")
    for axis in (axis for axis in axes if varies(visit.input.ids, axis)):
        trace.along(visit.input, axis, visit.path)
    return trace.pointwise(visit)
