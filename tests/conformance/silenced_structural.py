"""The reference's part for raw operations and structural layers; see `silenced.Silenced`."""

import keras
import numpy as np
from keras import layers, ops
from keras.src.ops import core, image, linalg, math, nn
from keras.src.ops import numpy as raw


def _named(module, names: str) -> tuple:
    return tuple(getattr(module, name) for name in names.split() if hasattr(module, name))


MOVING = (
    *(layers.Permute, layers.RepeatVector, core.Unstack),
    *_named(raw, "ArraySplit BroadcastTo ExpandDims Flip Moveaxis Repeat Reshape Split Squeeze"),
    *_named(raw, "Stack Swapaxes Take Tile Transpose"),
    *_named(raw, "Append Dsplit Dstack Fliplr Hsplit Hstack Rot90"),
    *_named(nn, "DepthToSpace SpaceToDepth"),
    *_named(image, "ExtractPatches"),
)
POINTWISE = (
    *_named(raw, "Abs Absolute Arctan Clip Copy Cos Expm1 Negative Sin Square Tanh"),
    *_named(nn, "Elu Gelu HardSigmoid LeakyRelu LogSigmoid Relu Relu6 Sigmoid Silu"),
    *_named(nn, "Softplus Softsign"),
    *(core.StopGradient, math.Erf, core.Cast, core.ConvertToTensor),
)
MERGES = _named(raw, "Divide Greater Logaddexp Power TrueDivide Where")
REDUCTIONS = (
    *_named(raw, "Amax Max Mean Median Min Prod Std Sum Var"),
    *(math.Logsumexp, linalg.Norm),
)
ALONG = (layers.Softmax, *_named(nn, "LogSoftmax Softmax"), raw.Cumsum, raw.Roll, raw.Sort)
PRODUCTS = (raw.Matmul, raw.Einsum, layers.Dot)
IMAGES = (
    *_named(layers, "AdaptiveAveragePooling2D CenterCrop RandomFlip RandomTranslation Resizing"),
    *_named(image, "CropImages GaussianBlur PadImages Resize"),
)


def works_along(operation) -> bool:
    """Tell whether an operation works along one axis, the last one if it names none."""
    held = getattr(operation, "activation", None)
    is_softmax = isinstance(operation, layers.Activation) and held is keras.activations.softmax
    return is_softmax or isinstance(operation, ALONG)


def moved(operation, args) -> list[np.ndarray]:
    """Run what only moves entries on masks: on two samples, so that the batch is no axis of 1."""

    def doubled(value):
        if not isinstance(value, np.ndarray):
            return value
        return ops.convert_to_tensor(np.repeat(value, 2, axis=0), dtype="float32")

    found = keras.tree.flatten(operation(*keras.tree.map_structure(doubled, args)))
    return [np.array(ops.convert_to_numpy(each), np.float64)[:1] for each in found]


def half_gated(reference, operation, mask):
    """Both halves must be the same; one is left."""
    first, second = np.split(mask, 2, axis=operation.axis)
    reference._unite(first, second)
    return first


def axes_of(operation, rank: int) -> list[int]:
    return [axis % rank for axis in np.atleast_1d(getattr(operation, "axis", -1)).tolist()]


def whole_along(reference, operation, mask):
    """Return the mask with size 1 along an operation's axes, or None if it varies there alone."""
    axes = axes_of(operation, mask.ndim)
    known = reference._resolved(mask)
    others = [axis for axis in range(mask.ndim) if axis not in axes]
    if not any((known != known.take([0], axis)).any() for axis in others):
        return None if (known != known.flat[0]).any() else mask[tuple(_first(mask.ndim, axes))]
    whole = mask[tuple(_first(mask.ndim, axes))]
    reference._unite(mask, np.broadcast_to(whole, mask.shape))
    return whole


def _first(rank: int, axes: list[int]) -> list:
    return [slice(0, 1) if axis in axes else slice(None) for axis in range(rank)]


def reduced(reference, operation, mask):
    axes = axes_of(operation, mask.ndim)
    whole = whole_along(reference, operation, mask)
    if whole is None:
        whole = np.ones([1 if i in axes else size for i, size in enumerate(mask.shape)])
    return whole if operation.keepdims else whole.squeeze(tuple(axes))


def reduced_over_kept(operation, given, mask):
    """Reduce what is left of a tensor; entries of what is gone become zero."""
    axes = axes_of(operation, mask.ndim)
    others = [tuple(i for i in range(mask.ndim) if i != axis) for axis in range(1, mask.ndim)]
    places = [np.flatnonzero(mask.any(axis=other)) for other in others]
    value = np.array(ops.convert_to_numpy(given))
    places = [np.arange(len(value)), *places]
    found = ops.convert_to_numpy(operation(ops.convert_to_tensor(value[np.ix_(*places)])))
    whole = np.zeros([1 if i in axes else size for i, size in enumerate(value.shape)], value.dtype)
    left = [[0] if axis in axes else place for axis, place in enumerate(places)]
    whole[np.ix_(*left)] = found.reshape([len(place) for place in left])
    whole = whole if operation.keepdims else whole.squeeze(tuple(axes))
    return ops.convert_to_tensor(whole)


def along(reference, operation, mask):
    """A channel is as a whole along the axes, or channels are mixed and all there."""
    if whole_along(reference, operation, mask) is None:
        reference._unite(mask, np.ones_like(mask))
    return mask


def multiplied(reference, operation, args) -> np.ndarray:
    """An entry of a product is left if a term of its sum is."""
    final = keras.tree.map_structure(
        lambda v: (
            reference._final(v).astype(float)
            if isinstance(v, np.ndarray)
            else ops.ones(np.shape(v), "float32")
        ),
        args,
    )
    return (moved(operation, final)[0] > 0).astype(float)
