"""Swin: attention in windows that are moved, written as in Keras' examples.

Windows join the batch, queries, keys and values come from one Dense layer, and the bias of relative
positions is a table of the layer's own, read at constant places.
"""

import keras
import numpy as np
from composites import Composite, built, images
from keras import layers, ops


class PatchExtract(layers.Layer):
    def __init__(self, patch_size, **options):
        super().__init__(**options)
        self.patch_size = patch_size

    def call(self, pictures):
        size = (self.patch_size, self.patch_size)
        patches = ops.image.extract_patches(pictures, size=size, strides=size, padding="valid")
        count = patches.shape[1] * patches.shape[2]
        return ops.reshape(patches, (-1, count, patches.shape[-1]))


class PatchEmbedding(layers.Layer):
    def __init__(self, num_patch, embed_dim, **options):
        super().__init__(**options)
        self.num_patch = num_patch
        self.proj = layers.Dense(embed_dim, name="proj")
        self.pos_embed = layers.Embedding(num_patch, embed_dim, name="pos_embed")

    def call(self, patch):
        return self.proj(patch) + self.pos_embed(ops.arange(self.num_patch))


class WindowPartition(layers.Layer):
    """`(batch, height, width, channels)` to `(batch * windows, size * size, channels)`."""

    def __init__(self, size, **options):
        super().__init__(**options)
        self.size = size

    def call(self, x):
        _, height, width, channels = x.shape
        rows, columns = height // self.size, width // self.size
        x = ops.reshape(x, (-1, rows, self.size, columns, self.size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, self.size * self.size, channels))


def window_reverse(windows, size, height, width, channels):
    rows, columns = height // size, width // size
    x = ops.reshape(windows, (-1, rows, columns, size, size, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, height, width, channels))


class WindowAttention(layers.Layer):
    def __init__(self, dim, window_size, num_heads, dropout_rate=0.0, **options):
        super().__init__(**options)
        self.dim, self.window_size, self.num_heads = dim, window_size, num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = layers.Dense(dim * 3, name="qkv")
        self.dropout = layers.Dropout(dropout_rate)
        self.proj = layers.Dense(dim, name="proj")

    def build(self, input_shape):
        size = self.window_size
        self.relative_position_bias_table = self.add_weight(
            shape=((2 * size - 1) ** 2, self.num_heads),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name="relative_position_bias_table",
        )
        places = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
        places = places.reshape(2, -1)
        relative = places[:, :, None] - places[:, None, :] + size - 1
        self.relative_position_index = (relative[0] * (2 * size - 1) + relative[1]).reshape(-1)
        self.qkv.build(input_shape)
        self.proj.build(input_shape)
        self.built = True

    def widths(self, x):
        """Return the width of a head and of all of them, as numbers of the stream's width."""
        channels = x.shape[-1]
        return channels // self.num_heads, channels

    def call(self, x, mask=None):
        size = x.shape[1]
        head_dim, channels = self.widths(x)
        x_qkv = self.qkv(x)
        x_qkv = ops.reshape(x_qkv, (-1, size, 3, self.num_heads, head_dim))
        x_qkv = ops.transpose(x_qkv, (2, 0, 3, 1, 4))
        q, k, v = x_qkv[0], x_qkv[1], x_qkv[2]
        scores = (q * self.scale) @ ops.transpose(k, (0, 1, 3, 2))
        bias = ops.take(self.relative_position_bias_table, self.relative_position_index, axis=0)
        bias = ops.transpose(ops.reshape(bias, (size, size, -1)), (2, 0, 1))
        scores = scores + ops.expand_dims(bias, axis=0)
        if mask is not None:
            windows = mask.shape[0]
            scores = ops.reshape(scores, (-1, windows, self.num_heads, size, size))
            scores = scores + ops.cast(mask[None, :, None], scores.dtype)
            scores = ops.reshape(scores, (-1, self.num_heads, size, size))
        weights = self.dropout(ops.softmax(scores, axis=-1))
        y = ops.transpose(weights @ v, (0, 2, 1, 3))
        return self.proj(ops.reshape(y, (-1, size, channels)))


class StoringAttention(WindowAttention):
    """The same, with the width of a head for an attribute."""

    def __init__(self, dim, window_size, num_heads, **options):
        super().__init__(dim, window_size, num_heads, **options)
        self.head_dim = dim // num_heads

    def widths(self, x):
        return self.head_dim, self.num_heads * self.head_dim


