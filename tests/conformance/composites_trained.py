"""Models that train in their own way: a GAN, a convolutional VAE, a siamese network.

Their training steps are TensorFlow's, as in Keras' examples; the table is empty elsewhere.
"""

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class Generator(layers.Layer):
    def __init__(self, size=8, channels=1, **options):
        super().__init__(**options)
        self.start = layers.Dense((size // 4) ** 2 * 8, name="start")
        self.reshape = layers.Reshape((size // 4, size // 4, 8))
        self.blocks = [
            (
                layers.Conv2DTranspose(width, 4, strides=2, padding="same", use_bias=False),
                layers.BatchNormalization(),
                layers.LeakyReLU(0.2),
            )
            for width in (8, 6)
        ]
        self.picture = layers.Conv2D(channels, 3, padding="same", activation="sigmoid")

    def call(self, noise, training=None):
        x = self.reshape(ops.leaky_relu(self.start(noise), 0.2))
        for conv, norm, activation in self.blocks:
            x = activation(norm(conv(x), training=training))
        return self.picture(x)


def discriminator():
    return keras.Sequential(
        [
            layers.Conv2D(6, 3, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.LeakyReLU(0.2),
            layers.GlobalMaxPooling2D(),
            layers.Dense(1, name="judgement"),
        ],
        name="discriminator",
    )


class GAN(keras.Model):
    """Goodfellow et al., 2014; one optimizer for both sides, which take turns."""

    def __init__(self, latent=4, **options):
        super().__init__(**options)
        self.latent = latent
        self.generator = Generator(name="generator")
        self.discriminator = discriminator()
        self.seed_generator = keras.random.SeedGenerator(7)
        self.loss_tracker = keras.metrics.Mean(name="generator_loss")

    def call(self, noise, training=None):
        pictures = self.generator(noise, training=training)
        return pictures, self.discriminator(pictures, training=training)

    def _step(self, loss_of, variables):
        with tf.GradientTape() as tape:
            loss = loss_of()
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    def train_step(self, real):
        real = real[0] if isinstance(real, tuple) else real
        shape = (ops.shape(real)[0], self.latent)
        noise = keras.random.normal(shape, seed=self.seed_generator)

        def judged():
            made = self.generator(noise, training=True)
            both = self.discriminator(ops.concatenate([made, real], axis=0), training=True)
            wanted = ops.concatenate([ops.ones((shape[0], 1)), ops.zeros((shape[0], 1))], axis=0)
            return ops.mean(keras.losses.binary_crossentropy(wanted, both, from_logits=True))

        def deceived():
            made = self.generator(noise, training=True)
            judgements = self.discriminator(made, training=True)
            wanted = ops.zeros((shape[0], 1))
            return ops.mean(keras.losses.binary_crossentropy(wanted, judgements, from_logits=True))

        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self._step(judged, self.discriminator.trainable_variables)
        self.loss_tracker.update_state(self._step(deceived, self.generator.trainable_variables))
        return {"generator_loss": self.loss_tracker.result()}


class Sampling(layers.Layer):
    """Draws around the mean in training, and returns the mean else."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs, training=None):
        mean, log_var = inputs
        if not training:
            return mean
        drawn = keras.random.normal(ops.shape(mean), seed=self.seed_generator)
        return mean + ops.exp(0.5 * log_var) * drawn


class Encoder(layers.Layer):
    def __init__(self, latent, **options):
        super().__init__(**options)
        self.convs = [
            layers.Conv2D(width, 3, strides=2, padding="same", activation="relu")
            for width in (6, 8)
        ]
        self.flatten = layers.Flatten()
        self.hidden = layers.Dense(8, activation="relu", name="hidden")
        self.mean = layers.Dense(latent, name="mean")
        self.log_var = layers.Dense(latent, name="log_var")
        self.sampling = Sampling()

    def call(self, x, training=None):
        for conv in self.convs:
            x = conv(x)
        x = self.hidden(self.flatten(x))
        mean, log_var = self.mean(x), self.log_var(x)
        return mean, log_var, self.sampling([mean, log_var], training=training)


class VAE(keras.Model):
    """Kingma and Welling, 2014: losses of reconstruction and of the distance to a normal."""

    def __init__(self, latent=3, size=8, **options):
        super().__init__(**options)
        self.encoder = Encoder(latent, name="encoder")
        self.decoder = Generator(size, name="decoder")
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker]

    def call(self, pictures, training=None):
        _, _, z = self.encoder(pictures, training=training)
        return self.decoder(z, training=training)

    def train_step(self, data):
        data = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            mean, log_var, z = self.encoder(data, training=True)
            made = self.decoder(z, training=True)
            lost = keras.losses.binary_crossentropy(data, made)
            divergence = -0.5 * (1 + log_var - ops.square(mean) - ops.exp(log_var))
            loss = ops.mean(ops.sum(lost, axis=(1, 2))) + ops.mean(ops.sum(divergence, axis=1))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.total_loss_tracker.update_state(loss)
        return {"loss": self.total_loss_tracker.result()}


class DistanceLayer(layers.Layer):
    """Distances of an anchor to what is like it, and to what is not."""

    def call(self, anchor, positive, negative):
        near = ops.sum(ops.square(anchor - positive), -1)
        far = ops.sum(ops.square(anchor - negative), -1)
        return near, far


def embedding():
    pictures = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", padding="same")(pictures)
    x = layers.BatchNormalization()(x)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(x)
    x = layers.Dense(8, activation="relu")(layers.Flatten()(x))
    return keras.Model(pictures, layers.Dense(6)(x), name="embedding")


class Siamese(keras.Model):
    """Schroff et al., FaceNet, 2015: one network for three pictures, and a margin."""

    def __init__(self, margin=0.5, **options):
        super().__init__(**options)
        self.embedding, self.distance = embedding(), DistanceLayer(name="distance")
        self.margin = margin
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs):
        return self.distance(*(self.embedding(each) for each in inputs))

    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = self._compute_loss(data)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}

    def test_step(self, data):
        self.loss_tracker.update_state(self._compute_loss(data))
        return {"loss": self.loss_tracker.result()}

    def _compute_loss(self, data):
        triplet = data[0] if len(data) == 1 else data
        near, far = self(triplet)
        return ops.maximum(near - far + self.margin, 0.0)

    @property
    def metrics(self):
        return [self.loss_tracker]


def pictures_of(*shape, times=1):
    """Return a maker of random pictures, or of several of them a sample, without targets."""

    def data(count):
        rng = np.random.default_rng(0)
        made = tuple(rng.uniform(size=(count, *shape)).astype("float32") for _ in range(times))
        return made if times > 1 else made[0], None

    return data


def numbers(count):
    return np.random.default_rng(0).normal(size=(count, 4)).astype("float32"), None


PICTURES, TRIPLETS = pictures_of(8, 8, 1), pictures_of(8, 8, 3, times=3)
BY_ITSELF = {"by_train_step": True}
TABLE = [
    Composite(
        "gan",
        built(GAN, numbers),
        numbers,
        natural=(("generator/*", "an output"), ("discriminator/judgement", "an output")),
        fit_data=pictures_of(8, 8, 1),
        **BY_ITSELF,
    ),
    Composite(
        "vae",
        built(VAE, PICTURES),
        PICTURES,
        natural=(("decoder/*", "an output"),),
        noise=True,
        **BY_ITSELF,
    ),
    Composite("siamese", built(Siamese, TRIPLETS), TRIPLETS, **BY_ITSELF),
]
if keras.backend.backend() != "tensorflow":
    TABLE = []
