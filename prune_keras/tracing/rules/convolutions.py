"""Rules of convolutions, whether they mix channels, keep them apart, or mix them in groups."""

from __future__ import annotations

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.labels import count, product, vector
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.axes import channel_axis, tied_groups
from prune_keras.tracing.rules.elementwise import fix_mixing_activation
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    units = trace.units(visit, _keras.kernel_of(layer), axis=-1, tap_axis=axis)
    times = _positions(visit.shape, axis)
    if 1 < layer.groups == len(channels):
        _apart(visit, trace, channels, units)
        trace.weight(visit, _keras.kernel_of(layer), {-1: units}, times=times)
        return _finished(visit, trace, units)
    reads = tied_groups(visit, trace, channels)
    tied_groups(visit, trace, units)
    trace.weight(visit, _keras.kernel_of(layer), {-2: reads, -1: units}, reads=(-2,), times=times)
    if layer.groups > 1:
        _at_least_two(visit, trace, reads)
    return _finished(visit, trace, units)


def _apart(visit: Visit, trace: Trace, channels: np.ndarray, units: np.ndarray) -> None:
    """Let each channel go as a whole group, with all filters that read nothing else."""
    multiplier = len(units) // len(channels)
    trace.unite(units, np.repeat(channels, multiplier))
    trace.setting(visit.operation, "groups", channels, count)
    if multiplier > 1:  # The filters of a single group would be free of each other.
        trace.at_least(units, 2 * multiplier)


def _at_least_two(visit: Visit, trace: Trace, reads: np.ndarray) -> None:
    """Keep two channels in a group: single ones go as groups, which no plan from here could say."""
    if len(reads) == 2:
        trace.fix(reads, f"{visit.path} has two of them in a group, which it needs")
    trace.at_least(reads, 2)


@register_rule(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def transposed(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    units = trace.units(visit, layer.kernel, axis=-2, tap_axis=axis)
    # Every position of the input is multiplied with the whole kernel.
    times = _positions(visit.input.shape, axis)
    trace.weight(visit, layer.kernel, {-1: channels, -2: units}, reads=(-1,), times=times)
    return _finished(visit, trace, units)


@register_rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    times = _positions(visit.shape, axis)
    trace.weight(visit, layer.kernel, {-2: channels}, times=times)
    filters = np.repeat(channels, layer.depth_multiplier)
    trace.weight(visit, layer.bias, {0: filters})
    fix_mixing_activation(visit, filters, trace, axis)
    return vector(filters, axis, visit.input.rank)


@register_rule(layers.SeparableConv1D, layers.SeparableConv2D)
def separable(visit: Visit, trace: Trace) -> np.ndarray:
    layer, axis = visit.operation, channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    units = trace.units(visit, layer.pointwise_kernel, axis=-1, tap_axis=axis)
    times = _positions(visit.shape, axis)
    trace.weight(visit, layer.depthwise_kernel, {-2: channels}, times=times)
    axes = {-2: np.repeat(channels, layer.depth_multiplier), -1: units}
    trace.weight(visit, layer.pointwise_kernel, axes, reads=(-2,), times=times)
    return _finished(visit, trace, units)


def _finished(visit: Visit, trace: Trace, units: np.ndarray) -> np.ndarray:
    """Record what all convolutions with filters have, and return the ids of their output."""
    layer = visit.operation
    trace.weight(visit, layer.bias, {0: units})
    trace.setting(layer, "filters", units, count)
    fix_mixing_activation(visit, units, trace, channel_axis(layer))
    return vector(units, channel_axis(layer), visit.input.rank)


def _positions(shape: tuple[int | None, ...], axis: int) -> int | None:
    return product(shape[1:] if axis == 0 else shape[:-1])