class SwinBlock(layers.Layer):
    def __init__(
        self,
        dim,
        num_patch,
        num_heads,
        window_size=2,
        shift_size=0,
        attention=WindowAttention,
        **options,
    ):
        super().__init__(**options)
        self.num_patch, self.window_size, self.shift_size = num_patch, window_size, shift_size
        self.norm1 = layers.LayerNormalization(epsilon=1e-5, name="norm1")
        self.partition = WindowPartition(window_size, name="partition")
        self.attn = attention(dim, window_size, num_heads, name="attn")
        self.norm2 = layers.LayerNormalization(epsilon=1e-5, name="norm2")
        self.mlp = keras.Sequential(
            [
                layers.Dense(2 * dim, activation="gelu", name="hidden"),
                layers.Dropout(0.1),
                layers.Dense(dim, name="out"),
            ],
            name="mlp",
        )
        self.attn_mask = self.mask() if shift_size > 0 else None

    def mask(self):
        """Return `(windows, size * size, size * size)`: parts that were not beside each other."""
        (height, width), size = self.num_patch, self.window_size
        parts = np.zeros((height, width))
        cuts = [slice(0, -size), slice(-size, -self.shift_size), slice(-self.shift_size, None)]
        for number, (rows, columns) in enumerate((r, c) for r in cuts for c in cuts):
            parts[rows, columns] = number
        parts = parts.reshape(height // size, size, width // size, size)
        parts = parts.transpose(0, 2, 1, 3).reshape(-1, size * size)
        return np.where(parts[:, None] != parts[:, :, None], -100.0, 0.0).astype("float32")

    def call(self, x, training=False):
        height, width = self.num_patch
        channels = x.shape[-1]
        y = ops.reshape(self.norm1(x), (-1, height, width, channels))
        if self.shift_size > 0:
            y = ops.roll(y, shift=[-self.shift_size, -self.shift_size], axis=[1, 2])
        y = self.attn(self.partition(y), mask=self.attn_mask)
        y = window_reverse(y, self.window_size, height, width, channels)
        if self.shift_size > 0:
            y = ops.roll(y, shift=[self.shift_size, self.shift_size], axis=[1, 2])
        x = x + ops.reshape(y, (-1, height * width, channels))
        return x + self.mlp(self.norm2(x), training=training)


class PatchMerging(layers.Layer):
    def __init__(self, num_patch, embed_dim, **options):
        super().__init__(**options)
        self.num_patch = num_patch
        self.linear = layers.Dense(2 * embed_dim, use_bias=False, name="linear")

    def call(self, x):
        height, width = self.num_patch
        x = ops.reshape(x, (-1, height, width, x.shape[-1]))
        parts = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        x = ops.concatenate(parts, axis=-1)
        return self.linear(ops.reshape(x, (-1, (height // 2) * (width // 2), x.shape[-1])))


def swin(attention=WindowAttention):
    pictures = keras.Input((8, 8, 3))
    x = PatchExtract(2, name="extract")(pictures)
    x = PatchEmbedding(16, 8, name="embedding")(x)
    x = SwinBlock(8, (4, 4), 2, attention=attention, name="block0")(x)
    x = SwinBlock(8, (4, 4), 2, shift_size=1, attention=attention, name="block1")(x)
    x = PatchMerging((4, 4), 8, name="merging")(x)
    x = SwinBlock(16, (2, 2), 4, attention=attention, name="block2")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(pictures, layers.Dense(3, name="head")(x))


NATURAL = (
    ("head", "an output of the model"),
    # All heads share what is left of their widths.
    ("block?/attn/relative_position_bias_table", "leaves no channels"),
)
COUNTED = tuple(
    (pattern, "(WindowAttention) counts them")
    for pattern in ("embedding/*", "merging/linear", "*/mlp/out", "*/attn/qkv", "*/attn/proj")
)
DATA = images(8, 8, 3)
TABLE = [
    Composite("swin", built(swin, DATA), DATA, natural=NATURAL, counted=COUNTED),
    Composite(
        "swin that stores widths",
        built(lambda: swin(StoringAttention), DATA),
        DATA,
        natural=NATURAL,
    ),
]
