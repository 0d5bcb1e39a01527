"""Networks of the first years of deep learning."""

import keras
from keras import layers, ops
from zoo import network


@network("scores")
def lenet():
    """LeCun et al., Gradient-based learning applied to document recognition, 1998."""
    return keras.Sequential(
        [
            keras.Input((14, 14, 1)),
            layers.Conv2D(6, 3, padding="same", activation="tanh", name="c1"),
            layers.AveragePooling2D(2, name="s2"),
            layers.Conv2D(8, 3, activation="tanh", name="c3"),
            layers.AveragePooling2D(2, name="s4"),
            layers.Flatten(name="flat"),
            layers.Dense(12, activation="tanh", name="f5"),
            layers.Dense(8, activation="tanh", name="f6"),
            layers.Dense(3, activation="softmax", name="scores"),
        ]
    )


# Channel j of both groups goes together, in what makes groups and in what they read.
@network(
    "scores",
    tied=(("conv1", 4), ("conv2", 6), ("conv3", 6), ("conv4", 6), ("conv5", 4)),
    noise=True,
)
def alexnet():
    """Krizhevsky et al., ImageNet classification with deep convolutional networks, 2012.

    Without its local response normalization, which ties every channel to its neighbours.
    """
    inputs = x = keras.Input((24, 24, 3))
    x = layers.Conv2D(8, 5, strides=2, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    # Two groups, one a graphics card, but where both cards were read.
    x = layers.Conv2D(12, 5, padding="same", groups=2, activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, strides=2)(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="conv3")(x)
    x = layers.Conv2D(12, 3, padding="same", groups=2, activation="relu", name="conv4")(x)
    x = layers.Conv2D(8, 3, padding="same", groups=2, activation="relu", name="conv5")(x)
    x = layers.Flatten()(x)
    for name in ("fc6", "fc7"):
        x = layers.Dropout(0.5)(layers.Dense(12, activation="relu", name=name)(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


@network("scores")
def vgg():
    """Simonyan and Zisserman, Very deep convolutional networks, 2015; without its dropout."""
    return _vgg(normalized=False)


@network("scores")
def vgg_with_batch_normalization():
    """Simonyan and Zisserman, 2015, with Ioffe and Szegedy, Batch normalization, 2015."""
    return _vgg(normalized=True)


def _vgg(normalized):
    inputs = x = keras.Input((16, 16, 3))
    for stage, (width, depth) in enumerate([(4, 2), (6, 2), (12, 3)], start=1):
        for number in range(1, depth + 1):
            name = f"block{stage}_conv{number}"
            x = layers.Conv2D(width, 3, padding="same", use_bias=not normalized, name=name)(x)
            x = layers.BatchNormalization()(x) if normalized else x
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    for name in ("fc1", "fc2"):
        x = layers.Dense(12, activation="relu", name=name)(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


# A channel of an image goes with all of its pixels.
@network("image", tied=(("unfold", 6),))
def convolutional_autoencoder():
    """Masci et al., Stacked convolutional auto-encoders, 2011."""
    return keras.Sequential(
        [
            keras.Input((12, 12, 2)),
            layers.Conv2D(5, 3, strides=2, padding="same", activation="tanh", name="encode1"),
            layers.Conv2D(6, 3, strides=2, padding="same", activation="tanh", name="encode2"),
            layers.Flatten(),
            layers.Dense(8, activation="tanh", name="code"),
            layers.Dense(3 * 3 * 6, activation="tanh", name="unfold"),
            layers.Reshape((3, 3, 6)),
            layers.Conv2DTranspose(6, 3, strides=2, padding="same", activation="tanh", name="de1"),
            layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="tanh", name="de2"),
            layers.Conv2D(2, 3, padding="same", name="image"),
        ]
    )


# What "decode0" makes is the input once more, an output.
@network("encode3", "decode0", noise=True)
def ladder_network():
    """Rasmus et al., Semi-supervised learning with ladder networks, 2015."""
    inputs = keras.Input((10,))
    widths = {1: 8, 2: 6, 3: 3}
    dense = {level: layers.Dense(width, name=f"encode{level}") for level, width in widths.items()}
    noisy, noisy_scores = _ladder_encoder(inputs, dense, 0.3)
    clean, scores = _ladder_encoder(inputs, dense, 0.0)
    u, costs = layers.BatchNormalization()(noisy_scores), []
    for level in (3, 2, 1, 0):
        if level < 3:
            u = layers.Dense(noisy[level].shape[-1], name=f"decode{level}")(u)
            u = layers.BatchNormalization()(u)
        u = _combinator(noisy[level], u)
        costs.append(ops.mean(ops.square(u - clean[level]), axis=-1, keepdims=True))
    return keras.Model(inputs, [scores, noisy_scores, u, *costs])


def _ladder_encoder(inputs, dense, noise):
    """Return what lies on each level, and the probabilities on top."""

    def noisy(x):
        return layers.GaussianNoise(noise)(x) if noise else x

    levels = [noisy(inputs)]
    x = levels[0]
    for level, layer in dense.items():
        z = layers.BatchNormalization(center=False, scale=False)(layer(x))
        levels.append(noisy(z))
        x = layers.Activation("relu" if level < 3 else "softmax")(_affine(levels[-1]))
    return levels, x


def _affine(x):
    """Scale and shift every unit by itself."""
    return layers.BatchNormalization()(x)


def _combinator(lateral, u):
    """The paper's `g`: a mean and a variance of each unit, from what comes from above."""
    mean, variance = (_affine(ops.sigmoid(_affine(u))) + _affine(u) for _ in range(2))
    return (lateral - mean) * variance + mean


@network("scores")
def highway_network():
    """Srivastava et al., Training very deep networks, 2015."""
    inputs = keras.Input((9,))
    x = layers.Dense(8, activation="relu", name="plain")(inputs)
    for number in (1, 2, 3):
        h = layers.Dense(8, activation="relu", name=f"h{number}")(x)
        t = layers.Dense(8, activation="sigmoid", name=f"t{number}")(x)
        x = t * h + (1.0 - t) * x
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


@network("scores")
def convolutional_highway_network():
    """Srivastava et al., Training very deep networks, 2015, with layers for its arithmetic."""
    inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(6, 3, activation="relu", name="plain")(inputs)
    for number in (1, 2):
        h = layers.Conv2D(6, 3, padding="same", activation="relu", name=f"h{number}")(x)
        t = layers.Conv2D(6, 3, padding="same", activation="sigmoid", name=f"t{number}")(x)
        carried = layers.Multiply()([layers.Rescaling(-1.0, offset=1.0)(t), x])
        x = layers.Add()([layers.Multiply()([t, h]), carried])
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


# A unit goes with all of its pieces.
@network("scores", tied=(("pieces1", 8), ("pieces2", 6)))
def maxout_network():
    """Goodfellow et al., Maxout networks, 2013; its units are the last axis, as Keras once had."""
    inputs = x = keras.Input((9,))
    for number, width in ((1, 8), (2, 6)):
        x = layers.Dense(3 * width, name=f"pieces{number}")(x)
        x = ops.max(layers.Reshape((3, width))(x), axis=1)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


@network("same")
def siamese_network():
    """Koch et al., Siamese neural networks for one-shot image recognition, 2015."""
    tower = keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(5, 3, activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(6, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(8, activation="sigmoid", name="embedding"),
        ],
        name="tower",
    )
    images = [keras.Input((12, 12, 1)), keras.Input((12, 12, 1))]
    distance = ops.abs(tower(images[0]) - tower(images[1]))
    return keras.Model(images, layers.Dense(1, activation="sigmoid", name="same")(distance))


@network("image", tied=(("project", 8),))
def gan_generator():
    """Radford et al., Representation learning with deep convolutional GANs, 2016."""
    inputs = keras.Input((7,))
    x = layers.Dense(4 * 4 * 8, use_bias=False, name="project")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Reshape((4, 4, 8))(x)))
    for width in (6, 4):
        x = layers.Conv2DTranspose(
            width, 5, strides=2, padding="same", use_bias=False, name=f"up{width}"
        )(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2DTranspose(3, 5, padding="same", activation="tanh", name="image")(x)
    return keras.Model(inputs, x)


@network("real")
def gan_discriminator():
    """Radford et al., Representation learning with deep convolutional GANs, 2016."""
    inputs = x = keras.Input((16, 16, 3))
    for number, width in enumerate((4, 6, 8)):
        arguments = {"strides": 2, "padding": "same", "use_bias": number == 0}
        x = layers.Conv2D(width, 5, **arguments, name=f"conv{width}")(x)
        x = layers.BatchNormalization()(x) if number else x
        x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.Flatten()(x)
    return keras.Model(inputs, layers.Dense(1, activation="sigmoid", name="real")(x))
