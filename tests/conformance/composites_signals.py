"""Convolutions in time, fields of light, and what is generated, as layers of layers and models."""

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops


class TCNBlock(layers.Layer):
    """Bai et al., An empirical evaluation of generic convolutional networks, 2018."""

    def __init__(self, filters, dilation=1, size=3, rate=0.1, normalize=True, **options):
        super().__init__(**options)
        options = dict(dilation_rate=dilation, padding="causal")
        self.filters = filters
        self.convs = [layers.Conv1D(filters, size, **options) for _ in range(2)]
        self.norms = [layers.BatchNormalization() if normalize else None for _ in range(2)]
        self.dropout = layers.SpatialDropout1D(rate)
        self.shortcut = None

    def build(self, shape):
        if shape[-1] != self.filters:
            self.shortcut = layers.Conv1D(self.filters, 1)
        super().build(shape)

    def call(self, x, training=None):
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = conv(y)
            if norm is not None:
                y = norm(y, training=training)
            y = self.dropout(ops.relu(y), training=training)
        return ops.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class TCN(keras.Model):
    """A network of blocks, of which the last one is used twice."""

    def __init__(self, classes=3, **options):
        super().__init__(**options)
        self.blocks = [
            TCNBlock(filters, 2**number, normalize=number < 2, name=f"block{number}")
            for number, filters in enumerate((10, 12, 12))
        ]
        self.shared = TCNBlock(12, 1, normalize=False, name="shared")
        self.head = layers.Dense(classes, name="head")

    def call(self, x, training=None):
        for block in self.blocks:
            x = block(x, training=training)
        for _ in range(2):
            x = self.shared(x, training=training)
        return self.head(x[:, -1, :])


def waves(x, powers):
    """Return numbers with their sines and cosines at several frequencies."""
    parts = [x]
    for power in range(powers):
        for function in (ops.sin, ops.cos):
            parts.append(function(2.0**power * x))
    return ops.concatenate(parts, axis=-1)


