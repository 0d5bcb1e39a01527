"""Rules of dense layers, which make units of their own along the last axis."""

from __future__ import annotations

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.labels import count, product, varying_axes, vector
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.elementwise import fix_mixing_activation
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit


@register_rule(layers.Dense)
def dense(visit: Visit, trace: Trace) -> np.ndarray:
    x = visit.input
    axes = varying_axes(x.ids)
    if len(axes) == 1 and axes[0] != x.rank - 1:
        return _of_positions(visit, trace, axes[0])
    features = trace.along(x, -1, visit.path)
    units = _units(visit, trace, features, product(x.shape[:-1]))
    fix_mixing_activation(visit, units, trace)
    return vector(units, -1, x.rank)


def _units(visit: Visit, trace: Trace, features: np.ndarray, times: int | None) -> np.ndarray:
    layer = visit.operation
    units = trace.units(visit, _keras.kernel_of(layer), axis=1, tap_axis=-1)
    trace.weight(visit, _keras.kernel_of(layer), {0: features, 1: units}, reads=(0,), times=times)
    trace.weight(visit, layer.bias, {0: units})
    trace.setting(layer, "units", units, count)
    return units


def _of_positions(visit: Visit, trace: Trace, axis: int) -> np.ndarray:
    """Pass on the channels beside what is read; an entry has one, so that the units stay."""
    x, reason = visit.input, f"{visit.path} reads positions, and the channels lie beside them"
    width = x.shape[-1:]
    features = np.broadcast_to(trace.nothing(1, reason), width)  # type: ignore[arg-type]  # known
    units = trace.fix(_units(visit, trace, features, 0), reason)
    channels, each = trace.along(x, axis, visit.path), x.positions(axis)
    trace.at_least(channels, 2)  # with one, a thin model no longer shows why the units stay
    trace.multiplied([channels], product([each, len(units)]))
    return vector(channels, axis, x.rank)
