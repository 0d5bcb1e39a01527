"""Rules of what puts entries in another order or shape: the same on labels as on numbers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from keras import layers
from keras.src.ops import image, nn
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import (
    Labels,
    kept_sizes,
    product,
    varies,
    varying_axes,
    vector,
)
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import (
    BATCH,
    PERMUTING,
    channel_axis,
    keeps_the_batch,
    moves_the_batch,
    permutation,
    reshapes_the_unknown,
    tied_parts,
    without_batch,
)
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(layers.Permute, *PERMUTING)
def permuted(visit: Visit, trace: Trace) -> np.ndarray:
    x = visit.input
    order = permutation(visit.operation, x.rank + 1)
    return np.expand_dims(x.ids, x.batch).transpose(order).squeeze(order.index(x.batch))


@register_rule(raw.Reshape)
def reshaped(visit: Visit, trace: Trace) -> Found:
    operation, x, shape = visit.operation, visit.input, visit.shape
    new, same_batch = operation.newshape, keeps_the_batch(visit)
    ids = reshaped_ids(x, shape) if same_batch else _with_another_batch(x, shape)
    if isinstance(new, int) or (ids is None and not same_batch):
        return moves_the_batch(visit, trace)
    if ids is None:
        return trace.refuse(visit, f"{visit.path} reshapes an axis of unknown size")
    trace.rectangle(ids)

    def new_shape(mask: np.ndarray) -> tuple:
        sizes = zip(new[1:], kept_sizes(mask, shape), strict=True)
        return (new[0], *(given if given == -1 else size for given, size in sizes))

    trace.setting(operation, "newshape", ids, new_shape)
    return ids


def _with_another_batch(x: Labels, shape: tuple) -> np.ndarray | None:
    """Return ids in another shape, where axes in front of all channels join or leave the batch.

    None where the batch gets, or gives, a part of an axis behind the first one of channels.
    """
    first = next(iter(varying_axes(x.ids)), x.rank)
    for start in range(first, -1, -1):
        behind = x.shape[start:]
        for end in range(len(shape), -1, -1):
            if None not in behind and product(shape[end:]) == product(behind):
                ids = np.broadcast_to(x.ids.reshape(x.ids.shape[start:]), behind)  # type: ignore[arg-type]
                return ids.reshape((1,) * end + shape[end:])
    return None


@register_rule(raw.Squeeze)
def squeezed(visit: Visit, trace: Trace) -> Found:
    """Without an axis, those of size 1 are named: others may come to have one channel."""
    operation, x = visit.operation, visit.input
    given = operation.axis
    if given is None:
        axes = [axis for axis in range(x.rank) if x.shape[axis] == 1]
        if visit.node.input_tensors[0].shape[0] == 1:
            return moves_the_batch(visit, trace)
        if not axes:
            return trace.fix(x.ids, f"{visit.path} squeezes all axes of one channel")
        named_axes = axes[0] + 1 if len(axes) == 1 else tuple(axis + 1 for axis in axes)
        trace.setting(operation, "axis", x.ids, lambda mask: named_axes)
    else:
        axes = [without_batch(axis, x.rank) for axis in np.atleast_1d(given).tolist()]
    return moves_the_batch(visit, trace) if BATCH in axes else x.ids.squeeze(tuple(axes))


@register_rule(raw.ExpandDims)
def expanded(visit: Visit, trace: Trace) -> Found:
    axes = np.atleast_1d(visit.operation.axis).tolist()
    axes = [without_batch(axis, len(visit.shape)) for axis in axes]
    return moves_the_batch(visit, trace) if BATCH in axes else np.expand_dims(visit.input.ids, axes)


@register_rule(raw.Flip, *named(raw, "Fliplr"))
def flipped(visit: Visit, trace: Trace) -> Found:
    given, x = getattr(visit.operation, "axis", 1), visit.input
    axes = [] if given is None else np.atleast_1d(given).tolist()
    axes = [without_batch(axis, x.rank) for axis in axes]
    return (
        moves_the_batch(visit, trace) if BATCH in axes or not axes else np.flip(x.ids, tuple(axes))
    )


@register_rule(*named(raw, "Rot90"))
def turned(visit: Visit, trace: Trace) -> Found:
    operation, x = visit.operation, visit.input
    first, second = (without_batch(axis, x.rank) for axis in operation.axes)
    if BATCH in (first, second):
        return moves_the_batch(visit, trace)
    return np.rot90(x.ids, operation.k, (first, second))


@register_rule(layers.RepeatVector)
def repeated_vector(visit: Visit, trace: Trace) -> np.ndarray:
    return visit.input.ids[None]


@register_rule(raw.Repeat)
def repeated(visit: Visit, trace: Trace) -> Found:
    operation, x = visit.operation, visit.input
    axis = BATCH if operation.axis is None else without_batch(operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return x.ids
    repeats = np.ravel(operation.repeats).tolist()
    if len(repeats) > 1:
        channels = trace.along(x, axis, visit.path)
        trace.setting(
            operation,
            "repeats",
            channels,
            lambda mask: [times for times, kept in zip(repeats, mask, strict=True) if kept],
        )
    return np.repeat(x.ids, repeats, axis)


@register_rule(raw.Tile)
def tiled(visit: Visit, trace: Trace) -> Found:
    rank = visit.input.rank + 1
    repeats = np.ravel(visit.operation.repeats).tolist()
    repeats = [1] * (rank - len(repeats)) + repeats
    if len(repeats) > rank or repeats[0] != 1:
        return moves_the_batch(visit, trace)
    ids = visit.input.ids
    return np.tile(ids, [n if varies(ids, axis) else 1 for axis, n in enumerate(repeats[1:])])


@register_rule(raw.BroadcastTo)
def broadcast(visit: Visit, trace: Trace) -> Found:
    shape, x = tuple(visit.operation.shape), visit.input
    if len(shape) != x.rank + 1:
        return moves_the_batch(visit, trace)
    trace.setting(
        visit.operation, "shape", x.ids, lambda mask: (shape[0], *kept_sizes(mask, shape[1:]))
    )
    return x.ids


@register_rule(*named(nn, "DepthToSpace"))
def depth_to_space(visit: Visit, trace: Trace) -> np.ndarray:
    """The channels that become one channel's block of positions are one."""
    axis = channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    return vector(tied_parts(trace, channels, visit.operation.block_size**2), axis, 3)


