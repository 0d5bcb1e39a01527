"""Models that return maps: U-Net, DeepLab, PixelCNN."""

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops


class DoubleConv(layers.Layer):
    def __init__(self, filters, rate=0.1, **options):
        super().__init__(**options)
        self.convs = [layers.Conv2D(filters, 3, padding="same") for _ in range(2)]
        self.norms = [layers.BatchNormalization() for _ in range(2)]
        self.dropout = layers.Dropout(rate) if rate else None

    def call(self, x, training=None):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = ops.relu(norm(conv(x), training=training))
        return x if self.dropout is None else self.dropout(x, training=training)


class Down(layers.Layer):
    """Returns what goes on, and what is kept for the way up."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.double = DoubleConv(filters)
        self.pool = layers.MaxPooling2D(2)

    def call(self, x, training=None):
        skip = self.double(x, training=training)
        return self.pool(skip), skip


class Up(layers.Layer):
    def __init__(self, filters, **options):
        super().__init__(**options)
        self.up = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")
        self.double = DoubleConv(filters, rate=0)

    def call(self, x, skip, training=None):
        x = ops.concatenate([self.up(x), skip], axis=-1)
        return self.double(x, training=training)


class UNet(keras.Model):
    """Ronneberger et al., 2015."""

    def __init__(self, widths=(4, 6), classes=2, **options):
        super().__init__(**options)
        self.downs = [Down(width) for width in widths]
        self.middle = DoubleConv(2 * widths[-1])
        self.ups = [Up(width) for width in reversed(widths)]
        self.head = layers.Conv2D(classes, 1, name="head")

    def call(self, x, training=None):
        skips = []
        for down in self.downs:
            x, skip = down(x, training=training)
            skips.append(skip)
        x = self.middle(x, training=training)
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            x = up(x, skip, training=training)
        return self.head(x)


class ConvBlock(layers.Layer):
    def __init__(self, filters=6, size=3, rate=1, use_bias=False, **options):
        super().__init__(**options)
        self.conv = layers.Conv2D(
            filters, size, dilation_rate=rate, padding="same", use_bias=use_bias
        )
        self.norm = layers.BatchNormalization()

    def call(self, x, training=None):
        return ops.nn.relu(self.norm(self.conv(x), training=training))


class AtrousPyramid(layers.Layer):
    """Chen et al., DeepLab, 2018: a pool of the whole picture beside convolutions of rates."""

    def __init__(self, filters=6, rates=(1, 2, 3), **options):
        super().__init__(**options)
        self.rates, self.pooled = rates, ConvBlock(filters, 1, use_bias=True)
        self.branches = {str(rate): ConvBlock(filters, 3, rate) for rate in rates}
        self.merge = ConvBlock(filters, 1)

    def call(self, x, training=None):
        _, height, width, _ = x.shape
        pool = layers.AveragePooling2D(pool_size=(height, width))(x)
        pool = self.pooled(pool, training=training)
        pool = ops.image.resize(pool, (height, width), interpolation="bilinear")
        parts = [self.branches[str(rate)](x, training=training) for rate in self.rates]
        return self.merge(ops.concatenate([pool, *parts], axis=-1), training=training)


class DeepLab(keras.Model):
    def __init__(self, classes=2, **options):
        super().__init__(**options)
        self.low = ConvBlock(4)
        self.strided = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")
        self.pyramid = AtrousPyramid()
        self.up = layers.UpSampling2D(2, interpolation="bilinear")
        self.project = ConvBlock(4, 1)
        self.last = [ConvBlock(), ConvBlock()]
        self.head = layers.Conv2D(classes, 1, name="head")

    def call(self, pictures, training=None):
        low = self.low(pictures, training=training)
        x = self.up(self.pyramid(self.strided(low), training=training))
        x = layers.Concatenate(axis=-1)([x, self.project(low, training=training)])
        for block in self.last:
            x = block(x, training=training)
        return self.head(x)


class PixelConvLayer(layers.Layer):
    """Van den Oord et al., PixelCNN, 2016: a convolution that sees nothing behind a pixel."""

    def __init__(self, mask_type, **options):
        super().__init__()
        self.mask_type = mask_type
        self.conv = layers.Conv2D(**options)

    def build(self, input_shape):
        self.conv.build(input_shape)
        height, width, *_ = self.conv.kernel.shape
        self.mask = np.zeros(tuple(self.conv.kernel.shape), "float32")
        self.mask[: height // 2] = 1.0
        self.mask[height // 2, : width // 2] = 1.0
        if self.mask_type == "B":
            self.mask[height // 2, width // 2] = 1.0
        self.built = True

    def call(self, inputs):
        self.conv.kernel.assign(self.conv.kernel * self.mask)
        return self.conv(inputs)


class MaskedConv2D(layers.Layer):
    """The same, with a kernel of its own and a mask that is as wide as one pixel."""

    def __init__(self, filters, size, mask_type="B", activation=None, **options):
        super().__init__(**options)
        self.filters, self.size, self.mask_type = filters, size, mask_type
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        size = self.size
        self.kernel = self.add_weight(
            shape=(size, size, input_shape[-1], self.filters), name="kernel"
        )
        self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")
        mask = np.ones((size * size, 1, 1), "float32")
        mask[size * size // 2 + (self.mask_type == "B") :] = 0.0
        self.mask = mask.reshape(size, size, 1, 1)

    def call(self, inputs):
        y = ops.conv(inputs, self.kernel * self.mask, strides=1, padding="same") + self.bias
        return self.activation(y)


class ResidualBlock(layers.Layer):
    def __init__(self, filters, kind, **options):
        super().__init__(**options)
        self.conv1 = layers.Conv2D(filters, 1, activation="relu")
        self.pixel_conv = masked(kind, filters // 2, 3)
        self.conv2 = layers.Conv2D(filters, 1, activation="relu")

    def call(self, inputs):
        x = self.conv2(self.pixel_conv(self.conv1(inputs)))
        return layers.add([inputs, x])


def masked(kind, filters, size, mask_type="B"):
    """Return a masked convolution that writes its layer's kernel, or has one of its own."""
    if kind == "own":
        return MaskedConv2D(filters, size, mask_type, activation="relu")
    return PixelConvLayer(
        mask_type, filters=filters, kernel_size=size, activation="relu", padding="same"
    )


def pixel_cnn(kind):
    pictures = keras.Input((6, 6, 1))
    x = masked(kind, 8, 5, "A")(pictures)
    for _ in range(2):
        x = ResidualBlock(8, kind)(x)
    x = masked(kind, 8, 1)(x)
    return keras.Model(pictures, layers.Conv2D(1, 1, activation="sigmoid", name="head")(x))


def maps(*shape, classes=None):
    """Return a maker of random pictures, and of a class or of a number for each pixel."""

    def data(count):
        rng = np.random.default_rng(0)
        x = rng.uniform(size=(count, *shape)).astype("float32")
        return x, x if classes is None else rng.integers(0, classes, (count, *shape[:-1]))

    return data


HEAD = (("head", "an output of the model"),)
PICTURES, DIGITS = maps(8, 8, 3, classes=2), maps(6, 6, 1)
TABLE = [
    Composite("unet", built(UNet, PICTURES), PICTURES, natural=HEAD),
    Composite("deeplab", built(DeepLab, PICTURES), PICTURES, natural=HEAD),
    Composite("pixelcnn", built(lambda: pixel_cnn("own"), DIGITS), DIGITS, natural=HEAD),
    Composite(
        "pixelcnn that writes its kernel",
        built(lambda: pixel_cnn("held"), DIGITS),
        DIGITS,
        natural=HEAD,
    ),
]
