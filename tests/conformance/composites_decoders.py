"""Decoders of text as layers of layers: GPT, T5 and Llama, written the way people write them."""

import math

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops

WORDS, LENGTH, WIDTH = 17, 8, 16


class TokenAndPosition(layers.Layer):
    """Embed tokens and their places."""

    def __init__(self, words=WORDS, length=LENGTH, width=WIDTH, **options):
        super().__init__(**options)
        self.tokens = layers.Embedding(words, width)
        self.places = layers.Embedding(length, width)

    def call(self, tokens, start=0):
        places = ops.arange(start, start + ops.shape(tokens)[-1])
        return self.tokens(tokens) + self.places(places)


class GPTBlock(layers.Layer):
    """Radford et al., Language models are unsupervised multitask learners, 2019."""

    def __init__(self, width=WIDTH, heads=4, hidden=24, rate=0.1, **options):
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.mlp = keras.Sequential([layers.Dense(hidden, activation="gelu"), layers.Dense(width)])
        self.norms = [layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropouts = [layers.Dropout(rate) for _ in range(2)]

    def call(self, x, training=None):
        y = self.norms[0](x)
        length = ops.shape(y)[1]
        mask = ops.arange(length)[:, None] >= ops.arange(length)[None, :]
        y = self.attention(y, y, attention_mask=mask[None], training=training)
        x = x + self.dropouts[0](y, training=training)
        y = self.mlp(self.norms[1](x))
        return x + self.dropouts[1](y, training=training)


class MiniGPT(keras.Model):
    """A GPT, whose head is its table of tokens if it is tied."""

    def __init__(self, blocks=2, tied=False, **options):
        super().__init__(**options)
        self.embedding = TokenAndPosition(name="embedding")
        self.blocks = [GPTBlock(name=f"block{number}") for number in range(blocks)]
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.head = None if tied else layers.Dense(WORDS, name="head")

    def call(self, tokens, training=False):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.norm(x)
        if self.head is not None:
            return self.head(x)
        return ops.matmul(x, ops.transpose(self.embedding.tokens.embeddings))


class RMSNorm(layers.Layer):
    """Zhang and Sennrich, Root mean square layer normalization, 2019."""

    def __init__(self, epsilon=1e-6, **options):
        super().__init__(**options)
        self.epsilon = epsilon

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        variance = ops.mean(ops.square(x), axis=-1, keepdims=True)
        return x * ops.rsqrt(variance + self.epsilon) * self.scale


class RelativeAttention(layers.Layer):
    """Attention with a bias for each distance and head: Raffel et al., T5, 2020."""

    def __init__(self, width=WIDTH, heads=4, buckets=8, furthest=16, causal=True, **options):
        super().__init__(**options)
        self.heads, self.width, self.causal = heads, width, causal
        self.buckets, self.furthest = buckets, furthest
        self.query, self.key, self.value, self.out = (
            layers.Dense(width, use_bias=False, name=name) for name in ("q", "k", "v", "o")
        )

    def build(self, shape):
        self.table = self.add_weight(shape=(self.buckets, self.heads), name="relative_bias")

    def bucket(self, distance):
        exact = self.buckets // 2
        distance = ops.maximum(distance, 0) if self.causal else ops.abs(distance)
        far = ops.log(ops.cast(ops.maximum(distance, 1), "float32") / exact)
        far = exact + ops.cast(far / math.log(self.furthest / exact) * exact, "int32")
        return ops.where(distance < exact, distance, ops.minimum(far, self.buckets - 1))

    def split(self, x):
        x = ops.reshape(x, (-1, x.shape[1], self.heads, self.width // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, x):
        length = x.shape[1]
        query, key, value = (self.split(part(x)) for part in (self.query, self.key, self.value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        distance = ops.arange(length)[:, None] - ops.arange(length)[None, :]
        bias = ops.take(self.table, self.bucket(distance), axis=0)
        scores = scores + ops.expand_dims(ops.transpose(bias, (2, 0, 1)), 0)
        if self.causal:
            scores = ops.where(ops.tril(ops.ones((length, length))) > 0, scores, -1e9)
        mixed = ops.matmul(ops.softmax(scores, axis=-1), value)
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        return self.out(ops.reshape(mixed, (-1, length, self.width)))


class GatedMLP(layers.Layer):
    """Shazeer, GLU variants improve transformer, 2020."""

    def __init__(self, hidden=24, activation="silu", **options):
        super().__init__(**options)
        self.hidden, self.activation = hidden, keras.activations.get(activation)

    def build(self, shape):
        self.gate = layers.Dense(self.hidden, use_bias=False, name="gate")
        self.up = layers.Dense(self.hidden, use_bias=False, name="up")
        self.down = layers.Dense(shape[-1], use_bias=False, name="down")
        for layer in (self.gate, self.up):
            layer.build(shape)
        self.down.build((*shape[:-1], self.hidden))

    def call(self, x):
        return self.down(self.activation(self.gate(x)) * self.up(x))


class PreNormBlock(layers.Layer):
    """Attention and a gated MLP, each behind a normalization and beside a residual."""

    def __init__(self, attention, activation="silu", rate=0.0, **options):
        super().__init__(**options)
        self.attention, self.mlp = attention, GatedMLP(activation=activation)
        self.first, self.second = RMSNorm(), RMSNorm()
        self.dropout = layers.Dropout(rate) if rate > 0 else None

    def call(self, x, training=None):
        y = self.attention(self.first(x))
        if self.dropout is not None:
            y = self.dropout(y, training=training)
        x = x + y
        return x + self.mlp(self.second(x))


def rotated(x, base=10000.0):
    """Turn pairs of channels of `(batch, length, heads, width)` by their place."""
    width = x.shape[-1]
    frequencies = 1.0 / base ** (ops.arange(0, width, 2, dtype="float32") / width)
    angles = ops.arange(x.shape[1], dtype="float32")[:, None] * frequencies[None, :]
    angles = ops.concatenate([angles, angles], axis=-1)[None, :, None, :]
    first, second = x[..., : width // 2], x[..., width // 2 :]
    turned = ops.concatenate([-second, first], axis=-1)
    return x * ops.cos(angles) + turned * ops.sin(angles)


class RotaryAttention(layers.Layer):
    """Grouped queries with rotary positions: Touvron et al., Llama 2, 2023."""

    def __init__(self, width=WIDTH, heads=4, groups=2, **options):
        super().__init__(**options)
        self.heads, self.groups, self.head_dim = heads, groups, width // heads
        self.query = layers.Dense(heads * self.head_dim, use_bias=False, name="query")
        self.key = layers.Dense(groups * self.head_dim, use_bias=False, name="key")
        self.value = layers.Dense(groups * self.head_dim, use_bias=False, name="value")
        self.out = layers.Dense(width, use_bias=False, name="out")

    def call(self, x):
        batch, length = ops.shape(x)[0], ops.shape(x)[1]
        query = ops.reshape(self.query(x), (-1, length, self.heads, self.head_dim))
        key = ops.reshape(self.key(x), (-1, length, self.groups, self.head_dim))
        value = ops.reshape(self.value(x), (-1, length, self.groups, self.head_dim))
        query, key = rotated(query), rotated(key)
        repeats = self.heads // self.groups
        key, value = (ops.repeat(each, repeats, axis=2) for each in (key, value))
        scores = ops.einsum("bqhd,bkhd->bhqk", query, key) / self.head_dim**0.5
        mask = ops.triu(ops.full((length, length), -1e9), k=1)
        weights = ops.softmax(scores + mask, axis=-1)
        mixed = ops.einsum("bhqk,bkhd->bqhd", weights, value)
        return self.out(ops.reshape(mixed, (batch, length, self.heads * self.head_dim)))


class GroupedAttention(layers.Layer):
    """Keras' own attention of grouped queries, made causal."""

    def __init__(self, head_dim=4, heads=4, groups=2, **options):
        super().__init__(**options)
        self.inner = layers.GroupQueryAttention(head_dim, heads, groups, use_bias=False)

    def call(self, x):
        return self.inner(x, x, use_causal_mask=True)


class Decoder(keras.Model):
    """Blocks that are named in a config, as in ports of large models."""

    def __init__(self, kind, blocks=2, activation="silu", rate=0.0, **options):
        super().__init__(**options)
        kinds = {"relative": RelativeAttention, "rotary": RotaryAttention}
        kinds["grouped"] = GroupedAttention
        self.embedding = layers.Embedding(WORDS, WIDTH, name="embedding")
        self.blocks = [
            PreNormBlock(kinds[kind](name="attention"), activation, rate, name=f"block{number}")
            for number in range(blocks)
        ]
        self.norm = RMSNorm(name="norm")
        self.head = layers.Dense(WORDS, use_bias=False, name="head")

    def call(self, tokens, training=None):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.norm(x))


def tokens(*sizes, words: int = WORDS):
    """Return a maker of numbers of words, none of them 0, and of those that follow."""

    def data(count):
        drawn = np.random.default_rng(0).integers(1, words, (count, *sizes, 2))
        return drawn[..., 0].astype("int32"), drawn[..., 1].astype("int32")

    return data


DATA = tokens(LENGTH)
HEAD = (("*head*", "an output of the model"),)
TABLE = [
    Composite("gpt", built(MiniGPT, DATA), DATA, natural=HEAD, noise=True),
    Composite(
        "tied gpt",
        built(lambda: MiniGPT(tied=True), DATA),
        DATA,
        natural=(("embeddings_*", "an output of the model"),),
        noise=True,
    ),
    Composite(
        "t5",
        built(lambda: Decoder("relative", 2, "gelu"), DATA),
        DATA,
        # A bias a head: heads stay where their widths can go.
        natural=(*HEAD, ("*relative_bias", "leaves no channels")),
    ),
    Composite(
        "llama",
        built(lambda: Decoder("rotary"), DATA),
        DATA,
        natural=HEAD,
        counted=tuple((f"*attention/{name}", "counts them") for name in ("query", "key", "value")),
    ),
    Composite("grouped queries", built(lambda: Decoder("grouped"), DATA), DATA, natural=HEAD),
]
