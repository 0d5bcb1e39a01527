"""Models of patches: ViT with a class token, a token mixer, ConvNeXt."""

import keras
from composites import Composite, built, images
from keras import layers, ops


class Patches(layers.Layer):
    """Cuts pictures into flat patches by reshape and transpose."""

    def __init__(self, patch_size, **options):
        super().__init__(**options)
        self.patch_size = patch_size

    def call(self, pictures):
        _, height, width, channels = pictures.shape
        size = self.patch_size
        rows, columns = height // size, width // size
        x = ops.reshape(pictures, (-1, rows, size, columns, size, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (-1, rows * columns, size * size * channels))


class ClassTokenAndPositions(layers.Layer):
    def build(self, input_shape):
        _, count, width = input_shape
        self.token = self.add_weight(shape=(1, 1, width), initializer="zeros", name="token")
        self.table = self.add_weight(
            shape=(1, count + 1, width), initializer="random_normal", name="table"
        )

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.table


class MLP(layers.Layer):
    def __init__(self, units, rate=0.1, **options):
        super().__init__(**options)
        self.steps = []
        for number, width in enumerate(units):
            last = number == len(units) - 1
            self.steps.append(layers.Dense(width, activation=None if last else "gelu"))
            self.steps.append(layers.Dropout(rate))

    def call(self, x, training=None):
        for step in self.steps:
            x = step(x, training=training) if isinstance(step, layers.Dropout) else step(x)
        return x


class EncoderBlock(layers.Layer):
    def __init__(self, width, heads, **options):
        super().__init__(**options)
        self.norm1 = layers.LayerNormalization(epsilon=1e-6)
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=0.1)
        self.norm2 = layers.LayerNormalization(epsilon=1e-6)
        self.mlp = MLP([2 * width, width])

    def call(self, x, training=None):
        y = self.norm1(x)
        x = layers.add([x, self.attention(y, y, training=training)])
        return x + self.mlp(self.norm2(x), training=training)


class ViT(keras.Model):
    """Dosovitskiy et al., 2021, as a model with a `call` of its own."""

    def __init__(self, classes=3, width=8, depth=2, heads=2, pool="token", **options):
        super().__init__(**options)
        self.pool = pool
        self.patches = Patches(4)
        self.projection = layers.Dense(width)
        self.embedding = ClassTokenAndPositions()
        self.blocks = [EncoderBlock(width, heads, name=f"block{n}") for n in range(depth)]
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.head = layers.Dense(classes, name="head")

    def call(self, pictures, training=None):
        x = self.embedding(self.projection(self.patches(pictures)))
        for block in self.blocks:
            x = block(x, training=training)
        x = self.norm(x)
        x = x[:, 0] if self.pool == "token" else ops.mean(x, axis=1)
        return self.head(x)


class PatchEncoder(layers.Layer):
    """Positions by an Embedding that is called on constant numbers."""

    def __init__(self, num_patches, width, **options):
        super().__init__(**options)
        self.num_patches = num_patches
        self.projection = layers.Dense(width)
        self.position_embedding = layers.Embedding(num_patches, width)

    def call(self, patch):
        positions = ops.expand_dims(ops.arange(0, self.num_patches), axis=0)
        return self.projection(patch) + self.position_embedding(positions)


class MixerLayer(layers.Layer):
    """Tolstikhin et al., 2021: one MLP over the patches, one over the channels."""

    def __init__(self, patches, width, **options):
        super().__init__(**options)
        self.mlp1 = keras.Sequential(
            [layers.Dense(6, activation="gelu"), layers.Dense(patches)], name="token_mlp"
        )
        self.mlp2 = keras.Sequential([layers.Dense(12, activation="gelu"), layers.Dense(width)])
        self.normalize = layers.LayerNormalization(epsilon=1e-6)
        self.normalize2 = layers.LayerNormalization(epsilon=1e-6)

    def call(self, inputs):
        channels = ops.transpose(self.normalize(inputs), axes=(0, 2, 1))
        mixed = ops.transpose(self.mlp1(channels), axes=(0, 2, 1))
        x = mixed + inputs
        return x + self.mlp2(self.normalize2(x))


