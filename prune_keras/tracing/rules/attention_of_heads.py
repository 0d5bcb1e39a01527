"""Rules of attention on heads: these stay, and lose the same channels of all three tensors.

Keras takes the three to be equally wide. A scale that is made of the width stays what it was.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras.src.ops import nn

from prune_keras import _keras
from prune_keras.tracing.labels import Labels, product, vector
from prune_keras.tracing.rules.registry import named, register_rule

TENSORS = ("query", "key", "value")


@register_rule(*named(nn, "DotProductAttention"))
def dot_product_attention(visit, trace):
    given = [visit.argument(place, name) for place, name in enumerate(TENSORS)]
    if not all(isinstance(each, Labels) for each in given):
        return trace.refuse(visit, f"{visit.path} is given a constant for one of its tensors")
    for labels in visit.inputs:
        if all(labels is not each for each in given):
            trace.fix(labels.ids, f"{visit.path} takes them as a mask or a bias")
    channels, *others = (trace.along(each, -1, visit.path) for each in given)
    for other in others:
        trace.unite(channels, other)
    if visit.argument(5, "scale") is None:
        trace.setting(visit.node, "arguments", channels, _scaled_as_before(visit.node))
    pairs = product([2, *given[0].shape[:-1], given[1].shape[0]])
    trace.multiplied([channels], pairs)
    return vector(channels, -1, len(visit.shape))


def _scaled_as_before(node: Any):
    """Return a function of what is kept that gives the scale which is made of the width."""
    place = (5,) if len(node.arguments.args) > 5 else ("scale",)

    def arguments(kept: np.ndarray) -> Any:
        scale = None if kept.all() else 1 / math.sqrt(kept.size)
        return _keras.with_arguments(node, {place: scale})

    return arguments
