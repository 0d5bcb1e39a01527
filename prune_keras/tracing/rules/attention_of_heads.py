"""Attention on heads: whole heads go, or the same channels of all heads and tensors.

Keras takes the three tensors to be equally wide. A scale that is made of the width stays what it
was. Several heads of queries share a head of keys and values, and go with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.ops import nn

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, product, varies, vector
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit

TENSORS = ("query", "key", "value")
HEADS, WIDTH = 1, 2


@register_rule(*named(nn, "DotProductAttention"))
def dot_product_attention(visit: Visit, trace: Trace) -> Found:
    given = [visit.argument(place, name) for place, name in enumerate(TENSORS)]
    if not all(isinstance(each, Labels) for each in given):
        return trace.refuse(visit, f"{visit.path} is given a constant for one of its tensors")
    by_head = any(varies(each.ids, HEADS) for each in given)
    by_head &= not any(varies(each.ids, WIDTH) for each in given)
    ids = (_heads if by_head else _widths)(visit, trace, *given)
    for place, name in ((3, "bias"), (4, "mask")):
        mask = visit.argument(place, name)
        if isinstance(mask, Labels):
            trace.fix(mask.ids, f"{visit.path} takes them as a mask or a bias")
        if by_head and mask is not None and _differs_between_heads(mask):
            trace.fix(ids, f"{visit.path} has a {name} for each of them")
    return vector(ids, HEADS if by_head else WIDTH, len(visit.shape))


def _heads(visit: Visit, trace: Trace, query: Labels, key: Labels, value: Labels) -> np.ndarray:
    ids = trace.along(query, HEADS, visit.path)
    for shared in (key, value):
        heads = trace.along(shared, HEADS, visit.path)
        if len(heads) > 1:
            trace.unite(ids, np.repeat(heads, len(ids) // len(heads)))
    trace.multiplied([ids], product([2, query.shape[0], key.shape[0], query.shape[WIDTH]]))
    return ids


def _widths(visit: Visit, trace: Trace, query: Labels, key: Labels, value: Labels) -> np.ndarray:
    ids, *others = (trace.along(each, WIDTH, visit.path) for each in (query, key, value))
    for other in others:
        trace.unite(ids, other)
    if visit.argument(5, "scale") is None:
        trace.setting(visit.node, "arguments", ids, _scaled_as_before(visit.node))
    trace.multiplied([ids], product([2, *query.shape[:-1], key.shape[0]]))
    return ids


def _differs_between_heads(mask: Any) -> bool:
    shape = (None, *mask.shape) if isinstance(mask, Labels) else tuple(mask.shape)
    return len(shape) > 2 and shape[-3] != 1


def _scaled_as_before(node: Any) -> Callable[[np.ndarray], Any]:
    """Return a function of what is kept that gives the scale which is made of the width."""
    place = (5,) if len(node.arguments.args) > 5 else ("scale",)

    def arguments(kept: np.ndarray) -> Any:
        scale = None if kept.all() else 1 / math.sqrt(kept.size)
        return _keras.with_arguments(node, {place: scale})

    return arguments
