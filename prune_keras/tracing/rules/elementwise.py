"""Rules of what maps each entry by itself: activations, noise, merges."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import layers
from keras.src.activations import activations
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, Place, varies, varying_axes, vector
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.constants import Constant, join_constants
from prune_keras.tracing.rules.overriding import is_plain
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.rules.wrappers import inside, remember
from prune_keras.tracing.visit import Visit

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
    *named(activations, "Mish ReLU"),
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


def activation_mixes(activation: Any, trace: Trace, place: Place) -> str | None:
    """Return why an activation may mix the units of a layer, or None if it does not.

    Args:
        activation: what the layer calls.
        trace: the `Tracer`.
        place: where the units lie in what it is called on.
    """
    name = getattr(activation, "__name__", type(activation).__name__)
    if activation is None or (name in ELEMENTWISE_ACTIVATIONS and _is_of_keras(activation, name)):
        return None
    if isinstance(activation, layers.Layer) and not activation.built:
        return f"its activation {name} is not built yet; call the model once"
    if getattr(activation, "weights", ()):
        return f"its activation {name} has weights; call it behind the layer instead"
    why = trace.tried(activation, place)
    if why is None:
        return None
    reason = f"its activation {name} {why}"
    known = _is_of_keras(activation, name)
    return reason if known else f"{reason}; write one of keras.ops that maps each entry by itself"


def _is_of_keras(activation: Any, name: str) -> bool:
    return any(getattr(m, name, None) is activation for m in (keras.activations, keras.ops))


def activated(visit: Visit, given: Labels, trace: Trace) -> None:
    """Fix channels that the activation of a layer mixes; a PReLU has weights for each of them."""
    function = visit.operation.activation
    if isinstance(function, layers.PReLU) and is_plain(function):
        if not function.built:  # it will be, for the units that are there
            return
        remember(trace, function, given)
        call = inside(visit, function, [given.shape], given)
        trace.apply(dataclasses.replace(call, node=None))  # which is no call behind the layer's
        return
    for axis in varying_axes(given.ids):
        place = Place(given.ids.shape[axis], axis, given.rank, visit.operation.compute_dtype)
        reason = activation_mixes(function, trace, place)
        if reason is not None:
            trace.fix(given.ids, f"{visit.path}: {reason}")


def fix_mixing_activation(visit: Visit, units: np.ndarray, trace: Trace, axis: int = -1) -> None:
    """Fix the units of a layer, along an axis of its output, if its activation may mix them."""
    activated(visit, Labels(vector(units, axis, len(visit.shape)), visit.shape), trace)


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
def pointwise(visit: Visit, trace: Trace) -> np.ndarray:
    return trace.pointwise(visit)


@register_rule(*UNARY_WITHOUT_GRADIENT)
def passed(visit: Visit, trace: Trace) -> np.ndarray:
    return visit.input.ids


@register_rule(raw.Clip)
def clip(visit: Visit, trace: Trace) -> np.ndarray:
    """A bound for each channel goes with it."""
    axes = varying_axes(visit.input.ids)
    for name in ("x_min", "x_max"):
        bound = Constant((), getattr(visit.operation, name))
        for axis in (each - visit.input.rank for each in axes if bound.along(each, visit.input)):
            ids = trace.along(visit.input, axis, visit.path)
            trace.setting(visit.operation, name, ids, bound.slicer(axis))
    return trace.pointwise(visit)


@register_rule(layers.Activation)
def activation(visit: Visit, trace: Trace) -> np.ndarray:
    activated(visit, visit.input, trace)
    return trace.pointwise(visit)


@register_rule(layers.Dropout, layers.AlphaDropout)
def dropout(visit: Visit, trace: Trace) -> np.ndarray:
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
def merge(visit: Visit, trace: Trace) -> np.ndarray:
    """Unite what meets at one entry; a tensor of one channel broadcasts without being united."""
    rank = len(visit.shape)
    tensors = [_aligned(labels, rank) for labels in visit.inputs]
    whole = [t for t in tensors if not _broadcasts(t, tensors)]
    if not whole:
        for labels in tensors:
            trace.fix(labels.ids, f"{visit.path} broadcasts them against each other")
        return trace.nothing(rank, f"{visit.path} broadcasts them against each other")
    for labels in (t for t in tensors if _broadcasts(t, tensors)):
        axes = varying_axes(labels.ids)
        both = any(varies(other.ids, axis) for other in whole for axis in axes)
        for ids in (labels.ids, whole[0].ids)[: both + 1] if axes else ():
            trace.fix(ids, f"{visit.path} broadcasts them against each other")
    for other in whole[1:]:
        trace.unite(whole[0].ids, other.ids)
    sizes = np.broadcast_shapes(*(t.ids.shape for t in whole))
    # All of them are one now; what varies along fewest axes says so.
    plainest = min(whole, key=lambda labels: len(varying_axes(labels.ids)))
    ids = np.broadcast_to(plainest.ids, sizes)
    join_constants(visit, trace, Labels(ids, visit.shape))
    return ids


def _aligned(labels: Labels, rank: int) -> Labels:
    missing = (1,) * (rank - labels.rank)
    return Labels(labels.ids.reshape(missing + labels.ids.shape), missing + labels.shape)


def _broadcasts(labels: Labels, others: list[Labels]) -> bool:
    """Tell whether a tensor has size 1 where another one has different channels."""
    return any(
        labels.shape[axis] == 1 and any(varies(other.ids, axis) for other in others)
        for axis in range(labels.rank)
    )
