"""Rules of what maps each entry by itself: activations, noise, merges."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, varies, varying_axes
from prune_keras.tracing.rules.registry import named, register_rule

ELEMENTWISE_ACTIVATIONS = frozenset(
    "celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu "
    "linear log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign "
    "sparse_plus sparse_sigmoid squareplus swish tanh tanh_shrink threshold".split()
)

UNARY = (
    *(core.Cast, core.StopGradient, *named(core, "ConvertToTensor SaturateCast")),
    *named(
        raw,
        "Abs Absolute Angle Arccos Arccosh Arcsin Arcsinh Arctan Arctanh Cbrt Ceil Conj Conjugate "
        "Copy Cos Cosh Deg2rad Exp Exp2 Expm1 Fabs Floor I0 Imag Log Log10 Log1p Log2 NanToNum "
        "Negative Rad2deg Real Reciprocal Round Sign Sin Sinc Sinh Sqrt Square Tan Tanh Trunc",
    ),
    *named(
        nn,
        "Celu Elu Gelu HardShrink HardSigmoid HardSilu HardTanh LeakyRelu LogSigmoid Relu Relu6 "
        "Selu Sigmoid Silu SoftShrink Softplus Softsign SparsePlus SparseSigmoid Squareplus "
        "TanhShrink Threshold",
    ),
    *named(math, "Erf Erfc Erfinv Rsqrt"),
)
# What these return is no activation: truth values, bits, constants.
UNARY_WITHOUT_GRADIENT = named(
    raw,
    "BitwiseInvert BitwiseNot EmptyLike Isfinite Isinf Isnan Isneginf Isposinf Isreal LogicalNot "
    "OnesLike Signbit ZerosLike",
)
OF_SEVERAL = named(
    raw,
    "Add Arctan2 BitwiseAnd BitwiseLeftShift BitwiseOr BitwiseRightShift BitwiseXor Divide "
    "DivideNoNan Equal FloorDivide Fmax Fmin Fmod FullLike Gcd Greater GreaterEqual Heaviside "
    "Hypot Isclose Lcm Ldexp LeftShift Less LessEqual Logaddexp Logaddexp2 LogicalAnd LogicalOr "
    "LogicalXor Maximum Minimum Mod Multiply Nextafter NotEqual Power RightShift Select Subtract "
    "TrueDivide Where",
)


def activation_mixes(activation: Any) -> str | None:
    """Return why an activation may mix the units of a layer, or None if it does not."""
    if activation is None:
        return None
    name = getattr(activation, "__name__", type(activation).__name__)
    known = getattr(keras.activations, name, None) is activation
    if known and name in ELEMENTWISE_ACTIVATIONS:
        return None
    return f"its activation {name} is not known to act on each unit alone"


def fix_mixing_activation(visit, units: np.ndarray, trace) -> None:
    """Fix the units of a layer whose activation may mix them."""
    reason = activation_mixes(visit.operation.activation)
    if reason is not None:
        trace.fix(units, f"{visit.path}: {reason}")


@register_rule(
    layers.ActivityRegularization,
    layers.ELU,
    layers.GaussianDropout,
    layers.GaussianNoise,
    layers.Identity,
    layers.LeakyReLU,
    layers.ReLU,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    *UNARY,
)
def pointwise(visit, trace):
    return trace.pointwise(visit)


@register_rule(*UNARY_WITHOUT_GRADIENT)
def passed(visit, trace):
    return visit.input.ids


@register_rule(raw.Clip)
def clip(visit, trace):
    if max(np.size(visit.operation.x_min), np.size(visit.operation.x_max)) > 1:
        trace.fix(visit.input.ids, f"{visit.path} holds a bound for each of them")
    return trace.pointwise(visit)


@register_rule(layers.Activation)
def activation(visit, trace):
    reason = activation_mixes(visit.operation.activation)
    if reason is not None:
        trace.fix(visit.input.ids, f"{visit.path}: {reason}")
        return visit.input.ids
    return trace.pointwise(visit)


@register_rule(layers.Dropout, layers.AlphaDropout)
def dropout(visit, trace):
    shape = visit.operation.noise_shape
    if shape is not None:
        for axis, size in enumerate(shape[1:]):
            if size not in (None, 1) and varies(visit.input.ids, axis):
                trace.fix(visit.input.ids, f"the noise_shape of {visit.path} counts them")
    return trace.pointwise(visit)


@register_rule(
    layers.Add,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.Subtract,
    *OF_SEVERAL,
)
def merge(visit, trace):
    """Unite what meets at one entry; a tensor of one channel broadcasts without being united."""
    rank = len(visit.shape)
    tensors = [_aligned(labels, rank) for labels in visit.inputs]
    for constant in _constants(visit):
        _join_constant(visit, trace, tensors, tuple(np.shape(constant)))
    whole = [t for t in tensors if not _broadcasts(t, tensors)]
    if not whole:
        for labels in tensors:
            trace.fix(labels.ids, f"{visit.path} broadcasts them against each other")
        return trace.nothing(rank, f"{visit.path} broadcasts them against each other")
    for labels in tensors:
        if _broadcasts(labels, tensors) and varying_axes(labels.ids):
            for ids in (labels.ids, whole[0].ids):
                trace.fix(ids, f"{visit.path} broadcasts them against each other")
    for other in whole[1:]:
        trace.unite(whole[0].ids, other.ids)
    sizes = np.broadcast_shapes(*(t.ids.shape for t in whole))
    return np.broadcast_to(whole[0].ids, sizes)


def _join_constant(visit, trace, tensors: list[Labels], shape: tuple) -> None:
    """Fix the channels along an axis on which a constant array has an entry for each."""
    for axis, size in zip(range(-1, -len(shape) - 1, -1), reversed(shape), strict=True):
        for labels in tensors:
            if size > 1 and -axis <= labels.rank and varies(labels.ids, axis):
                trace.fix(labels.ids, f"{visit.path} joins them with a constant array")


def _constants(visit) -> list:
    flat = keras.tree.flatten((visit.args, visit.kwargs))
    return [value for value in flat if value is not None and not isinstance(value, Labels)]


def _aligned(labels: Labels, rank: int) -> Labels:
    missing = (1,) * (rank - labels.rank)
    return Labels(labels.ids.reshape(missing + labels.ids.shape), missing + labels.shape)


def _broadcasts(labels: Labels, others: list[Labels]) -> bool:
    """Tell whether a tensor has size 1 where another one has different channels."""
    return any(
        labels.shape[axis] == 1 and any(varies(other.ids, axis) for other in others)
        for axis in range(labels.rank)
    )
