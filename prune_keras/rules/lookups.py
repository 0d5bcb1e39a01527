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
