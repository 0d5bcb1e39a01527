"""Steps of raw operations and structural layers, for the networks that are generated.

Where statistics over channels differ once some are gone, or a product reads channels without a
weight, a training step differs too: such steps are left out where the network has no noise.
"""

import numpy as np
from keras import layers, ops
from parts import LARGEST, SMALL

SAFE = [
    *(ops.abs, ops.negative, ops.sin, ops.cos, ops.tanh, ops.arctan, ops.square, ops.expm1),
    *(ops.sigmoid, ops.relu, ops.gelu, ops.softplus, ops.elu, ops.erf, ops.silu, ops.softsign),
    *(ops.stop_gradient, ops.leaky_relu, ops.relu6, ops.hard_sigmoid, ops.log_sigmoid, ops.copy),
]


def _raw(step):
    """Leave a step of raw operations out of Sequential models, and out where tensors are large."""

    def guarded(part, x):
        too_large = np.prod(x.shape[1:]) > LARGEST or len(x.shape) > 5
        return None if part.single or too_large else step(part, x)

    return guarded


def permutation(part, x):
    """Move axes: of space among each other, or the channels away and sometimes back."""
    order = list(range(1, len(x.shape)))
    if len(part.spatial(x)) > 1 and part.choices.yes():
        first, second = part.spatial(x)[:2]
        order[first - 1], order[second - 1] = second, first
        if part.single or part.choices.yes():
            return layers.Permute(order)(x)
        return part.choices.of((ops.transpose(x, (0, *order)), ops.swapaxes(x, first, second)))
    away = layers.Permute(order[::-1])(x)
    return away if part.single else layers.Permute(order[::-1])(ops.sin(away))


@_raw
def moved_axis(part, x):
    if len(x.shape) == 2:
        return None
    axis = part.axis(x)
    y = ops.tanh(ops.moveaxis(x, axis, 1))
    return ops.moveaxis(y, 1, axis) if part.choices.yes() else ops.moveaxis(y, [1], [-1])


@_raw
def unary(part, x):
    return part.choices.of(SAFE)(x)


@_raw
def arithmetic(part, x):
    """Numbers, constant arrays, quotients, powers, choices by comparison, bounds."""
    y = part.like(x)
    shape = [1] * len(x.shape)
    axis = part.choices.of(range(1, len(x.shape)))
    shape[axis] = x.shape[axis]
    array = ops.convert_to_tensor(np.linspace(-1, 1, x.shape[axis]).reshape(shape), dtype=x.dtype)
    return part.choices.of(
        (
            lambda: x + 3.0,
            lambda: 1.0 - x * 0.5,
            lambda: x * array,  # not plus: Keras takes an array on another axis for a bias
            lambda: ops.divide(x, 1.0 + ops.square(y)),
            lambda: ops.power(ops.abs(x) + 0.1, 2.0),
            lambda: ops.where(ops.greater(x, y), x, y),
            lambda: ops.where(x > 0.0, x, 0.1 * x),
            lambda: ops.clip(x, -0.5, 1.0),
            lambda: ops.logaddexp(x, y),
        )
    )()


@_raw
def splitting(part, x):
    """Split an axis, and give back a part, the sum of two, or all in another order."""
    axis = part.choices.of((part.axis(x), *range(1, len(x.shape))))
    size = x.shape[axis]
    if size < 2:
        return None
    if size % 2 == 0 and part.choices.yes():
        first, second = part.choices.of((ops.split, ops.array_split))(x, 2, axis=axis)
        if part.choices.yes(3):
            return ops.add(first, second)
    elif part.choices.yes(3):
        first, second = ops.array_split(x, 2, axis=axis)
    else:
        first, second = ops.split(x, [part.choices.number(1, size - 1)], axis=axis)
    how = part.choices.of(("first", "second", "swapped"))
    if how != "swapped":
        return first if how == "first" else second
    return layers.Concatenate(axis=axis)([second, ops.sin(first)])


