"""Rules of what moves, drops, repeats or joins entries without computing with them."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
from keras import layers
from keras.src.ops import image, nn
from keras.src.ops import numpy as raw

from prune_keras.labels import Labels, kept_sizes, varies, varying_axes
from prune_keras.rules.axes import channel_axis
from prune_keras.rules.registry import named, register_rule


@register_rule(
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.Cropping1D,
    layers.Cropping2D,
    layers.Cropping3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.UpSampling1D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    *named(layers, "AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D"),
    *named(layers, "AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D"),
    *named(nn, "AveragePool MaxPool AdaptiveAveragePool AdaptiveMaxPool"),
    *named(image, "CropImages ElasticTransform GaussianBlur PadImages Resize"),
)
def spatial(visit, trace):
    return _along_channels_only(visit, trace)


@register_rule(
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
def global_pooling(visit, trace):
    ids = _along_channels_only(visit, trace)
    return ids if visit.operation.keepdims else ids.reshape(-1)


def _along_channels_only(visit, trace) -> np.ndarray:
    """Return the ids along the channel axis; what the layer mixes must not differ elsewhere."""
    axis = channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    shape = [1] * visit.input.rank
    shape[axis] = -1
    return channels.reshape(shape)


@register_rule(layers.Flatten)
def flatten(visit, trace):
    ids = visit.input.full()
    if ids is None:
        return _unknown_size(visit, trace)
    if visit.operation.data_format == "channels_first" and ids.ndim > 1:
        ids = np.moveaxis(ids, 0, -1)
    return ids.reshape(-1)


@register_rule(layers.Reshape)
def reshape(visit, trace):
    ids = visit.input.full()
    if ids is None or None in visit.shape:
        return _unknown_size(visit, trace)
    ids = trace.rectangle(ids.reshape(visit.shape))
    shape = visit.shape
    for name in ("target_shape", "_resolved_target_shape"):  # the second one in older Keras
        if hasattr(visit.operation, name):
            trace.setting(visit.operation, name, ids, lambda mask: kept_sizes(mask, shape))
    return ids


def _unknown_size(visit, trace) -> np.ndarray:
    reason = f"{visit.path} reshapes an axis of unknown size"
    trace.fix(visit.input.ids, reason)
    return trace.nothing(len(visit.shape), reason)


@register_rule(layers.Concatenate, raw.Concatenate)
def concatenate(visit, trace):
    axis = visit.operation.axis
    return concatenated(visit, trace, axis if axis < 0 else axis - 1)


def concatenated(visit, trace, axis: int) -> np.ndarray:
    """Return the ids of tensors that are joined along an axis, counted without the batch."""
    if joins_constants(visit):
        return trace.refuse(visit, f"{visit.path} joins them with a constant array")
    if None in (labels.shape[axis] for labels in visit.inputs):
        joined = any(varies(labels.ids, axis) for labels in visit.inputs)
        return _unknown_size(visit, trace) if joined else same(visit, trace)
    parts = [_sized(labels, axis) for labels in visit.inputs]
    sizes = [np.array(part.shape) for part in parts]
    shape = np.max(sizes, axis=0)
    whole = [np.broadcast_to(p, [*_replaced(shape, axis, p.shape[axis])]) for p in parts]
    return trace.rectangle(np.concatenate(whole, axis=axis))


def joins_constants(visit) -> bool:
    """Tell whether not all that is joined is a tensor of the graph."""
    return len(visit.inputs) < len(keras.tree.flatten((visit.args, visit.kwargs)))


def same(visit, trace) -> np.ndarray:
    """Unite tensors that are joined along an axis on which none of them holds channels."""
    first, *others = visit.inputs
    for other in others:
        trace.unite(first.ids, other.ids)
    sizes = np.broadcast_shapes(*(labels.ids.shape for labels in visit.inputs))
    return np.broadcast_to(first.ids, sizes)


def _sized(labels: Labels, axis: int) -> np.ndarray:
    """Return ids at full size along one axis."""
    return np.broadcast_to(labels.ids, _replaced(labels.ids.shape, axis, labels.shape[axis]))


def _replaced(sizes, axis: int, size) -> tuple:
    sizes = list(sizes)
    sizes[axis] = size
    return tuple(sizes)


@register_rule(raw.Pad)
def pad(visit, trace):
    """Zero padding on a channel axis brings channels of its own, which can be removed."""
    widths = _pad_widths(visit.operation.pad_width, visit.input.rank + 1)
    ids = visit.input.ids
    for axis, (before, after) in enumerate(widths[1:]):
        if before or after:
            ids = _padded(visit, trace, ids, axis, before, after)
    if widths[0] != (0, 0):
        trace.fix(ids, f"{visit.path} pads the batch")
    return ids


def _padded(visit, trace, ids: np.ndarray, axis: int, before: int, after: int) -> np.ndarray:
    size = visit.input.shape[axis]
    if not varies(ids, axis) or size is None:
        return _padded_evenly(visit, trace, ids, axis)
    if visit.operation.mode != "constant" or len(varying_axes(ids)) > 1:
        return trace.fix(_padded_evenly(visit, trace, ids, axis), f"{visit.path} pads them")
    shape = _replaced(ids.shape, axis, -1)
    fresh = trace.fresh(before + after).reshape(shape)
    ids = np.concatenate(
        [fresh.take(range(before), axis), ids, fresh.take(range(before, before + after), axis)],
        axis=axis,
    )
    trace.setting(visit.operation, "pad_width", ids, _new_pad_width(visit, axis, before, after))
    return ids


def _padded_evenly(visit, trace, ids: np.ndarray, axis: int) -> np.ndarray:
    """Pad an axis that carries no channels, or tie the channels that it does carry."""
    if varies(ids, axis):
        trace.fix(ids, f"{visit.path} pads them")
    return ids.take([0], axis)


def _pad_widths(pad_width, rank: int) -> list[tuple[int, int]]:
    widths = [(w[0], w[-1]) for w in pad_width]
    return widths * rank if len(widths) == 1 else widths


def _new_pad_width(visit, axis: int, before: int, after: int) -> Callable:
    widths = _pad_widths(visit.operation.pad_width, visit.input.rank + 1)

    def new_pad_width(mask: np.ndarray) -> list[list[int]]:
        kept = mask.reshape(-1)
        changed = [list(width) for width in widths]
        changed[axis + 1] = [int(kept[:before].sum()), int(kept[len(kept) - after :].sum())]
        return changed

    return new_pad_width
