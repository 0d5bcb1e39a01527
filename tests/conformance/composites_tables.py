"""Tables, several inputs and several outputs, as layers of layers and as models of their own."""

import keras
import numpy as np
from composites import Composite, built
from keras import layers, ops

SIZES = (5, 7, 4)
WIDTH = 12


class CategoryEmbeddings(layers.Layer):
    """One table a column, a trained vector a column, and a class token in front."""

    def __init__(self, sizes=SIZES, width=WIDTH, **options):
        super().__init__(**options)
        self.tables = [layers.Embedding(size, width) for size in sizes]
        self.width = width

    def build(self, shape):
        self.columns = self.add_weight(shape=(len(self.tables), self.width), name="columns")
        self.token = self.add_weight(shape=(1, 1, self.width), name="token")
        super().build(shape)

    def call(self, x):
        parts = [table(x[:, column]) for column, table in enumerate(self.tables)]
        x = ops.stack(parts, axis=1) + self.columns
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, self.width))
        return ops.concatenate([token, x], axis=1)


class TabularBlock(layers.Layer):
    def __init__(self, width=WIDTH, heads=3, hidden=20, rate=0.1, **options):
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(heads, width // heads, dropout=rate)
        self.first, self.second = layers.LayerNormalization(), layers.LayerNormalization()
        self.mlp = [layers.Dense(hidden, activation="gelu"), layers.Dense(width)]
        self.dropout = layers.Dropout(rate)

    def call(self, x, training=None):
        x = self.first(x + self.attention(x, x, training=training))
        y = x
        for layer in self.mlp:
            y = layer(y)
        return self.second(x + self.dropout(y, training=training))


class TabTransformer(keras.Model):
    """Huang et al., TabTransformer, 2020, with the class token of Gorishniy et al., 2021."""

    def __init__(self, classes=3, **options):
        super().__init__(**options)
        self.embeddings = CategoryEmbeddings(name="embeddings")
        self.blocks = [TabularBlock(name=f"block{number}") for number in range(2)]
        self.scale = layers.LayerNormalization(name="scale")
        self.hidden = layers.Dense(24, activation="relu", name="hidden")
        self.head = layers.Dense(classes, name="head")

    def call(self, inputs, training=None):
        categories, numbers = inputs
        x = self.embeddings(categories)
        for block in self.blocks:
            x = block(x, training=training)
        x = layers.concatenate([x[:, 0, :], self.scale(numbers)])
        return self.head(self.hidden(x))


class Tower(layers.Layer):
    """An embedding and what is known beside it."""

    def __init__(self, size, width=16, **options):
        super().__init__(**options)
        self.embedding = layers.Embedding(size, 8)
        self.hidden = layers.Dense(24, activation="relu")
        self.out = layers.Dense(width)

    def call(self, number, beside=None):
        x = self.embedding(number)
        if beside is not None:
            x = ops.concatenate([x, beside], axis=-1)
        return self.out(self.hidden(x))


class Recommender(keras.Model):
    """Two towers of a dict: a product of both, and a network on top; Cheng et al., 2016."""

    def __init__(self, **options):
        super().__init__(**options)
        self.user, self.item = Tower(9, name="user"), Tower(11, name="item")
        self.bias = layers.Embedding(11, 1, name="bias")
        self.deep = keras.Sequential(
            [layers.Dense(20, activation="relu"), layers.Dense(10, activation="relu")], name="deep"
        )
        self.rating = layers.Dense(1, name="rating")

    def call(self, inputs):
        user = self.user(inputs["user"], beside=inputs["age"])
        item = self.item(inputs["item"])
        match = ops.sum(user * item, axis=-1, keepdims=True) + self.bias(inputs["item"])
        deep = self.deep(ops.concatenate([user, item], axis=-1))
        return match + self.rating(deep)


class Mixture(layers.Layer):
    """Experts that are all asked, and a gate that says how much each counts."""

    def __init__(self, experts=3, hidden=16, **options):
        super().__init__(**options)
        self.num_experts, self.hidden = experts, hidden

    def build(self, shape):
        self.experts = [
            keras.Sequential([layers.Dense(self.hidden, activation="relu"), layers.Dense(WIDTH)])
            for _ in range(self.num_experts)
        ]
        self.gate = layers.Dense(self.num_experts, activation="softmax")
        for part in (*self.experts, self.gate):
            part.build(shape)

    def call(self, x):
        made = ops.stack([expert(x) for expert in self.experts], axis=1)
        return ops.einsum("be,bed->bd", self.gate(x), made)


class BatchedMixture(layers.Layer):
    """The same with one weight for all experts: Shazeer et al., 2017, without top-k."""

    def __init__(self, experts=3, hidden=16, **options):
        super().__init__(**options)
        self.num_experts, self.hidden = experts, hidden

    def build(self, shape):
        count, width = self.num_experts, shape[-1]
        self.router = self.add_weight(shape=(width, count), name="router")
        self.into = self.add_weight(shape=(count, width, self.hidden), name="into")
        self.out = self.add_weight(shape=(count, self.hidden, width), name="out")

    def call(self, x):
        weights = ops.softmax(ops.matmul(x, self.router), axis=-1)
        hidden = ops.relu(ops.einsum("bd,edh->beh", x, self.into))
        made = ops.einsum("beh,ehd->bed", hidden, self.out)
        return x + ops.sum(weights[..., None] * made, axis=1)


def mixtures():
    """Return a functional model around two kinds of mixtures."""
    inputs = keras.Input((6,), name="numbers")
    x = layers.Dense(WIDTH, activation="relu", name="stem")(inputs)
    x = layers.LayerNormalization(name="norm")(Mixture(name="mixture")(x))
    x = BatchedMixture(name="batched")(x)
    return keras.Model(inputs, layers.Dense(3, name="head")(x))


class FiLM(layers.Layer):
    """Perez et al., FiLM: visual reasoning with a general conditioning layer, 2018."""

    def __init__(self, width=WIDTH, **options):
        super().__init__(**options)
        self.conv = layers.Conv1D(width, 3, padding="same")
        self.norm = layers.BatchNormalization(center=False, scale=False)
        self.conditions = layers.Dense(2 * width)

    def call(self, x, condition, training=None):
        scale, shift = ops.split(self.conditions(condition), 2, axis=-1)
        y = self.norm(self.conv(x), training=training)
        return x + ops.relu(y * (1 + scale[:, None, :]) + shift[:, None, :])


class Conditioned(keras.Model):
    """Several inputs, and two outputs by name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.stem = layers.Conv1D(WIDTH, 3, padding="same", activation="relu", name="stem")
        self.question = layers.Embedding(6, 8, name="question")
        self.encode = layers.GRU(10, name="encode")
        self.blocks = [FiLM(name=f"film{number}") for number in range(2)]
        self.kind, self.amount = layers.Dense(4, name="kind"), layers.Dense(2, name="amount")
        self.shared = layers.Dense(18, activation="relu", name="shared")

    def call(self, inputs, training=None):
        condition = self.encode(self.question(inputs["question"]))
        x = self.stem(inputs["signal"])
        for block in self.blocks:
            x = block(x, condition, training=training)
        x = self.shared(ops.concatenate([ops.max(x, axis=1), condition], axis=-1))
        return {"kind": self.kind(x), "amount": self.amount(x)}


def columns(count):
    rng = np.random.default_rng(0)
    categories = np.stack([rng.integers(0, size, count) for size in SIZES], axis=1)
    numbers = rng.normal(size=(count, 4)).astype("float32")
    return (categories.astype("int32"), numbers), rng.integers(0, 3, count)


def ratings(count):
    rng = np.random.default_rng(0)
    x = {
        "user": rng.integers(0, 9, count).astype("int32"),
        "item": rng.integers(0, 11, count).astype("int32"),
        "age": rng.normal(size=(count, 2)).astype("float32"),
    }
    return x, rng.normal(size=(count, 1)).astype("float32")


def numbers(count):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 6)).astype("float32"), rng.integers(0, 3, count)


def questions(count):
    rng = np.random.default_rng(0)
    x = {
        "signal": rng.normal(size=(count, 7, 3)).astype("float32"),
        "question": rng.integers(0, 6, (count, 5)).astype("int32"),
    }
    kind, amount = rng.normal(size=(count, 4)), rng.normal(size=(count, 2))
    return x, {"kind": kind.astype("float32"), "amount": amount.astype("float32")}


OUTPUT = "an output of the model"
TABLE = [
    Composite(
        "tab transformer",
        built(TabTransformer, columns),
        columns,
        natural=(("head", OUTPUT),),
        noise=True,
    ),
    Composite(
        "recommender",
        built(Recommender, ratings),
        ratings,
        natural=(("rating", OUTPUT), ("bias", OUTPUT)),
    ),
    Composite(
        "mixtures of experts",
        built(mixtures, numbers),
        numbers,
        natural=(("head", OUTPUT), ("mixture/dense*", "softmax"), ("batched/router", "softmax")),
    ),
    Composite(
        "conditioned",
        built(Conditioned, questions),
        questions,
        natural=(("kind", OUTPUT), ("amount", OUTPUT)),
    ),
]