@_raw
def stacking(part, x):
    """Stack and unstack, add an axis and squeeze it."""
    axis = part.choices.of(range(1, len(x.shape) + 1))
    if len(x.shape) < 5 and part.choices.yes():
        y = ops.stack([x, part.like(x)], axis=axis)
        if part.choices.yes():
            return y
        return ops.subtract(*ops.unstack(y, 2, axis=axis))
    if len(x.shape) > 2 and part.choices.yes():
        return part.choices.of(ops.unstack(x, axis=part.choices.of(part.spatial(x))))
    y = ops.tanh(ops.expand_dims(x, axis))
    return ops.squeeze(y, axis) if part.choices.yes() else ops.squeeze(y)


@_raw
def shuffle(part, x):
    """Shuffle channels between groups, or turn channels into positions."""
    channels = x.shape[-1]
    if not part.channels_last or channels % 2:
        return None
    spatial, count = list(x.shape[1:-1]), len(x.shape) - 2
    if count == 2 and channels % 4 == 0 and part.choices.yes():
        return _pixel_shuffle(part, x)
    if count == 2 and part.choices.yes(3) and all(size % 2 == 0 for size in spatial):
        return ops.nn.space_to_depth(x, 2) if hasattr(ops.nn, "space_to_depth") else None
    y = ops.reshape(x, (-1, *spatial, 2, channels // 2))
    y = ops.swapaxes(y, count + 1, count + 2)
    return ops.reshape(y, (-1, *spatial, channels))


def _pixel_shuffle(part, x):
    height, width, channels = x.shape[1:]
    if part.choices.yes() and hasattr(ops.nn, "depth_to_space"):
        return ops.nn.depth_to_space(x, 2)
    if part.choices.yes():
        y = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
        y = ops.transpose(y, (0, 1, 3, 2, 4, 5))
    else:
        y = ops.reshape(x, (-1, height, width, channels // 4, 2, 2))
        y = ops.transpose(y, (0, 1, 4, 2, 5, 3))
    return ops.reshape(y, (-1, height * 2, width * 2, channels // 4))


@_raw
def reduction(part, x):
    """Reduce over space, and over channels where no training step compares what is left."""
    kinds = [ops.mean, ops.sum, ops.max, ops.min, ops.var, ops.amax, ops.logsumexp]
    if part.noise:
        kinds += [ops.prod, ops.std, ops.median]
    reduce, axes = part.choices.of(kinds), list(range(1, len(x.shape)))
    if not part.noise:
        axes = part.spatial(x)
    if not axes:
        return None
    axis = part.choices.of((*axes, tuple(axes)))
    if part.choices.yes():
        return ops.multiply(x, ops.tanh(reduce(x, axis=axis, keepdims=True)))
    if len(x.shape) == 2 or (isinstance(axis, tuple) and len(axis) == len(x.shape) - 1):
        return None
    return reduce(x, axis=axis)


@_raw
def along_an_axis(part, x):
    """Softmax, running sums, sorting, reversing along any axis."""
    axis = part.choices.of(range(1, len(x.shape)))
    if x.shape[axis] == 1:
        return None
    kind = part.choices.of(("softmax", "layer", "log", "cumsum", "sort", "flip", "roll"))
    if kind == "layer":
        return layers.Softmax(axis=axis)(x)
    if kind == "roll":
        return ops.roll(x, 1, axis=axis)
    functions = {"softmax": ops.softmax, "log": ops.log_softmax, "cumsum": ops.cumsum}
    return (functions | {"sort": ops.sort, "flip": ops.flip})[kind](x, axis=axis)


@_raw
def repeating(part, x):
    axis = part.choices.of(range(1, len(x.shape)))
    if part.choices.yes():
        repeats = part.choices.of((2, [1 + i % 2 for i in range(x.shape[axis])]))
        return ops.repeat(x, repeats, axis=axis)
    repeats = [1] * len(x.shape)
    repeats[axis] = 2
    return ops.tile(x, repeats)


def repeated_vector(part, x):
    return layers.RepeatVector(2)(x) if len(x.shape) == 2 else None


@_raw
def picking(part, x):
    """Pick a position, add an axis, take by number."""
    axis = part.choices.of(range(1, len(x.shape)))
    key = [slice(None)] * len(x.shape)
    key[axis] = part.choices.number(-1, x.shape[axis] - 1)
    how = part.choices.of(("pick", "keep", "take"))
    if how == "take":
        return ops.take(x, [0, x.shape[axis] - 1], axis=axis)
    if how == "keep" or len(x.shape) == 2:
        key[axis : axis + 1] = [key[axis], None]
    return x[tuple(key)]


@_raw
def gated_half(part, x):
    return ops.glu(x, axis=-1) if x.shape[-1] % 2 == 0 and hasattr(ops, "glu") else None


@_raw
def product(part, x):
    """Multiply two tensors and sum: over positions, or over channels."""
    if len(x.shape) < 3 or not part.channels_last:
        return None
    size, channels = int(np.prod(x.shape[1:-1])), x.shape[-1]
    x = ops.reshape(part.weighted(x, channels), (-1, size, channels))
    width = part.choices.number(2, 4)
    if not part.noise or part.choices.yes():
        weights = ops.reshape(part.weighted(x, 1), (-1, size))
        return part.choices.of(
            (
                lambda: ops.einsum("btc,bt->bc", x, weights),
                lambda: layers.Dot(axes=1)([weights, x]),
                lambda: ops.einsum("...tc,...t->...tc", x, weights),
            )
        )()
    query, key = part.weighted(x, width), part.weighted(x, width)
    scores = part.choices.of(
        (
            lambda: ops.matmul(query, ops.transpose(key, (0, 2, 1))),
            lambda: ops.einsum("bqd,bkd->bqk", query, key),
            lambda: layers.Dot(axes=-1, normalize=part.choices.yes())([query, key]),
            lambda: ops.matmul(query, ops.ones((width, size), dtype=x.dtype) / 7),
        )
    )()
    return part.choices.of(
        (
            lambda: scores,
            lambda: ops.matmul(ops.softmax(scores), x),
            lambda: ops.einsum("bqk,bkc->bqc", ops.softmax(scores), x),
            lambda: ops.matmul(ops.transpose(x, (0, 2, 1)), key),
        )
    )()


def embedding(part, x):
    """Look numbers up that come from an input."""
    start = part.pool[0]
    if part.single or not part.channels_last or np.prod(start.shape[1:]) > LARGEST:
        return None
    numbers = start if len(start.shape) == 2 else start[..., 0]
    numbers = ops.cast(ops.sigmoid(numbers) * 4.999, "int32")
    return layers.Embedding(5, part.choices.number(2, SMALL))(numbers)


def images(part, x):
    """What resizes, crops or mirrors images; pooling to a given size."""
    if len(x.shape) != 4 or np.prod(x.shape[1:]) > LARGEST:
        return None
    form = {"data_format": part.data_format}
    kinds = [layers.Resizing(3, 4, **form), layers.CenterCrop(2, 2, **form)]
    if part.noise:
        kinds += [layers.RandomFlip(**form), layers.RandomTranslation(0.1, 0.1, **form)]
    if hasattr(layers, "AdaptiveAveragePooling2D"):
        kinds.append(layers.AdaptiveAveragePooling2D(2, **form))
    if any(x.shape[axis] < 2 for axis in part.spatial(x)):
        return None
    return part.choices.of(kinds)(x)


STRUCTURAL = (
    permutation,
    moved_axis,
    unary,
    arithmetic,
    splitting,
    stacking,
    shuffle,
    reduction,
    along_an_axis,
    repeating,
    repeated_vector,
    picking,
    gated_half,
    product,
    embedding,
    images,
)