def mixer():
    pictures = keras.Input((8, 8, 3))
    x = PatchEncoder(4, 8, name="encoder")(Patches(4, name="patches")(pictures))
    x = keras.Sequential([MixerLayer(4, 8, name=f"mixer{n}") for n in range(2)], name="blocks")(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(pictures, layers.Dense(3, name="head")(x))


class StochasticDepth(layers.Layer):
    """Huang et al., 2016: drops a branch for whole samples, in training."""

    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator(1)

    def call(self, x, training=None):
        if training and self.rate > 0:
            keep = 1.0 - self.rate
            shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
            drawn = keras.random.uniform(shape, seed=self.seed_generator)
            return x / keep * ops.floor(keep + drawn)
        return x


class LayerScale(layers.Layer):
    def __init__(self, init_values, dim, **options):
        super().__init__(**options)
        self.init_values, self.dim = init_values, dim

    def build(self, input_shape):
        start = keras.initializers.Constant(self.init_values)
        self.gamma = self.add_weight(shape=(self.dim,), initializer=start, name="gamma")

    def call(self, x):
        return x * self.gamma


class ConvNeXtBlock(layers.Layer):
    """Liu et al., 2022."""

    def __init__(self, dim, drop_path=0.0, layer_scale=1e-6, **options):
        super().__init__(**options)
        self.depthwise = layers.Conv2D(dim, 3, padding="same", groups=dim, name="depthwise")
        self.norm = layers.LayerNormalization(epsilon=1e-6, name="norm")
        self.up = layers.Dense(4 * dim, name="up")
        self.down = layers.Dense(dim, name="down")
        self.scale = None if layer_scale is None else LayerScale(layer_scale, dim, name="scale")
        self.drop = StochasticDepth(drop_path, name="drop") if drop_path else layers.Identity()

    def call(self, inputs, training=None):
        x = self.norm(self.depthwise(inputs))
        x = self.down(ops.gelu(self.up(x)))
        if self.scale is not None:
            x = self.scale(x)
        return inputs + self.drop(x, training=training)


class ConvNeXt(keras.Model):
    def __init__(self, dims=(4, 6), depths=(1, 2), classes=3, **options):
        super().__init__(**options)
        self.stages, self.downsample = [], []
        for number, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            strided = layers.Conv2D(dim, 2, strides=2, name=f"stem{number}")
            norm = layers.LayerNormalization(epsilon=1e-6)
            self.downsample.append(
                keras.Sequential([strided, norm] if number == 0 else [norm, strided])
            )
            blocks = [ConvNeXtBlock(dim, 0.1 * n, name=f"b{number}{n}") for n in range(depth)]
            self.stages.append(blocks)
        self.norm = layers.LayerNormalization(epsilon=1e-6)
        self.head = layers.Dense(classes, name="head")

    def call(self, x, training=None):
        for downsample, blocks in zip(self.downsample, self.stages, strict=True):
            x = downsample(x)
            for block in blocks:
                x = block(x, training=training)
        return self.head(self.norm(ops.mean(x, axis=(1, 2))))


HEAD = (("head", "an output of the model"),)
# An entry belongs to one unit: where channels lie beside patches, those of patches stay.
MIXING = (("*/token_mlp/*", "reads positions, and the channels lie beside them"),)
DATA = images(8, 8, 3)
TABLE = [
    Composite("vit", built(ViT, DATA), DATA, natural=HEAD),
    Composite("vit that pools", built(lambda: ViT(pool="mean"), DATA), DATA, natural=HEAD),
    Composite("mixer", built(mixer, DATA), DATA, natural=(*HEAD, *MIXING)),
    Composite("convnext", built(ConvNeXt, DATA), DATA, natural=HEAD, noise=True),
]
