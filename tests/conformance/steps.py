"""Steps of which generated networks consist: each takes a tensor and returns another one.

A step is a function `step(part, x)` of the `Part` under construction; it returns None where it
does not apply to `x`.
"""

import keras
import numpy as np
from keras import layers, ops
from steps_sequences import STEPS_SEQUENCES

ACTIVATIONS = [
    name
    for name in (
        "relu celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu "
        "linear log_sigmoid mish relu6 selu sigmoid silu soft_shrink softplus softsign "
        "sparse_plus sparse_sigmoid squareplus tanh tanh_shrink"
    ).split()
    if hasattr(keras.activations, name)  # older Keras has fewer
]
BOUNDED = ("relu", "tanh", "sigmoid", "elu", "softsign", None)
MERGES = ("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
SMALL = 5
LARGEST = 160
BACKWARDS = keras.backend.backend() != "torch"  # has no slices with negative steps


class Part:
    """A network under construction.

    Args:
        choices: where options come from.
        rank: number of spatial axes that the network starts with.
        data_format: `"channels_last"` or `"channels_first"`.
        noise: whether layers that draw random numbers in training may be used.
    """

    def __init__(self, choices, rank: int, data_format: str, noise: bool):
        self.choices, self.rank, self.noise = choices, rank, noise
        self.data_format = data_format
        self.single = False
        self.pool: list = []

    def axis(self, x) -> int:
        """Return the channel axis of a tensor, the batch counted."""
        return 1 if self.data_format == "channels_first" and len(x.shape) > 2 else len(x.shape) - 1

    def spatial(self, x) -> list[int]:
        return [axis for axis in range(1, len(x.shape)) if axis != self.axis(x)]

    def layer(self, name: str, x=None, **arguments):
        """Return a layer of as many dimensions as the tensor, e.g. `Conv2D` for `"Conv"`."""
        rank = self.rank if x is None else len(x.shape) - 2
        return getattr(layers, f"{name}{rank}D")(data_format=self.data_format, **arguments)

    def weighted(self, x, channels: int, **arguments):
        """Call a new convolution, or a Dense layer where there is no space."""
        if len(x.shape) == 2:
            arguments = {k: v for k, v in arguments.items() if k in ("activation", "use_bias")}
            return layers.Dense(channels, **arguments)(x)
        arguments = {"kernel_size": 1, "padding": "same", **arguments}
        return self.convolution(x, channels, **arguments)(x)

    def convolution(self, x, channels: int, kind: str = "Conv", **arguments):
        if self.data_format == "channels_first" and x.shape[-1] // 2 <= channels + 2:
            # Keras on TensorFlow adds the bias along the last axis where that is as long.
            arguments["use_bias"] = False
        if kind == "ConvTranspose":
            name = f"Conv{len(x.shape) - 2}DTranspose"
            return getattr(layers, name)(channels, data_format=self.data_format, **arguments)
        if kind != "DepthwiseConv":
            arguments["filters"] = channels
        return self.layer(kind, x, **arguments)

    def like(self, x):
        """Return another tensor of the same shape: one of the pool, or a new layer's."""
        known = [y for y in self.pool if y.shape == x.shape and y is not x]
        if known and self.choices.yes():
            return self.choices.of(known)
        return self.weighted(x, x.shape[self.axis(x)])


def convolution(part, x):
    if len(x.shape) == 2:
        return layers.Dense(
            part.choices.number(2, SMALL),
            activation=part.choices.of(BOUNDED),
            use_bias=part.choices.yes(),
        )(x)
    strides, dilation = part.choices.of(((1, 1), (2, 1), (1, 2)))
    kernel = part.choices.number(1, 3)
    reach = (kernel - 1) * dilation + 1
    fits = all(x.shape[axis] >= reach for axis in part.spatial(x))
    return part.weighted(
        x,
        part.choices.number(2, SMALL),
        kernel_size=kernel,
        strides=strides,
        dilation_rate=dilation,
        padding=part.choices.of(("same", "valid")) if fits else "same",
        activation=part.choices.of(BOUNDED),
        use_bias=part.choices.yes(),
    )


def transposed_convolution(part, x):
    if len(x.shape) == 2 or np.prod(x.shape[1:]) > LARGEST:
        return None
    filters = part.choices.number(2, SMALL)
    arguments = {"kernel_size": part.choices.number(1, 3), "strides": part.choices.number(1, 2)}
    return part.convolution(x, filters, "ConvTranspose", padding="same", **arguments)(x)


def depthwise_convolution(part, x):
    if len(x.shape) not in (3, 4):
        return None
    kind = part.choices.of(("DepthwiseConv", "SeparableConv"))
    arguments = {"kernel_size": part.choices.number(1, 2), "padding": "same"}
    arguments |= {"depth_multiplier": part.choices.number(1, 2)}
    arguments |= {"activation": part.choices.of(BOUNDED)}
    if kind == "SeparableConv":
        return part.convolution(x, part.choices.number(2, SMALL), kind, **arguments)(x)
    return part.convolution(x, x.shape[part.axis(x)] * 2, kind, **arguments)(x)


def grouped_convolution(part, x):
    """Convolve in two groups, or each channel by itself."""
    if len(x.shape) == 2 or not _last(part):
        return None
    y = x if x.shape[-1] % 2 == 0 else part.weighted(x, 4)
    groups = part.choices.of((2, y.shape[-1]))
    filters = groups * part.choices.number(1, 2)
    return part.convolution(y, filters, groups=groups, kernel_size=1, activation="tanh")(y)


def normalization_over_channels(part, x):
    if not part.noise:
        return None  # a step differs where statistics do
    kinds = ["LayerNormalization", "UnitNormalization", "RMSNormalization", "GroupNormalization"]
    axis = part.axis(x)
    known = [name for name in kinds if hasattr(layers, name)]
    if axis != len(x.shape) - 1 and "RMSNormalization" in known:
        known.remove("RMSNormalization")  # Keras scales along the last axis only
    kind = part.choices.of(known)
    if kind == "GroupNormalization":
        groups = part.choices.of([g for g in (1, 2, x.shape[axis]) if x.shape[axis] % g == 0])
        return layers.GroupNormalization(groups, axis=axis)(x)
    return getattr(layers, kind)(axis=axis)(x)


def prelu(part, x):
    shared = part.spatial(x) if part.choices.yes() else None
    return layers.PReLU(shared_axes=shared)(x)


def dense_on_last_axis(part, x):
    return layers.Dense(part.choices.number(2, SMALL), activation="tanh")(x)


def batch_normalization(part, x):
    plain = part.choices.yes(4)
    return layers.BatchNormalization(axis=part.axis(x), scale=not plain, center=not plain)(x)


def activation(part, x):
    return layers.Activation(part.choices.of(ACTIVATIONS))(x)


def activation_layer(part, x):
    return part.choices.of(
        (
            layers.ReLU(),
            layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.1),
            layers.LeakyReLU(),
            layers.ELU(),
            layers.Identity(),
        )
    )(x)


