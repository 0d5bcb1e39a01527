"""Networks that have images for outputs, or restore them."""

import keras
from keras import layers, ops
from zoo import network


def _convolution(x, width, kernel_size, name, activation="relu", **arguments):
    layer = layers.Conv2D(
        width, kernel_size, padding="same", activation=activation, name=name, **arguments
    )
    return layer(x)


@network("segments")
def unet():
    """Ronneberger et al., U-Net, 2015."""

    def up(x, width, name):
        return layers.Conv2DTranspose(width, 2, strides=2, name=name)(x)

    return _unet(up)


@network("segments")
def unet_with_upsampling():
    """Ronneberger et al., U-Net, 2015: an up-sampling, and a 2x2 convolution."""

    def up(x, width, name):
        return _convolution(layers.UpSampling2D(2, interpolation="bilinear")(x), width, 2, name)

    return _unet(up)


def _unet(up):
    inputs = x = keras.Input((8, 8, 2))
    skips = []
    for level, width in enumerate((6, 8)):
        x = _convolution(_convolution(x, width, 3, f"down{level}_1"), width, 3, f"down{level}_2")
        skips.append(x)
        x = layers.MaxPooling2D(2)(x)
    x = _convolution(_convolution(x, 12, 3, "bottom_1"), 12, 3, "bottom_2")
    for level, width in ((1, 8), (0, 6)):
        x = layers.Concatenate()([skips[level], up(x, width, f"up{level}")])
        x = _convolution(_convolution(x, width, 3, f"up{level}_1"), width, 3, f"up{level}_2")
    return keras.Model(inputs, layers.Conv2D(3, 1, activation="softmax", name="segments")(x))


# A feature goes with all filters of which it is the largest.
@network("transmission", tied=(("features", 5),))
def dehazenet():
    """Cai et al., DehazeNet: an end-to-end system for single image haze removal, 2016."""
    inputs = keras.Input((17, 17, 3))
    x = layers.Conv2D(5 * 4, 5, name="features")(inputs)
    x = ops.max(ops.reshape(x, (-1, 13, 13, 5, 4)), axis=-1)
    scales = [_convolution(x, 5, size, f"scale{size}", None) for size in (3, 5, 7)]
    x = layers.MaxPooling2D(7, strides=1)(layers.Concatenate()(scales))
    x = layers.Conv2D(1, 6, name="transmission")(x)
    return keras.Model(inputs, ops.clip(x, 0.0, 1.0))


# Of each channel, "channelwise" makes every position from all others.
@network("channelwise", "hole")
def context_encoder():
    """Pathak et al., Context encoders: feature learning by inpainting, 2016."""

    def connected(x):
        x = layers.Reshape((16, 8))(x)
        dense = layers.EinsumDense("bpc,cpq->bqc", (16, 8), bias_axes="qc", name="channelwise")
        return layers.Reshape((4, 4, 8))(dense(x))

    return _context_encoder(connected)


@network("hole")
def context_encoder_by_a_depthwise_convolution():
    """Pathak et al., Context encoders, 2016: its fully connected channels as one convolution."""

    def connected(x):
        x = layers.DepthwiseConv2D(4, depth_multiplier=16, name="channelwise")(x)
        return ops.reshape(ops.transpose(layers.Reshape((8, 16))(x), (0, 2, 1)), (-1, 4, 4, 8))

    return _context_encoder(connected)


def _context_encoder(connected):
    """Return the network that fills a hole in the middle of an image."""
    inputs = keras.Input((16, 16, 3))
    x = layers.LeakyReLU()(_convolution(inputs, 6, 4, "encode1", None, strides=2))
    x = _convolution(x, 8, 4, "encode2", None, strides=2, use_bias=False)
    x = layers.BatchNormalization()(x)
    x = connected(layers.LeakyReLU()(x))
    x = _convolution(x, 6, 1, "across")
    x = layers.Conv2DTranspose(5, 4, strides=2, padding="same", use_bias=False, name="decode")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, _convolution(x, 3, 3, "hole", "tanh"))


# What "subpixels" makes are the output's pixels.
@network("subpixels")
def subpixel_super_resolution():
    """Shi et al., Real-time super-resolution by a sub-pixel convolutional network, 2016."""
    inputs = keras.Input((8, 8, 1))
    x = _convolution(inputs, 8, 5, "features", "tanh")
    x = _convolution(x, 6, 3, "mapping", "tanh")
    return keras.Model(inputs, _shuffled(_convolution(x, 4, 3, "subpixels", None)))


@network("image", tied=(("upsample", 6),))
def residual_super_resolution():
    """Lim et al., Enhanced deep residual networks for single image super-resolution, 2017."""
    inputs = keras.Input((8, 8, 3))
    start = x = _convolution(inputs, 6, 3, "head", None)
    for block in (1, 2):
        y = _convolution(_convolution(x, 5, 3, f"block{block}_1"), 6, 3, f"block{block}_2", None)
        x = x + 0.1 * y
    x = start + _convolution(x, 6, 3, "body", None)
    x = _shuffled(_convolution(x, 24, 3, "upsample", None))
    return keras.Model(inputs, _convolution(x, 3, 3, "image", None))


def _shuffled(x):
    """Make blocks of two by two pixels from four channels each."""
    height, width, channels = x.shape[1:]
    x = ops.reshape(x, (-1, height, width, 2, 2, channels // 4))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, 2 * height, 2 * width, channels // 4))
