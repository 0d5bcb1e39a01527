"""Rules of layers that scale channels: by statistics of each one, or of all that are there."""

from __future__ import annotations

import math

import numpy as np
from keras import layers
from keras.src.ops import nn

from prune_keras.tracing.labels import Labels, varies
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import tied_groups, without_batch
from prune_keras.tracing.rules.constants import constants_of, slice_along
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(layers.BatchNormalization)
def batch_normalization(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, without_batch(visit.operation.axis, visit.input.rank)
    channels = trace.along(visit.input, axis, visit.path)
    for variable in layer.weights:
        trace.weight(visit, variable, {0: channels})
    return trace.pointwise(visit)


@register_rule(layers.LayerNormalization, layers.UnitNormalization)
def over_channels(visit: Visit, trace: Trace) -> Found:
    """Divide by a statistic over some axes; what is gone takes no part in it any more."""
    axes = visit.operation.axis
    axes = [axes] if isinstance(axes, int) else axes
    axes = [without_batch(axis, visit.input.rank) for axis in axes]
    weights = getattr(visit.operation, "weights", ())
    along = {
        position: trace.along(visit.input, axis, visit.path)
        for position, axis in enumerate(axes)
        if varies(visit.input.ids, axis)
    }
    if along and weights and axes != sorted(axes):
        # Keras lays the weights out in the order of the tensor's axes, whatever that of their own.
        trace.fix(visit.input.ids, f"{visit.path} holds scales in another order than its axes")
        along = {}
    for variable in weights:
        trace.weight(visit, variable, along)
    if along:
        trace.note(visit.input.ids, f"{visit.path} normalizes over the channels that are left")
    return trace.pointwise(visit)


if hasattr(layers, "RMSNormalization"):  # older Keras has none
    register_rule(layers.RMSNormalization)(over_channels)


@register_rule(*named(nn, "LayerNorm RMSNorm"))
def unscaled(visit: Visit, trace: Trace) -> Found:
    """Arrays of scales and offsets that a raw operation is given go with the channels."""
    axes = np.atleast_1d(visit.operation.axis).tolist()
    if not isinstance(visit.argument(0, "x"), Labels) or len(visit.inputs) > 1:
        return trace.refuse(visit, f"{visit.path} takes scales from the graph")
    if constants_of(visit) and len(axes) > 1:
        return trace.refuse(visit, f"{visit.path} scales them by arrays of several axes")
    _slice_vectors(visit, trace, axes[0])
    return over_channels(visit, trace)


@register_rule(*named(nn, "BatchNorm"))
def by_given_statistics(visit: Visit, trace: Trace) -> Found:
    """Means, variances, scales and offsets that a raw operation is given."""
    if not isinstance(visit.argument(0, "x"), Labels) or len(visit.inputs) > 1:
        return trace.refuse(visit, f"{visit.path} takes statistics from the graph")
    _slice_vectors(visit, trace, visit.operation.axis)
    return trace.pointwise(visit)


def _slice_vectors(visit: Visit, trace: Trace, axis: int) -> None:
    """Let constant vectors lose the entries of the channels that go along an axis."""
    axis = without_batch(axis, visit.input.rank)
    if varies(visit.input.ids, axis):
        channels = trace.along(visit.input, axis, visit.path)
        slice_along(visit, trace, [(each, 0, channels) for each in constants_of(visit)])


@register_rule(layers.GroupNormalization)
def group_normalization(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, without_batch(visit.operation.axis, visit.input.rank)
    channels = trace.along(visit.input, axis, visit.path)
    for variable in layer.weights:
        trace.weight(visit, variable, {0: channels})
    tied_groups(visit, trace, channels)
    trace.note(channels, f"{visit.path} normalizes over the channels that are left in a group")
    return trace.pointwise(visit)


@register_rule(layers.Normalization)
def normalization(visit: Visit, trace: Trace) -> np.ndarray:
    layer, ids = visit.operation, visit.input.ids
    for variable in layer.weights:
        trace.weight(visit, variable, {})
    if any(varies(ids, without_batch(axis, visit.input.rank)) for axis in layer.axis):
        trace.fix(ids, f"{visit.path} holds a mean and a variance for each of them")
    return trace.pointwise(visit)


@register_rule(layers.Rescaling)
def rescaling(visit: Visit, trace: Trace) -> np.ndarray:
    layer = visit.operation
    if any(math.prod(np.shape(each)) > 1 for each in (layer.scale, layer.offset)):
        trace.fix(visit.input.ids, f"{visit.path} holds a scale or an offset for each of them")
    return trace.pointwise(visit)


@register_rule(layers.PReLU)
def prelu(visit: Visit, trace: Trace) -> np.ndarray:
    alpha, x = visit.operation.alpha, visit.input
    axes = {
        axis: trace.along(x, axis, visit.path)
        for axis in range(x.rank)
        if alpha.shape[axis] > 1 and varies(x.ids, axis)
    }
    trace.weight(visit, alpha, axes)
    return trace.pointwise(visit)
