"""Networks of concatenations, parallel branches, and channels that fuse along their axis."""

import keras
from keras import layers, ops
from zoo import network


def _convolution(x, width, kernel_size=3, name=None, **arguments):
    x = layers.Conv2D(width, kernel_size, padding="same", use_bias=False, name=name, **arguments)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _preactivated(x, width, kernel_size, name):
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Conv2D(width, kernel_size, padding="same", use_bias=False, name=name)(x)


def _scores(x):
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(3, activation="softmax", name="scores")(x)


@network("scores")
def densenet():
    """Huang et al., Densely connected convolutional networks, 2017."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(inputs)
    for block in (1, 2):
        for number in (1, 2, 3):
            y = _preactivated(x, 8, 1, f"block{block}_bottleneck{number}")
            y = _preactivated(y, 4, 3, f"block{block}_conv{number}")
            x = layers.Concatenate()([x, y])
        if block == 1:
            x = layers.AveragePooling2D(2)(_preactivated(x, 9, 1, "transition"))
    return keras.Model(inputs, _scores(layers.ReLU()(layers.BatchNormalization()(x))))


@network("scores")
def inception():
    """Szegedy et al., Going deeper with convolutions, 2015."""
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(inputs)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    for block in ("block1", "block2"):
        towers = [
            _rectified(x, 4, 1, f"{block}_1x1"),
            _rectified(_rectified(x, 4, 1, f"{block}_3x3_reduce"), 6, 3, f"{block}_3x3"),
            _rectified(_rectified(x, 4, 1, f"{block}_5x5_reduce"), 5, 5, f"{block}_5x5"),
            _rectified(layers.MaxPooling2D(3, 1, "same")(x), 4, 1, f"{block}_pool"),
        ]
        x = layers.Concatenate()(towers)
    return keras.Model(inputs, _scores(x))


def _rectified(x, width, kernel_size, name):
    return layers.Conv2D(width, kernel_size, padding="same", activation="relu", name=name)(x)


@network("scores")
def peleenet():
    """Wang et al., Pelee: a real-time object detection system on mobile devices, 2018."""
    inputs = keras.Input((16, 16, 3))
    x = _convolution(inputs, 6, strides=2, name="stem1")
    y = _convolution(_convolution(x, 4, 1, name="stem2a"), 6, strides=2, name="stem2b")
    x = layers.Concatenate()([y, layers.MaxPooling2D(2)(x)])
    x = _convolution(x, 6, 1, name="stem3")
    for stage, depth in ((1, 2), (2, 1)):
        for number in range(depth):
            x = _two_way_dense_layer(x, f"stage{stage}_{number}")
        x = _convolution(x, x.shape[-1], 1, name=f"transition{stage}")
        x = layers.AveragePooling2D(2)(x) if stage == 1 else x
    return keras.Model(inputs, _scores(x))


def _two_way_dense_layer(x, name):
    """Beside the input: what sees 3x3, and what sees 5x5 of it."""
    one = _convolution(_convolution(x, 5, 1, f"{name}_1a"), 6, 3, f"{name}_1b")
    two = _convolution(_convolution(x, 5, 1, f"{name}_2a"), 6, 3, f"{name}_2b")
    return layers.Concatenate()([x, one, _convolution(two, 6, 3, f"{name}_2c")])


# A convolution that slides along the axis of channels reads neighbours: what lies there stays. What
# a fusing kernel makes is a half of the channels, and both halves meet in the next groups.
@network(
    *("module1_groups2", "module2_groups2", "bypass", "expand", "scores"),
    tied=(
        *(("stem", 1), ("module1_groups1", 6), ("module1_fusion", 1)),
        *(("module2_groups1", 6), ("module2_fusion", 1)),
    ),
)
def channelnet():
    """Gao et al., ChannelNets, 2018."""
    inputs = keras.Input((12, 12, 3))
    x = _convolution(inputs, 8, strides=2, name="stem")
    for module in ("module1", "module2"):
        y = _convolution(_filtered(x), 12, 1, f"{module}_groups1", groups=2)
        y = _convolution(_filtered(y), 8, 1, f"{module}_groups2", groups=2)
        x = layers.Add()([x, _fused(y, 2, f"{module}_fusion")])
    x = _filtered(_convolution(x, 8, 1, "bypass"))
    x = _convolution(_fused(x, 1, "channelwise"), 9, 1, "expand")
    # In place of a pooling and a dense layer: a kernel over all positions and seven channels, with
    # no bias, which would add the same to all scores.
    x = layers.Conv3D(1, (6, 6, 7), use_bias=False, name="scores")(ops.expand_dims(x, -1))
    return keras.Model(inputs, layers.Softmax()(layers.Flatten()(x)))


def _filtered(x):
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _fused(x, groups, name):
    """Slide a kernel for each group along the axis of channels, by as many steps."""
    height, width, channels = x.shape[1:]
    arguments = {"strides": (1, 1, groups), "padding": "same", "use_bias": False, "name": name}
    slide = layers.Conv3D(groups, (1, 1, 5), **arguments)
    x = ops.transpose(slide(ops.expand_dims(x, -1)), (0, 1, 2, 4, 3))
    return ops.reshape(x, (-1, height, width, channels))
