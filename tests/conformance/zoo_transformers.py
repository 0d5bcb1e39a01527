"""Transformers, and what mixes positions without attention."""

import keras
from keras import layers, ops
from own_layers import ClassToken, Positions
from zoo import network

# What a bias adds to all keys alike, softmax over the keys cancels.
KEYS = ("key/bias",)


def attention(name, heads=4, width=2, value_dim=3, **arguments):
    return layers.MultiHeadAttention(heads, width, value_dim, name=name, **arguments)


def mlp(x, name, units=10, activation="gelu"):
    width = x.shape[-1]
    x = layers.Dense(units, activation=activation, name=f"{name}_hidden")(x)
    return layers.Dense(width, name=f"{name}_out")(x)


def norm(name):
    return layers.LayerNormalization(epsilon=1e-6, name=name)


def pre_norm(x, name, **arguments):
    """Return a block that normalizes what its branches read."""
    y = norm(f"{name}_norm1")(x)
    y = attention(f"{name}_attention")(y, y, **arguments)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = mlp(norm(f"{name}_norm2")(x), f"{name}_mlp")
    return layers.Add(name=f"{name}_add2")([x, y])


def post_norm(x, name, *memories, **arguments):
    """Return a block that normalizes what its branches return."""
    y = attention(f"{name}_attention")(x, x, **arguments)
    x = norm(f"{name}_norm1")(layers.Add(name=f"{name}_add1")([x, y]))
    for memory in memories:
        y = attention(f"{name}_cross")(query=x, value=memory, key=memory)
        x = norm(f"{name}_cross_norm")(layers.Add(name=f"{name}_cross_add")([x, y]))
    y = mlp(x, f"{name}_mlp")
    return norm(f"{name}_norm2")(layers.Add(name=f"{name}_add2")([x, y]))


@network("scores", over_channels=True, still=KEYS)
def vision_transformer():
    """Dosovitskiy et al., An image is worth 16x16 words, 2021."""
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(images)
    x = layers.Reshape((-1, 8), name="sequence")(x)
    x = Positions(name="positions")(ClassToken(name="token")(x))
    for number in range(2):
        x = pre_norm(x, f"block{number}")
    x = norm("norm")(x)[:, 0]
    return keras.Model(images, layers.Dense(3, name="scores")(x))


@network("scores", over_channels=True, still=KEYS)
def vision_transformer_without_a_token():
    """Beyer et al., Better plain ViT baselines for ImageNet-1k, 2022; patches by reshape."""
    images = keras.Input((4, 4, 3))
    x = ops.reshape(images, (-1, 2, 2, 2, 2, 3))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 4, 12))
    x = Positions(name="positions")(layers.Dense(8, name="patches")(x))
    x = pre_norm(x, "block")
    x = layers.GlobalAveragePooling1D(name="pool")(norm("norm")(x))
    return keras.Model(images, layers.Dense(3, name="scores")(x))


@network("tokens", over_channels=True, still=KEYS)
def bert():
    """Devlin et al., BERT, 2019: a mask says which positions hold text."""
    tokens = keras.Input((6,), dtype="int32", name="words")
    segments = keras.Input((6,), dtype="int32", name="segments")
    there = keras.Input((6,), dtype="int32", name="there")
    parts = [
        layers.Embedding(7, 8, name="words_embedding")(tokens),
        layers.Embedding(4, 8, name="segments_embedding")(segments),
    ]
    x = norm("norm")(Positions(name="positions")(layers.Add(name="sum")(parts)))
    for number in range(2):
        mask = ops.not_equal(there, 0)[:, None, :]
        x = post_norm(x, f"block{number}", attention_mask=mask)
    x = norm("head_norm")(layers.Dense(9, activation="gelu", name="head")(x))
    return keras.Model([tokens, segments, there], layers.Dense(7, name="tokens")(x))


@network(over_channels=True, still=KEYS)
def gpt():
    """Radford et al., Language models are unsupervised multitask learners, 2019."""
    tokens = keras.Input((6,), dtype="int32")
    words = layers.ReversibleEmbedding(7, 8, name="words")
    places = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = words(tokens) + layers.Embedding(6, 8, name="places")(places)
    for number in range(2):
        x = pre_norm(x, f"block{number}", use_causal_mask=True)
    return keras.Model(tokens, words(norm("norm")(x), reverse=True))


@network("tokens", over_channels=True, still=KEYS)
def translator():
    """Vaswani et al., Attention is all you need, 2017: a decoder reads what an encoder made."""
    read, written = (keras.Input((n,), dtype="int32") for n in (6, 5))
    memory = Positions(name="read_positions")(layers.Embedding(7, 8, name="read")(read))
    memory = post_norm(memory, "encoder")
    x = Positions(name="written_positions")(layers.Embedding(7, 6, name="written")(written))
    x = post_norm(x, "decoder", memory, use_causal_mask=True)
    return keras.Model([read, written], layers.Dense(7, activation="softmax", name="tokens")(x))


@network("tokens", over_channels=True)
def decoder_of_grouped_queries():
    """Touvron et al., Llama 2, 2023, with the groups of Ainslie et al., GQA, 2023."""
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(7, 8, name="words")(tokens)
    for name in ("first", "second"):
        y = layers.RMSNormalization(name=f"{name}_norm1")(x)
        read = layers.GroupQueryAttention(4, 6, 3, use_bias=False, name=f"{name}_attention")
        x = layers.Add(name=f"{name}_add1")([x, read(y, y, use_causal_mask=True)])
        y = layers.RMSNormalization(name=f"{name}_norm2")(x)
        gate = layers.Dense(10, activation="silu", use_bias=False, name=f"{name}_gate")(y)
        y = gate * layers.Dense(10, use_bias=False, name=f"{name}_up")(y)
        y = layers.Dense(8, use_bias=False, name=f"{name}_down")(y)
        x = layers.Add(name=f"{name}_add2")([x, y])
    x = layers.RMSNormalization(name="norm")(x)
    return keras.Model(tokens, layers.Dense(7, use_bias=False, name="tokens")(x))


def mixing(x, name):
    """Return a block with one MLP over positions and one over channels."""
    y = layers.Permute((2, 1), name=f"{name}_turn")(norm(f"{name}_norm1")(x))
    y = layers.Permute((2, 1), name=f"{name}_back")(mlp(y, f"{name}_positions", units=6))
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = mlp(norm(f"{name}_norm2")(x), f"{name}_channels")
    return layers.Add(name=f"{name}_add2")([x, y])


# A layer that reads positions while channels lie beside them makes pairs of both: an entry of
# what it makes belongs to a channel already, which can be removed.
POSITIONS = [f"block{n}_positions_{end}" for n in range(2) for end in ("hidden", "out")]


# What their bias adds to all channels alike, normalization over the channels cancels.
@network("scores", *POSITIONS, over_channels=True, still=("positions_out/bias",))
def mlp_mixer():
    """Tolstikhin et al., MLP-Mixer, 2021."""
    images = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(images)
    x = layers.Reshape((4, 8), name="sequence")(x)
    for number in range(2):
        x = mixing(x, f"block{number}")
    x = layers.GlobalAveragePooling1D(name="pool")(norm("norm")(x))
    return keras.Model(images, layers.Dense(3, name="scores")(x))