def pooling(part, x):
    if len(x.shape) == 2 or (len(x.shape) == 5 and x.dtype == "float64"):
        return None  # TensorFlow has no kernel for 3D pooling in float64 on the CPU
    name = part.choices.of(("MaxPooling", "AveragePooling"))
    fits = all(x.shape[axis] >= 2 for axis in part.spatial(x))
    padding = part.choices.of(("same", "valid")) if fits else "same"
    return part.layer(name, x, pool_size=2, strides=part.choices.number(1, 2), padding=padding)(x)


def spatial_size(part, x):
    """Zero padding, cropping, upsampling; in one dimension these know channels_last only."""
    rank = len(x.shape) - 2
    if rank == 0 or (rank == 1 and not _last(part)):
        return None
    form = {} if rank == 1 else {"data_format": part.data_format}
    if part.choices.yes() and all(x.shape[axis] > 1 for axis in part.spatial(x)):
        widths = (1, 0) if rank == 1 else ((1, 0),) * rank
        return getattr(layers, f"Cropping{rank}D")(widths, **form)(x)
    if np.prod(x.shape[1:]) > LARGEST:
        return None
    if part.choices.yes():
        widths = (0, 1) if rank == 1 else ((0, 1),) * rank
        return getattr(layers, f"ZeroPadding{rank}D")(widths, **form)(x)
    if rank == 2 and part.choices.yes():
        return layers.UpSampling2D(2, interpolation="bilinear", **form)(x)
    return getattr(layers, f"UpSampling{rank}D")(2, **form)(x)


def _last(part) -> bool:
    return part.data_format == "channels_last"


def noise(part, x):
    if not part.noise:
        return None
    same = [layers.Dropout(0.3), layers.GaussianNoise(0.2), layers.GaussianDropout(0.2)]
    if len(x.shape) == 4:
        same.append(layers.SpatialDropout2D(0.2, data_format=part.data_format))
    return part.choices.of(same)(x)


def rescaling(part, x):
    return layers.Rescaling(part.choices.of((0.5, -1.5)), offset=0.3)(x)


def normalization(part, x):
    if part.choices.yes():
        return layers.Normalization(axis=None, mean=0.25, variance=4.0)(x)
    mean = np.arange(x.shape[part.axis(x)]) / 4
    return layers.Normalization(axis=part.axis(x), mean=mean, variance=4 + 0 * mean)(x)


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
    if not _last(part):
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
