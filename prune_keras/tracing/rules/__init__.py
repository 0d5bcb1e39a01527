"""One short rule a layer type: how channel labels pass through it, and what carries them.

A rule is a function `rule(visit, trace) -> ids` of a `Visit` (the layer and the labels that come
in) and the `Tracer` it reports to. It returns the channel ids of the output, or a list of those of
all outputs. What has no rule is never guessed: its channels stay, and the report says so.
"""

from __future__ import annotations

from prune_keras.tracing.rules import (  # noqa: F401, they register their rules
    applications,
    attention,
    attention_of_heads,
    convolutions,
    dense,
    einsum_dense,
    elementwise,
    embeddings,
    joining,
    keras_hub,
    masked,
    normalization,
    padding,
    pooling,
    products,
    recurrent,
    reductions,
    refused,
    reshaping,
    slicing,
    wrappers,
)
