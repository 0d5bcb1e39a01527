"""Rules of layers that make channels of their own: Dense and convolutions."""

from __future__ import annotations

import numpy as np
from keras import layers

from prune_keras.labels import product, vector
from prune_keras.rules import register_rule
from prune_keras.rules.elementwise import activation_mixes


@register_rule(layers.Dense)
def dense(visit, trace):
    layer, x = visit.operation, visit.input
    features = trace.along(x, -1, visit.path)
    units = trace.units(visit, layer._kernel, axis=1, tap_axis=-1)
    times = product(x.shape[:-1])
    trace.weight(visit, layer._kernel, {0: features, 1: units}, reads=(0,), times=times)
    trace.weight(visit, layer.bias, {0: units})
    trace.setting(layer, "units", units, _count)
    _fix_mixing_activation(visit, units, trace)
    return _placed(x.ids, units, -1)


@register_rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(visit, trace):
    layer, x = visit.operation, visit.input
    axis = -1 if layer.data_format == "channels_last" else 0
    channels = trace.along(x, axis, visit.path)
    units = trace.units(visit, layer._kernel, axis=-1, tap_axis=axis)
    spatial = visit.shape[:-1] if axis == -1 else visit.shape[1:]
    reads = (-2,) if layer.groups == 1 else ()
    axes = {-2: channels, -1: units} if layer.groups == 1 else {-1: units}
    trace.weight(visit, layer._kernel, axes, reads=reads, times=product(spatial))
    trace.weight(visit, layer.bias, {0: units})
    trace.setting(layer, "filters", units, _count)
    _fix_mixing_activation(visit, units, trace)
    if layer.groups > 1:
        for ids in (channels, units):
            trace.fix(ids, f"{visit.path} is a grouped convolution")
    return vector(units, axis, x.rank)


def _count(mask: np.ndarray) -> int:
    return int(mask.sum())


def _placed(ids: np.ndarray, units: np.ndarray, axis: int) -> np.ndarray:
    """Return ids with another vector along one axis, the same at all other positions."""
    return vector(units, axis, ids.ndim)


def _fix_mixing_activation(visit, units: np.ndarray, trace) -> None:
    reason = activation_mixes(visit.operation.activation)
    if reason is not None:
        trace.fix(units, f"{visit.path}: {reason}")
