"""Rules of what turns numbers into vectors or categories, of preprocessing, and of functions."""

from __future__ import annotations

from keras import layers
from keras.src.ops import core, image, linalg, math, nn
from keras.src.ops import numpy as raw

from prune_keras.labels import count, vector
from prune_keras.rules.elementwise import pointwise
from prune_keras.rules.registry import named, register_rule
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
        "AutoContrast CenterCrop CutMix RandomContrast RandomCrop RandomElasticTransform "
        "RandomErasing RandomFlip RandomGaussianBlur RandomPerspective RandomRotation "
        "RandomSharpness RandomShear RandomTranslation RandomZoom Resizing",
    )
)(spatial)
register_rule(
    *named(layers, "MixUp RandomBrightness RandomInvert RandomPosterization Solarization")
)(pointwise)

KEPT = {
    "looks at all features": named(layers, "Masking"),
    "calls a function that cannot be looked into": (
        *named(layers, "FlaxLayer JaxLayer Lambda TFSMLayer TorchModuleWrapper"),
        *named(core, "AssociativeScan Cond ForiLoop Map Scan Switch VectorizedMap WhileLoop"),
    ),
    "names places, that of the batch among them": named(
        core, "Scatter ScatterUpdate Slice SliceUpdate"
    ),
    "takes the batch for one of its axes": named(
        raw, "Cross Dot Flipud Inner Kron Outer Ravel Tensordot Vdot Vsplit Vstack"
    ),
    "takes them for boxes": named(layers, "MaxNumBoundingBoxes"),
    "scales them by arrays of its own": named(nn, "BatchNorm"),
    "works on matrices, of which they are rows or columns": (
        *named(raw, "Diagonal Trace Tril Triu"),
        *named(
            linalg,
            "Cholesky CholeskyInverse Det Eig Eigh Inv LuFactor Lstsq MatrixRank Pinv Qr SVD Solve "
            "SolveTriangular",
        ),
        *named(math, "Logdet"),
    ),
    "turns them into categories": named(
        layers,
        "CategoryEncoding Discretization HashedCrossing Hashing IntegerLookup StringLookup "
        "TextVectorization",
    ),
    "takes them for colours": (
        *named(
            layers,
            "AugMix ContrastLimitedAdaptiveHistogramEqualization Equalization RandAugment "
            "RandomColorDegeneration RandomColorJitter RandomGrayscale RandomHue RandomSaturation",
        ),
        *named(image, "HSVToRGB RGBToGrayscale RGBToHSV"),
    ),
    "takes them for sound": (
        *named(layers, "MelSpectrogram STFTSpectrogram"),
        *named(math, "FFT FFT2 IFFT2 IRFFT ISTFT RFFT STFT"),
    ),
    "has a kernel that is no weight of a layer": named(
        nn, "Conv ConvTranspose DepthwiseConv SeparableConv"
    ),
    "turns numbers into categories": named(nn, "MultiHot OneHot"),
}


def _fixed(reason: str):
    def rule(visit, trace):
        return trace.refuse(visit, f"{visit.path} {reason}")

    return rule


for _reason, _operations in KEPT.items():
    register_rule(*_operations)(_fixed(_reason))
