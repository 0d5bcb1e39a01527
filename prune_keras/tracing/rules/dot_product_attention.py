"""Fused attention: whole heads go, or the same entries of all of them.

`keras.ops.dot_product_attention` is what attention written by hand ends in. Keras takes values to
be as wide as keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.ops import nn

from prune_keras.tracing.labels import Labels, product, varies
from prune_keras.tracing.rules.registry import named, register_rule

HEADS, WIDTH = 1, 2


@register_rule(*named(nn, "DotProductAttention"))
def dot_product_attention(visit, trace):
    """Several heads of queries share a head of keys and values, and go with it."""
    given = [visit.argument(place, name) for place, name in enumerate(("query", "key", "value"))]
    if not all(isinstance(labels, Labels) for labels in given):
        return trace.refuse(visit, f"{visit.path} has constants for queries, keys or values")
    heads = [varies(labels.ids, HEADS) for labels in given]
    if any(heads) and not any(varies(labels.ids, WIDTH) for labels in given):
        ids = _heads(visit, trace, *given)
        _keep_masked(visit, trace, ids)
        return visit.output(ids, HEADS)
    _keep_masked(visit, trace, None)
    return visit.output(_widths(visit, trace, given), WIDTH)


def _heads(visit, trace, query: Labels, key: Labels, value: Labels) -> np.ndarray:
    ids = trace.along(query, HEADS, visit.path)
    for shared in (key, value):
        heads = trace.along(shared, HEADS, visit.path)
        if len(heads) > 1:
            trace.unite(ids, np.repeat(heads, len(ids) // len(heads)))
    trace.multiplied([ids], _pairs(query, key, (2, query.shape[WIDTH])))
    return ids


def _widths(visit, trace, given: list[Labels]) -> np.ndarray:
    query, key, _ = given
    ids, *others = (trace.along(labels, WIDTH, visit.path) for labels in given)
    for other in others:
        trace.unite(ids, other)
    if visit.argument(5, "scale") is None:
        trace.fix(ids, f"{visit.path} divides by the root of their number")
    trace.multiplied([ids], _pairs(query, key, (2, query.shape[HEADS])))
    return ids


def _pairs(query: Labels, key: Labels, others: tuple) -> int | None:
    return product([query.shape[0], key.shape[0], *others])


def _keep_masked(visit, trace, heads: np.ndarray | None) -> None:
    """Keep what lies in a mask or bias, and heads that each have one of their own."""
    for place, name in ((3, "bias"), (4, "mask")):
        mask = visit.argument(place, name)
        if isinstance(mask, Labels):
            trace.fix(mask.ids, f"{visit.path} takes them as a {name}")
        if heads is not None and mask is not None and _differs_between_heads(mask):
            trace.fix(heads, f"{visit.path} has a {name} for each of them")


def _differs_between_heads(mask: Any) -> bool:
    shape = (None, *mask.shape) if isinstance(mask, Labels) else tuple(mask.shape)
    return len(shape) > 2 and shape[-3] != 1
