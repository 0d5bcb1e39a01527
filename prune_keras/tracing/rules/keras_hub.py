"""KerasHub: layers whose own `call` says too little, and models that count their layers' channels.

KerasHub is not imported. Other layers of it are looked into like anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.labels import count, varies
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.attention import multi_head_attention
from prune_keras.tracing.rules.registry import register_by_name, register_counts
from prune_keras.tracing.visit import Visit

_LAYERS, _MODELS = "keras_hub.src.layers.modeling", "keras_hub.src.models"


@register_by_name(f"{_LAYERS}.cached_multi_head_attention.CachedMultiHeadAttention")
def cached_attention(visit: Visit, trace: Trace) -> Found:
    """Without a cache, it is Keras' own."""
    if visit.argument(4, "cache") is not None:
        return trace.refuse(visit, f"{visit.path} is given a cache")
    return multi_head_attention(visit, trace)


@register_by_name(
    f"{_LAYERS}.rotary_embedding.RotaryEmbedding",
    f"{_MODELS}.llama.llama_rotary_embedding.LlamaRotaryEmbedding",
    f"{_MODELS}.phi3.phi3_rotary_embedding.Phi3SuScaledRotaryEmbedding",
)
def rotary_embedding(visit: Visit, trace: Trace) -> np.ndarray:
    """What lies beside the axis that is rotated, such as heads, is passed on."""
    x, axis = visit.input, visit.operation.feature_axis % (visit.input.rank + 1) - 1
    for positions in visit.inputs[1:]:
        trace.fix(positions.ids, f"{visit.path} takes them for positions")
    if varies(x.ids, axis):
        trace.fix(x.ids, f"{visit.path} rotates pairs of them by angles that tell their number")
    return x.ids


@register_counts(f"{_MODELS}.gemma.gemma_backbone.GemmaBackbone")
def gemma_backbone(model: Any, trace: Trace) -> None:
    """All blocks have as many heads, and neurons inside, as the backbone says."""
    reason = f"{model.name} multiplies them with the root of their number"
    _keep(trace, model.token_embedding._embeddings, 1, reason)
    for block in model.transformer_layers:
        attention = block.attention
        _count(trace, model, "num_query_heads", attention.query_dense, 0)
        _count(trace, model, "num_key_value_heads", attention.key_dense, 0)
        _count(trace, model, "head_dim", attention.key_dense, 2)
        _count(trace, model, "intermediate_dim", block.gating_ffw, 1, lambda kept: 2 * count(kept))


@register_counts(f"{_MODELS}.causal_lm.CausalLM")
def causal_lm(model: Any, trace: Trace) -> None:
    """Of most backbones the cache of `generate` follows no cut of heads, or of their width."""
    if type(model.backbone).__name__ == "GemmaBackbone":
        return
    for layer in _keras.all_layers(model.backbone):
        for axis in _heads_made(layer):
            reason = f"the cache of {model.name} is made for as many"
            _keep(trace, _keras.kernel_of(layer), axis, reason)


def _heads_made(layer: Any) -> list[int]:
    """Return the axes of a kernel along which heads and their entries lie, if it makes any."""
    if not isinstance(layer, layers.EinsumDense):
        return []
    read, made = layer.equation.replace(" ", "").split("->")
    kernel = read.split(",")[1]
    return [axis for axis, sign in enumerate(kernel) if sign in made] if len(made) == 4 else []


def _count(
    trace: Trace,
    model: Any,
    name: str,
    dense: Any,
    axis: int,
    value: Callable[[np.ndarray], int] = count,
) -> None:
    along = trace.axes_of(_keras.kernel_of(dense)) or {}
    if axis in along:
        trace.setting(model, name, along[axis], value)


def _keep(trace: Trace, variable: Any, axis: int, reason: str) -> None:
    along = trace.axes_of(variable) or {}
    if axis in along:
        trace.fix(along[axis], reason)
