"""Steps of one layer each, for the networks that are generated."""

import numpy as np
from keras import layers
from parts import LARGEST, SMALL

ACTIVATIONS = (
    "relu celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_tanh leaky_relu "
    "linear log_sigmoid mish relu6 selu sigmoid silu soft_shrink softplus softsign "
    "sparse_plus sparse_sigmoid squareplus tanh tanh_shrink"
).split()
BOUNDED = ("relu", "tanh", "sigmoid", "elu", "softsign", None)


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
    if len(x.shape) == 2 or not part.channels_last:
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
    if rank == 0 or (rank == 1 and not part.channels_last):
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
