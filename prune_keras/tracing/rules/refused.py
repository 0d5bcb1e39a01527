"""What is known and not looked into: it keeps the channels that it touches, for a reason."""

from __future__ import annotations

import numpy as np
from keras import layers
from keras.src.ops import core, image, linalg, math, nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.rule import Rule, Trace
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit

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


def _fixed(reason: str) -> Rule:
    def rule(visit: Visit, trace: Trace) -> list[np.ndarray]:
        return trace.refuse(visit, f"{visit.path} {reason}")

    return rule


for _reason, _operations in KEPT.items():
    register_rule(*_operations)(_fixed(_reason))