class NeRF(keras.Model):
    """Mildenhall et al., NeRF, 2020: density by place, colour by place and direction."""

    def __init__(self, width=16, depth=4, skips=(2,), **options):
        super().__init__(**options)
        self.skips = skips
        self.hidden = [
            layers.Dense(width, activation="relu", name=f"hidden{number}")
            for number in range(depth)
        ]
        self.density = layers.Dense(1, name="density")
        self.features = layers.Dense(width, name="features")
        self.views = layers.Dense(width // 2, activation="relu", name="views")
        self.colour = layers.Dense(3, activation="sigmoid", name="colour")

    def call(self, inputs):
        places, directions = ops.split(inputs, 2, axis=-1)
        places, directions = waves(places, 3), waves(directions, 2)
        x = places
        for number, layer in enumerate(self.hidden):
            x = layer(x)
            if number in self.skips:
                x = ops.concatenate([x, places], axis=-1)
        density = ops.relu(self.density(x))
        x = self.views(ops.concatenate([self.features(x), directions], axis=-1))
        return ops.concatenate([self.colour(x), density], axis=-1)


class Sampling(layers.Layer):
    """Draw from the distribution that an encoder tells."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs, training=None):
        mean, log_variance = inputs
        if not training:
            return mean
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_variance) * noise


class VAEEncoder(layers.Layer):
    def __init__(self, latent=6, **options):
        super().__init__(**options)
        self.hidden = layers.Dense(20, activation="relu", name="hidden")
        self.mean = layers.Dense(latent, name="mean")
        self.log_variance = layers.Dense(latent, name="log_variance")
        self.sample = Sampling()

    def call(self, x, training=None):
        x = self.hidden(x)
        mean, log_variance = self.mean(x), self.log_variance(x)
        return mean, log_variance, self.sample([mean, log_variance], training=training)


class VAE(keras.Model):
    """Kingma and Welling, Auto-encoding variational Bayes, 2014, with its own training step."""

    def __init__(self, size=12, **options):
        super().__init__(**options)
        self.encoder = VAEEncoder(name="encoder")
        self.decoder = keras.Sequential(
            [layers.Dense(20, activation="relu"), layers.Dense(size, name="made")], name="decoder"
        )
        self.distance = keras.metrics.Mean(name="loss")

    @property
    def metrics(self):
        return [self.distance]

    def call(self, x, training=None):
        return self.decoder(self.encoder(x, training=training)[2])

    def losses_of(self, x, training):
        mean, log_variance, drawn = self.encoder(x, training=training)
        made = ops.mean(ops.sum(ops.square(x - self.decoder(drawn)), axis=-1))
        spread = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
        return made - 0.5 * ops.mean(ops.sum(spread, axis=-1))

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = self.losses_of(data[0] if isinstance(data, tuple) else data, True)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        self.distance.update_state(loss)
        return {"loss": self.distance.result()}


class VectorQuantizer(layers.Layer):
    """Take the nearest vector of a code book: van den Oord et al., VQ-VAE, 2017."""

    def __init__(self, codes=9, width=6, beta=0.25, **options):
        super().__init__(**options)
        self.codes, self.width, self.beta = codes, width, beta

    def build(self, shape):
        self.book = self.add_weight(shape=(self.width, self.codes), name="book")

    def call(self, x):
        flat = ops.reshape(x, (-1, self.width))
        distances = (
            ops.sum(flat**2, axis=1, keepdims=True)
            + ops.sum(self.book**2, axis=0)
            - 2 * ops.matmul(flat, self.book)
        )
        chosen = ops.one_hot(ops.argmin(distances, axis=1), self.codes)
        taken = ops.reshape(ops.matmul(chosen, ops.transpose(self.book)), ops.shape(x))
        commitment = ops.mean((ops.stop_gradient(taken) - x) ** 2)
        codebook = ops.mean((taken - ops.stop_gradient(x)) ** 2)
        self.add_loss(self.beta * commitment + codebook)
        return x + ops.stop_gradient(taken - x)


class VQVAE(keras.Model):
    """A code book between convolutions."""

    def __init__(self, **options):
        super().__init__(**options)
        self.encoder = keras.Sequential(
            [
                layers.Conv1D(16, 3, strides=2, padding="same", activation="relu"),
                layers.Conv1D(6, 1, name="codes"),
            ],
            name="encoder",
        )
        self.quantizer = VectorQuantizer(name="quantizer")
        self.decoder = keras.Sequential(
            [
                layers.Conv1DTranspose(16, 3, strides=2, padding="same", activation="relu"),
                layers.Conv1D(2, 3, padding="same", name="made"),
            ],
            name="decoder",
        )

    def call(self, x):
        return self.decoder(self.quantizer(self.encoder(x)))


def numbers(*shape, classes=None):
    """Return a maker of random numbers, and of classes or of themselves to be made again."""

    def data(count):
        rng = np.random.default_rng(0)
        x = rng.normal(size=(count, *shape)).astype("float32")
        return x, x if classes is None else rng.integers(0, classes, count)

    return data


def rays(count):
    rng = np.random.default_rng(0)
    made = rng.uniform(size=(count, 4)).astype("float32")
    return rng.normal(size=(count, 6)).astype("float32"), made


OUTPUT = "an output of the model"
SERIES, ROWS, SOUND = numbers(8, 4, classes=3), numbers(12), numbers(8, 2)
TABLE = [
    Composite("tcn", built(TCN, SERIES), SERIES, natural=(("head", OUTPUT),), noise=True),
    Composite("nerf", built(NeRF, rays), rays, natural=(("density", OUTPUT), ("colour", OUTPUT))),
    Composite(
        "dense vae",
        built(VAE, ROWS),
        ROWS,
        natural=(("*made", OUTPUT),),
        by_train_step=True,
        noise=True,
    ),
    Composite(
        "vector quantizer",
        built(VQVAE, SOUND),
        SOUND,
        natural=(("*made", OUTPUT), ("quantizer/book*", "is met by channels in some calls only")),
    ),
]
if keras.backend.backend() != "tensorflow":  # its training step is written in TensorFlow
    TABLE = [composite for composite in TABLE if not composite.by_train_step]
