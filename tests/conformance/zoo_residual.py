"""Networks of residuals and gates."""

import keras
from keras import layers, ops
from keras.src.applications.convnext import LayerScale, StochasticDepth
from zoo import network


def _convolution(x, width, kernel_size=3, activation="relu", name=None, **arguments):
    x = layers.Conv2D(width, kernel_size, padding="same", use_bias=False, name=name, **arguments)(x)
    x = layers.BatchNormalization()(x)
    return x if activation is None else layers.Activation(activation)(x)


def _scores(x):
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(3, activation="softmax", name="scores")(x)


def _resnet(shortcut, depths=(1, 2, 1), gate=lambda x, name: x):
    """Return the network for CIFAR-10 with a number of blocks in each stage."""
    # An odd size, each row of which a stride of 2 reads: else TensorFlow 2.21 on oneDNN writes to
    # memory that is not its own when it computes the gradient of a strided 1x1 convolution.
    inputs = keras.Input((13, 13, 3))
    x = _convolution(inputs, 4, name="stem")
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, strides = f"stage{stage}_block{block}", 2 if stage and not block else 1
            width = (4, 6, 10)[stage]
            kept = x if strides == 1 else shortcut(x, width, f"{name}_shortcut")
            x = _convolution(x, width, strides=strides, name=f"{name}_conv1")
            x = _convolution(x, width, activation=None, name=f"{name}_conv2")
            x = layers.ReLU()(layers.Add()([gate(x, name), kept]))
    return keras.Model(inputs, _scores(x))


def _padded(x, width, name):
    missing = width - x.shape[-1]
    half = (missing // 2, missing - missing // 2)
    return ops.pad(x[:, ::2, ::2], [(0, 0), (0, 0), (0, 0), half])


def _projected(x, width, name):
    return _convolution(x, width, 1, strides=2, activation=None, name=name)


@network("scores")
def residual_network_of_option_a():
    """He et al., Deep residual learning for image recognition, 2016, section 4.2."""
    return _resnet(_padded)


@network("scores")
def residual_network_of_option_b():
    """He et al., Deep residual learning for image recognition, 2016."""
    return _resnet(_projected)


def _squeezed_by_dense(x, name):
    gate = layers.GlobalAveragePooling2D()(x)
    gate = layers.Dense(6, activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Dense(x.shape[-1], activation="sigmoid", name=f"{name}_excite")(gate)
    return layers.Multiply()([x, gate[:, None, None]])


def _squeezed_by_convolutions(x, name):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(6, 1, activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid", name=f"{name}_excite")(gate)
    return x * gate


def _squeezed_and_reshaped(x, name):
    gate = layers.Reshape((1, 1, x.shape[-1]))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Dense(6, activation="relu", name=f"{name}_squeeze")(gate)
    gate = layers.Dense(x.shape[-1], activation="hard_sigmoid", name=f"{name}_excite")(gate)
    return layers.Multiply()([x, gate])


@network("scores")
def squeeze_and_excitation_by_dense_layers():
    """Hu et al., Squeeze-and-excitation networks, 2018."""
    return _resnet(_projected, (1, 1), _squeezed_by_dense)


@network("scores")
def squeeze_and_excitation_by_convolutions():
    """Hu et al., Squeeze-and-excitation networks, 2018, as most code has it."""
    return _resnet(_padded, (1, 1), _squeezed_by_convolutions)


@network("scores")
def squeeze_and_excitation_by_a_reshape():
    """Hu et al., Squeeze-and-excitation networks, 2018, as in keras.applications."""
    return _resnet(_projected, (1, 1), _squeezed_and_reshaped)


@network("scores")
def preactivated_residual_network():
    """He et al., Identity mappings in deep residual networks, 2016: one stream ties all blocks."""
    inputs = keras.Input((10, 10, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(inputs)
    for block in (1, 2, 3):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        y = _convolution(y, 4, 1, name=f"block{block}_reduce")
        y = _convolution(y, 4, name=f"block{block}_conv")
        y = layers.Conv2D(6, 1, use_bias=False, name=f"block{block}_expand")(y)
        x = layers.Add()([x, y])
    return keras.Model(inputs, _scores(layers.ReLU()(layers.BatchNormalization()(x))))


@network("scores", noise=True)
def convnext():
    """Liu et al., A ConvNet for the 2020s, 2022."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(5, 4, strides=4, name="stem")(inputs)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    for stage, width in enumerate((5, 8), start=1):
        if stage > 1:
            x = layers.LayerNormalization(epsilon=1e-6)(x)
            x = layers.Conv2D(width, 2, strides=2, name=f"stage{stage}_downsampling")(x)
        for block in (1, 2):
            x = x + _convnext_branch(x, width, f"stage{stage}_block{block}")
    x = layers.LayerNormalization(epsilon=1e-6)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


def _convnext_branch(x, width, name):
    x = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    x = layers.Dense(2 * width, activation="gelu", name=f"{name}_expand")(x)
    x = layers.Dense(width, name=f"{name}_reduce")(x)
    return StochasticDepth(0.2)(LayerScale(1e-1, width)(x))


# Groups tie some channels before a shuffle and others after it; sums tie what is concatenated.
@network(
    "scores",
    tied=(
        *(("stem", 6), ("unit1_reduce", 4), ("unit1_expand", 6), ("unit2_reduce", 4)),
        *(("unit2_expand", 6), ("unit3_reduce", 4), ("unit3_expand", 6)),
    ),
)
def shufflenet():
    """Zhang et al., ShuffleNet, 2018."""
    inputs = keras.Input((16, 16, 3))
    x = _convolution(inputs, 12, strides=2, name="stem")
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = _shuffle_unit(x, 12, 2, "unit1")
    x = _shuffle_unit(x, 24, 1, "unit2")
    return keras.Model(inputs, _scores(_shuffle_unit(x, 24, 1, "unit3")))


def _shuffle_unit(x, width, strides, name, groups=2):
    """Where it strides, what is pooled is concatenated; else it is added."""
    y = _convolution(x, 16, 1, groups=groups, name=f"{name}_reduce")
    y = _shuffled(y, groups)
    y = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y)
    # What a center would add, the next normalization takes away.
    y = layers.BatchNormalization(center=False)(y)
    y = _convolution(y, width, 1, None, groups=groups, name=f"{name}_expand")
    if strides == 1:
        return layers.ReLU()(layers.Add()([x, y]))
    pooled = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    return layers.ReLU()(layers.Concatenate()([pooled, y]))


def _shuffled(x, groups):
    height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height, width, groups, channels // groups))
    return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, height, width, channels))


# Reductions over channels are over those that are left.
@network("scores", noise=True)
def convolutional_block_attention():
    """Woo et al., CBAM: Convolutional block attention module, 2018."""
    return _resnet(_projected, (1, 1), _attended)


def _attended(x, name):
    """Weigh channels by a perceptron on two poolings, then places by a map of one channel."""
    perceptron = keras.Sequential(
        [
            keras.Input((x.shape[-1],)),
            layers.Dense(6, activation="relu", name="squeeze"),
            layers.Dense(x.shape[-1], name="excite"),
        ],
        name=f"{name}_perceptron",
    )
    average = perceptron(layers.GlobalAveragePooling2D()(x))
    largest = perceptron(layers.GlobalMaxPooling2D()(x))
    x = x * ops.sigmoid(average + largest)[:, None, None, :]
    pooled = [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)]
    places = layers.Conv2D(
        1, 7, padding="same", use_bias=False, activation="sigmoid", name=f"{name}_places"
    )
    return layers.Multiply()([x, places(layers.Concatenate()(pooled))])