@register_rule(*named(nn, "SpaceToDepth"), *named(image, "ExtractPatches"))
def space_to_depth(visit: Visit, trace: Trace) -> np.ndarray:
    """The channels follow one another once for each position of a block."""
    axis = channel_axis(visit.operation)
    channels = trace.along(visit.input, axis, visit.path)
    times = (visit.shape[axis] or 0) // len(channels)
    return vector(np.tile(channels, times), axis, visit.input.rank)


@register_rule(layers.Flatten)
def flatten(visit: Visit, trace: Trace) -> np.ndarray:
    ids = visit.input.full()
    if ids is None:
        return reshapes_the_unknown(visit, trace)
    if visit.operation.data_format == "channels_first" and ids.ndim > 1:
        ids = np.moveaxis(ids, 0, -1)
    return ids.reshape(-1)


@register_rule(layers.Reshape)
def reshape(visit: Visit, trace: Trace) -> np.ndarray:
    ids, shape = reshaped_ids(visit.input, visit.shape), visit.shape
    if ids is None:
        return reshapes_the_unknown(visit, trace)
    trace.rectangle(ids)
    for name in ("target_shape", "_resolved_target_shape"):  # the second one in older Keras
        if hasattr(visit.operation, name):
            given = getattr(visit.operation, name)
            trace.setting(visit.operation, name, ids, _new_target(given, shape))
    return ids


def _new_target(given: tuple, shape: tuple) -> Callable[[np.ndarray], tuple]:
    """Return a function of what is kept that returns a new target; what it leaves open stays so."""

    def new_target(mask: np.ndarray) -> tuple:
        sizes = zip(given, kept_sizes(mask, shape), strict=True)
        return tuple(-1 if old in (-1, None) else size for old, size in sizes)

    return new_target


def reshaped_ids(x: Labels, shape: tuple) -> np.ndarray | None:
    """Return ids in another shape, or None where open axes leave open how channels come to lie.

    An open axis stands for any size: two are tried, and channels must not lie along it.
    """
    if None not in (*x.shape, *shape):
        return np.broadcast_to(x.ids, x.shape).reshape(shape)  # type: ignore[arg-type]
    if shape.count(None) > 1:
        return None
    first, second = (_with_open_axes(x, shape, size) for size in (2, 3))
    same = first is not None and second is not None and np.array_equal(first, second)
    return first if same else None


def _with_open_axes(x: Labels, shape: tuple, least: int) -> np.ndarray | None:
    """Return ids in another shape for sizes of open axes that fit, from a least one on."""
    sizes = _fitting(x.shape, shape, least)
    if sizes is None:
        return None
    filled = [-1 if size is None else size for size in shape]
    ids = np.broadcast_to(x.ids, sizes).reshape(filled)
    if None not in shape:
        return ids
    axis = filled.index(-1)
    return None if varies(ids, axis) else ids.take([0], axis)


def _fitting(shape: tuple, wanted: tuple, least: int) -> list[int] | None:
    """Return a shape with sizes for its open axes, so that it can take the wanted one."""
    places = [axis for axis, size in enumerate(shape) if size is None]
    sizes = [size or 1 for size in shape]
    known, needed = math.prod(sizes), math.prod(size for size in wanted if size is not None)
    if None not in wanted:
        if len(places) != 1 or needed % known:
            return None
        sizes[places[0]] = needed // known
        return sizes
    for more, place in enumerate(places):
        sizes[place] = least + more
    sizes[places[0]] *= needed // math.gcd(known, needed)
    return sizes
