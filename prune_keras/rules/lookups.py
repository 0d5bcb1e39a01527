"""Rules of what turns numbers into vectors or categories, of preprocessing, and of functions."""

from __future__ import annotations

from keras import layers
from keras.src.ops import nn

from prune_keras.labels import vector
from prune_keras.rules import named, register_rule
from prune_keras.rules.convolutional import count
from prune_keras.rules.elementwise import pointwise
from prune_keras.rules.structural import spatial


@register_rule(layers.Embedding)
def embedding(visit, trace):
    """The width of the vectors is prunable, the rows of the table are not."""
    layer, numbers = visit.operation, visit.input
    trace.fix(numbers.ids, f"{visit.path} takes them for numbers of rows")
    units = trace.units(visit, layer._embeddings, axis=1, tap_axis=-1)
    trace.weight(visit, layer._embeddings, {1: units})
    trace.setting(layer, "output_dim", units, count)
    return vector(units, -1, numbers.rank + 1)


@register_rule(*named(layers, "ReversibleEmbedding"))
def reversible_embedding(visit, trace):
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


# In inference these are the identity, or move positions; in training they do to all channels
# alike what they do.
register_rule(
    *named(
        layers,
        "CenterCrop RandomContrast RandomCrop RandomFlip RandomPerspective RandomRotation "
        "RandomShear RandomTranslation RandomZoom Resizing",
    )
)(spatial)
register_rule(*named(layers, "RandomBrightness"))(pointwise)

_FIXED = {
    "looks at all features": named(layers, "Masking"),
    "calls a function that cannot be looked into": named(layers, "Lambda"),
    "turns them into categories": named(
        layers,
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup "
        "TextVectorization",
    ),
    "takes them for colours": named(
        layers,
        "AugMix AutoContrast ContrastLimitedAdaptiveHistogramEqualization CutMix Equalization "
        "MixUp RandAugment RandomColorDegeneration RandomColorJitter RandomElasticTransform "
        "RandomErasing RandomGaussianBlur RandomGrayscale RandomHue RandomInvert "
        "RandomPosterization RandomSaturation RandomSharpness Solarization",
    ),
    "takes them for sound": named(layers, "MelSpectrogram STFTSpectrogram"),
    "has a kernel that is no weight of a layer": named(
        nn, "Conv ConvTranspose DepthwiseConv SeparableConv"
    ),
    "turns numbers into categories": named(nn, "MultiHot OneHot"),
}


def _fixed(reason: str):
    def rule(visit, trace):
        return trace.refuse(visit, f"{visit.path} {reason}")

    return rule


for _reason, _operations in _FIXED.items():
    register_rule(*_operations)(_fixed(_reason))
