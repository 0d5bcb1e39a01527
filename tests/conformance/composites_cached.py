"""Decoders that remember keys and values of what they have read, to write one token at a time."""

import keras
import numpy as np
from composites import Composite, built
from composites_decoders import RMSNorm, TokenAndPosition, tokens
from keras import layers, ops

WORDS, LENGTH, WIDTH = 17, 8, 16


class CachedAttention(layers.Layer):
    """Causal attention that joins what it reads to what it has read."""

    def __init__(self, width=WIDTH, heads=4, **options):
        super().__init__(**options)
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query, self.key, self.value = (
            layers.Dense(width, name=name) for name in ("query", "key", "value")
        )
        self.out = layers.Dense(width, name="out")

    def split(self, x):
        x = ops.reshape(x, (-1, x.shape[1], self.heads, x.shape[-1] // self.heads))
        return ops.transpose(x, (0, 2, 1, 3))

    def call(self, x, cache=None):
        query, key, value = (self.split(part(x)) for part in (self.query, self.key, self.value))
        if cache is not None:
            key = ops.concatenate([cache[0], key], axis=2)
            value = ops.concatenate([cache[1], value], axis=2)
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2)) * self.scale
        new, all_read = x.shape[1], key.shape[2]
        places = ops.arange(all_read - new, all_read)[:, None]
        scores = ops.where(ops.arange(all_read)[None, :] <= places, scores, -1e9)
        mixed = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
        mixed = ops.reshape(mixed, (-1, x.shape[1], self.heads * mixed.shape[-1]))
        return self.out(mixed), (key, value)


class CachedBlock(layers.Layer):
    def __init__(self, hidden=24, **options):
        super().__init__(**options)
        self.attention = CachedAttention(name="attention")
        self.norms = [RMSNorm(), RMSNorm()]
        self.up = layers.Dense(hidden, activation="gelu", name="up")
        self.down = layers.Dense(WIDTH, name="down")

    def call(self, x, cache=None):
        y, cache = self.attention(self.norms[0](x), cache=cache)
        x = x + y
        return x + self.down(self.up(self.norms[1](x))), cache


class CachedGPT(keras.Model):
    """A GPT that gives what it remembers, and goes on from it."""

    def __init__(self, blocks=2, **options):
        super().__init__(**options)
        self.embedding = TokenAndPosition(name="embedding")
        self.blocks = [CachedBlock(name=f"block{number}") for number in range(blocks)]
        self.norm = RMSNorm(name="norm")
        self.head = layers.Dense(WORDS, name="head")

    def call(self, tokens, caches=None):
        start = 0 if caches is None else caches[0][0].shape[2]
        x, new = self.embedding(tokens, start=start), []
        for number, block in enumerate(self.blocks):
            x, cache = block(x, cache=None if caches is None else caches[number])
            new.append(cache)
        logits = self.head(self.norm(x))
        return logits if caches is None and not self.remembers else (logits, new)

    remembers = False

    def generate(self, prompt, length=LENGTH):
        """Return tokens that begin with a prompt, each the likeliest behind those before it."""
        tokens, caches = np.asarray(prompt), None
        self.remembers = True
        new = tokens
        while tokens.shape[1] < length:
            logits, caches = self(ops.convert_to_tensor(new), caches=caches)
            new = ops.convert_to_numpy(ops.argmax(logits[:, -1:], axis=-1)).astype("int32")
            tokens = np.concatenate([tokens, new], axis=1)
        self.remembers = False
        return tokens


DATA = tokens(LENGTH)
HEAD = (("*head*", "an output of the model"),)
TABLE = [Composite("gpt with a cache", built(CachedGPT, DATA), DATA, natural=HEAD)]
