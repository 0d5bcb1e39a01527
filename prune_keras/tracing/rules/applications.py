"""Rules of layers that networks of `keras.applications` define for themselves."""

from __future__ import annotations

from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.convolutions import count
from prune_keras.tracing.rules.elementwise import merge, pointwise
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit

register_rule(StochasticDepth)(pointwise)
register_rule(CustomScaleLayer)(merge)


@register_rule(LayerScale)
def layer_scale(visit: Visit, trace: Trace) -> Found:
    """Scale each channel by a weight of its own."""
    layer, x = visit.operation, visit.input
    if layer.projection_dim != x.shape[-1]:
        return trace.refuse(visit, f"{visit.path} broadcasts them against its scale")
    channels = trace.along(x, -1, visit.path)
    trace.weight(visit, layer.gamma, {0: channels})
    trace.setting(layer, "projection_dim", channels, count)
    return trace.pointwise(visit)
