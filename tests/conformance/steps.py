"""Steps of which generated networks consist: each takes a tensor and returns another one.

A step is a function `step(part, x)` of the `Part` under construction; it returns None where it
does not apply to `x`.
"""

import keras
import numpy as np
from keras import layers, ops
from parts import LARGEST, Part
from steps_layers import (
    activation,
    activation_layer,
    batch_normalization,
    convolution,
    dense_on_last_axis,
    depthwise_convolution,
    grouped_convolution,
    noise,
    normalization,
    normalization_over_channels,
    pooling,
    prelu,
    rescaling,
    spatial_size,
    transposed_convolution,
)
from steps_sequences import STEPS_SEQUENCES

MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
BACKWARDS = keras.backend.backend() != "torch"  # has no slices with negative steps


def merge(part, x):
    if part.single:
        return None
    kind = part.choices.of((*MERGES, "raw"))
    y = part.like(x)
    if kind == "raw":
        return part.choices.of((ops.add, ops.subtract, ops.multiply, ops.maximum))(x, y)
    return getattr(layers, kind)()([x, y])


def residual(part, x):
    if part.single:
        return None
    y = part.weighted(x, x.shape[part.axis(x)], activation="relu")
    y = layers.BatchNormalization(axis=part.axis(x))(y)
    return layers.Activation("relu")(layers.Add()([x, part.weighted(y, x.shape[part.axis(x)])]))


def gate(part, x):
    """Multiply by something that is broadcast: over space, or over channels."""
    if part.single or len(x.shape) == 2:
        return None
    if part.choices.yes():
        one = part.weighted(x, 1, activation="sigmoid")
        return layers.Multiply()([x, one])
    pooled = part.layer("GlobalAveragePooling", x, keepdims=True)(x)
    pooled = part.weighted(pooled, x.shape[part.axis(x)], activation="sigmoid")
    return layers.Multiply()([x, pooled])


def concatenation(part, x):
    if part.single or np.prod(x.shape[1:]) > LARGEST:
        return None
    axis = part.choices.of([part.axis(x), *part.spatial(x)])
    if axis == part.axis(x) and part.choices.yes():
        y = part.weighted(x, part.choices.number(1, 3))
    else:
        y = part.like(x)
    return layers.Concatenate(axis=axis)([x, y] if part.choices.yes() else [y, x])


def slicing(part, x):
    """Take channels from one to another, by steps or backwards, or every second position."""
    if part.single:
        return None
    key = [slice(None)] * len(x.shape)
    if part.spatial(x) and part.choices.yes():
        for axis in part.spatial(x):
            key[axis] = slice(None, None, 2)
        return x[tuple(key)]
    axis = part.axis(x)
    start = part.choices.number(0, x.shape[axis] - 1)
    key[axis] = slice(start, part.choices.number(start + 1, x.shape[axis]))
    if part.choices.yes(3):
        key[axis] = slice(None, None, part.choices.of((2, -1) if BACKWARDS else (2,)))
    if axis == len(x.shape) - 1 and part.choices.yes():
        return x[..., key[axis]]
    return x[tuple(key)]


def zero_padding(part, x):
    """Pad space or channels with zeros by a raw operation."""
    if part.single or np.prod(x.shape[1:]) > LARGEST:
        return None
    axis = part.choices.of([part.axis(x), *part.spatial(x)])
    widths = [[0, 0] for _ in x.shape]
    widths[axis] = [part.choices.number(0, 2), part.choices.number(1, 2)]
    return ops.pad(x, widths)


def padded_shortcut(part, x):
    """A residual block of half the size and more channels, its shortcut padded with zeros."""
    if part.single or len(x.shape) == 2:
        return None
    axis = part.axis(x)
    before, after = part.choices.number(0, 1), part.choices.number(1, 2)
    y = part.weighted(x, x.shape[axis] + before + after, kernel_size=3, strides=2)
    key, widths = [slice(None)] * len(x.shape), [[0, 0] for _ in x.shape]
    for each in part.spatial(x):
        key[each] = slice(None, None, 2)
    widths[axis] = [before, after]
    return layers.Add()([y, ops.pad(x[tuple(key)], widths)])


def shared_layer(part, x):
    """Call one layer twice: on its own output, or on two tensors."""
    if part.single:
        return None
    width = x.shape[part.axis(x)]
    if len(x.shape) == 2:
        layer = layers.Dense(width, activation="tanh")
    else:
        layer = part.convolution(x, width, kernel_size=1, activation="tanh")
    y = layer(x)
    return layer(y) if part.choices.yes() else layers.Add()([y, layer(part.like(x))])


def nested_model(part, x):
    """Call a small model once, or twice."""
    inner = Part(part.choices, len(x.shape) - 2, part.data_format, part.noise)
    inner.single = part.choices.yes()
    start = keras.Input(x.shape[1:])
    inner.pool.append(start)
    y = inner.weighted(start, x.shape[part.axis(x)], activation="relu")
    for _ in range(part.choices.number(1, 2)):
        inside = part.choices.of((batch_normalization, activation_layer, convolution, residual))
        found = inside(inner, y)
        y = y if found is None else found
    y = inner.weighted(y, x.shape[part.axis(x)])
    model = keras.Sequential(_chain(y)) if inner.single else keras.Model(start, y)
    outer = model(x)
    return model(outer) if part.choices.yes(3) and outer.shape == x.shape else outer


def _chain(output) -> list:
    operation, node, _ = output._keras_history
    if isinstance(operation, layers.InputLayer):
        return [operation]
    return [*_chain(operation._inbound_nodes[node].input_tensors[0]), operation]


def flat_and_back(part, x):
    """Flatten, or merge spatial axes; sometimes split them again."""
    if len(x.shape) == 2:
        width = part.choices.number(2, 3)
        shape = part.choices.of(((2, width), (2, 2, width), (2 * width, 1)))
        y = layers.Dense(int(np.prod(shape)), activation=part.choices.of((None, "relu")))(x)
        return layers.Reshape(shape)(y)
    if part.choices.yes(3):
        return layers.Flatten(data_format=part.choices.of((None, part.data_format)))(x)
    if not part.channels_last:
        return None
    return layers.Reshape((int(np.prod(x.shape[1:-1])), x.shape[-1]))(x)


def mixing(part, x):
    """A layer that ties channels, or has no rule: what it reads is fixed."""
    permuted = layers.Permute(tuple(range(1, len(x.shape)))[::-1])
    if x.shape[-1] == 1:
        return permuted(x)
    softmax = part.choices.of((layers.Softmax(), layers.Activation("softmax")))
    return part.choices.of((permuted, softmax))(x)


STEPS = (
    *(2 * (convolution, batch_normalization, activation, merge, residual, concatenation)),
    transposed_convolution,
    depthwise_convolution,
    grouped_convolution,
    normalization_over_channels,
    prelu,
    dense_on_last_axis,
    activation_layer,
    pooling,
    spatial_size,
    noise,
    rescaling,
    normalization,
    gate,
    slicing,
    zero_padding,
    padded_shortcut,
    shared_layer,
    nested_model,
    flat_and_back,
    mixing,
    *STEPS_SEQUENCES,
)
