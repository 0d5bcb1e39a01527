"""Rules of dense layers, which make units of their own along the last axis."""

from __future__ import annotations

from keras import layers

from prune_keras.labels import count, product, vector
from prune_keras.rules import register_rule
from prune_keras.rules.elementwise import fix_mixing_activation


@register_rule(layers.Dense)
def dense(visit, trace):
    layer, x = visit.operation, visit.input
    features = trace.along(x, -1, visit.path)
    units = trace.units(visit, layer._kernel, axis=1, tap_axis=-1)
    times = product(x.shape[:-1])
    trace.weight(visit, layer._kernel, {0: features, 1: units}, reads=(0,), times=times)
    trace.weight(visit, layer.bias, {0: units})
    trace.setting(layer, "units", units, count)
    fix_mixing_activation(visit, units, trace)
    return vector(units, -1, x.rank)
