"""Blocks of mobile networks, and attention to channels and places."""

import keras
from composites import Composite, built, images
from keras import layers, ops


class ConvNorm(layers.Layer):
    def __init__(self, filters, size, strides=1, activation="silu", **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(
            filters, size, strides=strides, padding="same", use_bias=False, name="conv"
        )
        self.norm = layers.BatchNormalization(name="norm")
        self.activation = layers.Activation(activation) if activation else None

    def call(self, x, training=None):
        x = self.norm(self.conv(x), training=training)
        return x if self.activation is None else self.activation(x)


class SqueezeExcite(layers.Layer):
    """Hu et al., 2018."""

    def __init__(self, ratio=0.25, **options):
        super().__init__(**options)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        hidden = max(2, int(channels * self.ratio))
        self.reduce = layers.Dense(hidden, activation="silu", name="reduce")
        self.expand = layers.Dense(channels, activation="sigmoid", name="expand")
        self.reduce.build((None, 1, 1, channels))
        self.expand.build((None, 1, 1, hidden))
        self.built = True

    def call(self, x):
        pooled = ops.mean(x, axis=[1, 2], keepdims=True)
        return x * self.expand(self.reduce(pooled))


class FusedMBConv(layers.Layer):
    """Tan and Le, EfficientNetV2, 2021."""

    def __init__(self, filters, expansion=2, strides=1, survival=0.8, **options):
        super().__init__(**options)
        self.filters, self.strides, self.expansion = filters, strides, expansion
        self.drop = layers.Dropout(1 - survival, noise_shape=(None, 1, 1, 1))

    def build(self, input_shape):
        width = input_shape[-1]
        self.expand = ConvNorm(width * self.expansion, 3, self.strides, name="expand")
        self.project = ConvNorm(self.filters, 1, activation=None, name="project")
        self.residual = self.strides == 1 and width == self.filters
        self.expand.build(input_shape)

    def call(self, inputs, training=None):
        x = self.expand(inputs, training=training)
        x = self.project(x, training=training)
        if self.residual:
            x = self.drop(x, training=training) + inputs
        return x


class MBConv(layers.Layer):
    def __init__(self, width, filters, expansion=2, strides=1, **options):
        super().__init__(**options)
        self.expand = ConvNorm(width * expansion, 1, name="expand")
        self.depthwise = layers.DepthwiseConv2D(
            3, strides=strides, padding="same", use_bias=False, name="depthwise"
        )
        self.norm = layers.BatchNormalization(name="norm")
        self.excite = SqueezeExcite(name="excite")
        self.project = ConvNorm(filters, 1, activation=None, name="project")
        self.residual = strides == 1 and width == filters

    def call(self, inputs, training=None):
        x = self.expand(inputs, training=training)
        x = ops.silu(self.norm(self.depthwise(x), training=training))
        x = self.project(self.excite(x), training=training)
        return inputs + x if self.residual else x


def efficientnet_v2():
    pictures = keras.Input((8, 8, 3))
    x = ConvNorm(4, 3, 2, name="stem")(pictures)
    x = FusedMBConv(4, name="fused0")(x)
    x = FusedMBConv(6, strides=2, name="fused1")(x)
    x = MBConv(6, 6, name="block0")(x)
    x = MBConv(6, 8, strides=2, name="block1")(x)
    x = ConvNorm(12, 1, name="top")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pictures, layers.Dense(3, name="head")(x))


class InvertedResidual(layers.Layer):
    """Sandler et al., MobileNetV2, 2018: a list of layers, and a shortcut where shapes allow."""

    def __init__(self, width, filters, stride, expand_ratio, **options):
        super().__init__(**options)
        hidden = width * expand_ratio
        self.use_shortcut = stride == 1 and width == filters
        self.steps = []
        if expand_ratio != 1:
            self.steps += [
                layers.Conv2D(hidden, 1, use_bias=False),
                layers.BatchNormalization(),
                layers.ReLU(6.0),
            ]
        if stride == 2:
            self.steps.append(layers.ZeroPadding2D(((0, 1), (0, 1))))
        padding = "same" if stride == 1 else "valid"
        self.steps += [
            layers.DepthwiseConv2D(3, strides=stride, padding=padding, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6.0),
            layers.Conv2D(filters, 1, use_bias=False),
            layers.BatchNormalization(),
        ]

    def call(self, inputs, training=False):
        x = inputs
        for step in self.steps:
            if isinstance(step, layers.BatchNormalization):
                x = step(x, training=training)
            else:
                x = step(x)
        return layers.Add()([inputs, x]) if self.use_shortcut else x


class MobileNetV2(keras.Model):
    PLAN = ((1, 4, 1, 1), (2, 6, 2, 2))  # expansion, filters, how often, stride

    def __init__(self, classes=3, **options):
        super().__init__(**options)
        self.stem = keras.Sequential(
            [layers.Conv2D(4, 3, strides=2, padding="same"), layers.BatchNormalization()]
        )
        self.blocks, width = [], 4
        for expansion, filters, count, stride in self.PLAN:
            for number in range(count):
                step = stride if number == 0 else 1
                self.blocks.append(InvertedResidual(width, filters, step, expansion))
                width = filters
        self.head = layers.Dense(classes, name="head")

    def call(self, x, training=False):
        x = ops.relu6(self.stem(x, training=training))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(ops.mean(x, axis=[1, 2]))


class ChannelAttention(layers.Layer):
    """Woo et al., CBAM, 2018: one MLP for what is left of the average and of the largest."""

    def __init__(self, ratio=2, **options):
        super().__init__(**options)
        self.ratio = ratio

    def build(self, input_shape):
        channels = input_shape[-1]
        self.shared_one = layers.Dense(channels // self.ratio, activation="relu", use_bias=False)
        self.shared_two = layers.Dense(channels, use_bias=False)
        self.shared_one.build((None, channels))
        self.shared_two.build((None, channels // self.ratio))

    def call(self, x):
        average = ops.mean(x, axis=(1, 2))
        largest = ops.max(x, axis=(1, 2))
        gate = self.shared_two(self.shared_one(average)) + self.shared_two(self.shared_one(largest))
        return x * ops.sigmoid(gate)[:, None, None, :]


class SpatialAttention(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(1, 3, padding="same", activation="sigmoid", use_bias=False)

    def call(self, x):
        average = ops.mean(x, axis=-1, keepdims=True)
        largest = ops.max(x, axis=-1, keepdims=True)
        return x * self.conv(ops.concatenate([average, largest], axis=-1))


class CBAMBlock(layers.Layer):
    def __init__(self, filters, **options):
        super().__init__(**options)
        self.conv1 = ConvNorm(filters, 3, name="conv1")
        self.conv2 = ConvNorm(filters, 3, activation=None, name="conv2")
        self.channels = ChannelAttention(name="channels")
        self.places = SpatialAttention(name="places")

    def call(self, x, training=None):
        y = self.conv2(self.conv1(x, training=training), training=training)
        return ops.silu(x + self.places(self.channels(y)))


def cbam():
    pictures = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(pictures)
    for number in range(2):
        x = CBAMBlock(6, name=f"block{number}")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(pictures, layers.Dense(3, name="head")(x))


HEAD = (("head", "an output of the model"),)
DATA, SMALL = images(8, 8, 3), images(6, 6, 3)
TABLE = [
    Composite("efficientnet v2", built(efficientnet_v2, DATA), DATA, natural=HEAD),
    Composite("mobilenet v2", built(MobileNetV2, DATA), DATA, natural=HEAD),
    Composite("cbam", built(cbam, SMALL), SMALL, natural=HEAD),
]
