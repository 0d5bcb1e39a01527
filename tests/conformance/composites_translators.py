"""What reads a sequence to answer: encoders with attention, as layers of layers and models."""

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops

WORDS, ANSWERS, WIDTH = 17, 13, 16


class PositionalEmbedding(layers.Layer):
    """Scaled tokens and waves for their places: Vaswani et al., 2017; zeros are padding."""

    def __init__(self, words, width=WIDTH, longest=16, **options):
        super().__init__(**options)
        self.width = width
        self.embedding = layers.Embedding(words, width, mask_zero=True)
        depth = ops.arange(width // 2, dtype="float32") / (width // 2)
        angles = ops.arange(longest, dtype="float32")[:, None] / 10000.0 ** depth[None]
        self.waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)

    def compute_mask(self, inputs, mask=None):
        return self.embedding.compute_mask(inputs)

    def call(self, tokens):
        x = self.embedding(tokens) * self.width**0.5
        return x + self.waves[None, : tokens.shape[1], :]


class FeedForward(layers.Layer):
    def __init__(self, width=WIDTH, hidden=24, rate=0.1, **options):
        super().__init__(**options)
        self.steps = keras.Sequential(
            [layers.Dense(hidden, activation="relu"), layers.Dense(width), layers.Dropout(rate)]
        )
        self.add, self.norm = layers.Add(), layers.LayerNormalization()

    def call(self, x, training=None):
        return self.norm(self.add([x, self.steps(x, training=training)]))


class BaseAttention(layers.Layer):
    """Attention, a residual and a normalization, for the classes below."""

    def __init__(self, width=WIDTH, heads=2, **options):
        super().__init__(**options)
        self.attend = layers.MultiHeadAttention(heads, width // heads, dropout=0.1)
        self.add, self.norm = layers.Add(), layers.LayerNormalization()


class CrossAttention(BaseAttention):
    def call(self, x, context, mask=None, training=None):
        there = None if mask is None else mask[:, None, :]
        y = self.attend(query=x, key=context, value=context, attention_mask=there)
        return self.norm(self.add([x, y]))


class SelfAttention(BaseAttention):
    def __init__(self, causal, **options):
        super().__init__(**options)
        self.causal = causal

    def call(self, x, mask=None):
        there = None if mask is None else mask[:, None, :]
        y = self.attend(x, x, attention_mask=there, use_causal_mask=self.causal)
        return self.norm(self.add([x, y]))


class Encoder(layers.Layer):
    def __init__(self, blocks=2, **options):
        super().__init__(**options)
        self.attentions = [SelfAttention(False) for _ in range(blocks)]
        self.mlps = [FeedForward() for _ in range(blocks)]

    def call(self, x, there=None):
        for attention, mlp in zip(self.attentions, self.mlps, strict=True):
            x = mlp(attention(x, mask=there))
        return x


class DecoderBlock(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.attention, self.cross = SelfAttention(True), CrossAttention()
        self.mlp = FeedForward()

    def call(self, x, context, there=None):
        return self.mlp(self.cross(self.attention(x), context, mask=there))


class Translator(keras.Model):
    """An encoder and a decoder; where there is padding, nobody looks."""

    def __init__(self, **options):
        super().__init__(**options)
        self.read = PositionalEmbedding(WORDS, name="read")
        self.written = PositionalEmbedding(ANSWERS, name="written")
        self.encoder = Encoder(name="encoder")
        self.decoder = [DecoderBlock(name=f"decoder{number}") for number in range(2)]
        self.head = layers.Dense(ANSWERS, name="head")

    def call(self, inputs, training=None):
        read, written = inputs
        there = ops.not_equal(read, 0)
        context = self.encoder(self.read(read), there=there)
        x = self.written(written)
        for block in self.decoder:
            x = block(x, context, there=there)
        return self.head(x)


class AttentionPooling(layers.Layer):
    """A weighted mean over words, with a trained query: Yang et al., 2016."""

    def __init__(self, units=8, **options):
        super().__init__(**options)
        self.project = layers.Dense(units, activation="tanh")

    def build(self, shape):
        self.project.build(shape)
        self.query = self.add_weight(shape=(self.project.units, 1), name="query")

    def call(self, x, there=None):
        scores = ops.matmul(self.project(x), self.query)
        if there is not None:
            scores = scores + (1.0 - ops.cast(there, scores.dtype))[..., None] * -1e9
        return ops.sum(ops.softmax(scores, axis=1) * x, axis=1)


class TextClassifier(keras.Model):
    """Bidirectional recurrence and attention over what it says of each word."""

    def __init__(self, classes=3, **options):
        super().__init__(**options)
        self.embedding = layers.Embedding(WORDS, WIDTH, name="embedding")
        self.dropout = layers.SpatialDropout1D(0.1)
        self.recurrent = layers.Bidirectional(layers.GRU(8, return_sequences=True))
        self.pool = AttentionPooling(name="pool")
        self.head = keras.Sequential(
            [layers.Dense(12, activation="relu"), layers.Dense(classes)], name="head"
        )

    def call(self, tokens, training=None):
        x = self.dropout(self.embedding(tokens), training=training)
        return self.head(self.pool(self.recurrent(x), there=ops.not_equal(tokens, 0)))


class BahdanauAttention(layers.Layer):
    """Bahdanau et al., Neural machine translation by jointly learning to align, 2015."""

    def __init__(self, units=10, **options):
        super().__init__(**options)
        self.of_query, self.of_values = layers.Dense(units), layers.Dense(units)
        self.score = layers.Dense(1)

    def call(self, query, values):
        query = ops.expand_dims(query, 1)
        scores = self.score(ops.tanh(self.of_query(query) + self.of_values(values)))
        weights = ops.softmax(scores, axis=1)
        return ops.sum(weights * values, axis=1), weights


class SummaryOfSeries(layers.Layer):
    """A recurrent encoder whose last state asks for what it has seen."""

    def __init__(self, units=12, **options):
        super().__init__(**options)
        self.recurrent = layers.LSTM(units, return_sequences=True, return_state=True)
        self.attention = BahdanauAttention()
        self.join = layers.Concatenate()

    def call(self, x):
        steps, hidden, _ = self.recurrent(x)
        context, _ = self.attention(hidden, steps)
        return self.join([context, hidden])


def series():
    """Return a functional model around a layer that is recurrent inside."""
    inputs = keras.Input((6, 5), name="series")
    x = SummaryOfSeries(name="summary")(inputs)
    x = layers.Dense(10, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def of_series(count):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 6, 5)).astype("float32"), rng.integers(0, 2, count)


def sentences(count):
    """Return numbers of words that end in padding, and classes."""
    rng = np.random.default_rng(0)
    words = rng.integers(1, WORDS, (count, 7)).astype("int32")
    words[:, 5:] = 0
    return words, rng.integers(0, 3, count)


def pairs(count):
    rng = np.random.default_rng(1)
    drawn = rng.integers(1, ANSWERS, (count, 6, 2)).astype("int32")
    return (sentences(count)[0], drawn[..., 0]), drawn[..., 1]


OUTPUT = "an output of the model"
HEAD = (("head", OUTPUT),)
TABLE = [
    Composite("translator", built(Translator, pairs), pairs, natural=HEAD, noise=True),
    Composite(
        "text classifier",
        built(TextClassifier, sentences),
        sentences,
        natural=(("*dense_2", OUTPUT), ("pool/query", "joined with an input")),
    ),
    Composite("alignment", built(series, of_series), of_series, natural=HEAD),
]
