"""Rules of embeddings, which turn numbers into vectors."""

from __future__ import annotations

import numpy as np
from keras import layers

from prune_keras.tracing.labels import count, vector
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(layers.Embedding)
def embedding(visit: Visit, trace: Trace) -> np.ndarray:
    """The width of the vectors is prunable, the rows of the table are not."""
    layer, numbers = visit.operation, visit.input
    trace.fix(numbers.ids, f"{visit.path} takes them for numbers of rows")
    units = trace.units(visit, layer._embeddings, axis=1, tap_axis=-1)
    trace.weight(visit, layer._embeddings, {1: units})
    trace.setting(layer, "output_dim", units, count)
    return vector(units, -1, numbers.rank + 1)


@register_rule(*named(layers, "ReversibleEmbedding"))
def reversible_embedding(visit: Visit, trace: Trace) -> np.ndarray:
    """In reverse, its table or a second one of the same width reads the channels."""
    layer, x = visit.operation, visit.input
    if visit.argument(1, "reverse"):
        units, times = trace.along(x, -1, visit.path), x.positions(-1)
        trace.setting(layer, "output_dim", units, count)
        found = trace.nothing(x.rank, f"{visit.path} makes one entry for each row of its table")
    else:
        found, times = embedding(visit, trace), 0
        units = found.reshape(-1)
    if layer.tie_weights:
        trace.weight(visit, layer._embeddings, {1: units}, reads=(1,), times=times)
    else:
        trace.weight(visit, layer.reverse_embeddings, {0: units}, reads=(0,), times=times)
    return found
