"""Recommenders: embeddings of ids beside numbers, products of them, and graphs of neighbours."""

import keras
from keras import layers, ops
from own_layers import Bias
from zoo import network

FIELDS = (5, 6, 4)


def embedded(width=6, name="field"):
    """Return inputs of ids, and one embedding of each."""
    ids = [keras.Input((1,), dtype="int32", name=f"{name}{n}_id") for n in range(len(FIELDS))]
    made = [
        layers.Flatten(name=f"{name}{n}_flat")(layers.Embedding(rows, width, name=f"{name}{n}")(x))
        for n, (rows, x) in enumerate(zip(FIELDS, ids, strict=True))
    ]
    return ids, made


def deep(x, *units, name="deep"):
    for number, width in enumerate(units):
        x = layers.Dense(width, activation="relu", name=f"{name}{number}")(x)
    return x


def click(x):
    return layers.Dense(1, activation="sigmoid", name="click")(x)


@network("click")
def deep_and_cross():
    """Wang et al., Deep & cross network for ad click predictions, 2017."""
    numbers = keras.Input((3,), name="numbers")
    ids, vectors = embedded()
    start = layers.Concatenate(name="start")([numbers, *vectors])
    x = start
    for number in range(2):
        weight = layers.Dense(1, use_bias=False, name=f"cross{number}")(x)
        y = layers.Multiply(name=f"scaled{number}")([start, weight])
        x = layers.Add(name=f"crossed{number}")([Bias(name=f"bias{number}")(y), x])
    x = layers.Concatenate(name="both")([x, deep(start, 10, 8)])
    return keras.Model([numbers, *ids], click(x))


# A matrix makes a unit for each entry of the start: those of the numbers meet inputs.
@network("click", partly=(("cross0", 3), ("cross1", 3)))
def deep_and_cross_with_matrices():
    """Wang et al., DCN V2, 2021."""
    numbers = keras.Input((3,), name="numbers")
    ids, vectors = embedded()
    start = layers.Concatenate(name="start")([numbers, *vectors])
    x = start
    for number in range(2):
        y = layers.Dense(21, name=f"cross{number}")(x)
        x = layers.Add(name=f"crossed{number}")([start * y, x])
    return keras.Model([numbers, *ids], click(deep(x, 10, 8)))


# A gate is one of an expert: softmax compares them.
@network("click", "gates")
def deep_and_cross_of_low_rank():
    """Wang et al., DCN V2, 2021: a matrix of low rank, and several experts that are gated."""
    ids, vectors = embedded()
    start = layers.Concatenate(name="start")(vectors)
    gates = layers.Dense(2, activation="softmax", name="gates")(start)
    x = start
    experts = []
    for number in range(2):
        y = layers.Dense(5, activation="tanh", use_bias=False, name=f"thin{number}")(x)
        y = layers.Dense(5, activation="tanh", use_bias=False, name=f"mixed{number}")(y)
        y = start * layers.Dense(18, name=f"wide{number}")(y)
        experts.append(y)
    gated = ops.einsum("be,bed->bd", gates, ops.stack(experts, axis=1))
    return keras.Model(ids, click(layers.Add(name="crossed")([x, gated])))


@network("wide", "click")
def wide_and_deep():
    """Cheng et al., Wide & deep learning for recommender systems, 2016."""
    crossed = keras.Input((8,), name="crossed")
    numbers = keras.Input((3,), name="numbers")
    ids, vectors = embedded()
    x = deep(layers.Concatenate(name="start")([numbers, *vectors]), 10, 8)
    wide = layers.Dense(1, use_bias=False, name="wide")(crossed)
    logit = layers.Add(name="both")([wide, layers.Dense(1, name="click")(x)])
    outputs = layers.Activation("sigmoid", name="chance")(logit)
    return keras.Model([crossed, numbers, *ids], outputs)


def first_order(ids):
    """Return a weight for each id, summed up."""
    parts = [
        layers.Embedding(rows, 1, name=f"weight{n}")(x)
        for n, (rows, x) in enumerate(zip(FIELDS, ids, strict=True))
    ]
    return ops.sum(ops.concatenate(parts, axis=1), axis=1)


@network("click", over_channels=True)
def deep_factorization_machine():
    """Guo et al., DeepFM, 2017, with the machine of Rendle, Factorization machines, 2010."""
    ids, vectors = embedded()
    fields = ops.stack(vectors, axis=1)
    squared = ops.square(ops.sum(fields, axis=1)) - ops.sum(ops.square(fields), axis=1)
    second = 0.5 * ops.sum(squared, axis=1, keepdims=True)
    x = deep(layers.Flatten(name="fields")(fields), 10, 8)
    logit = first_order(ids) + second + layers.Dense(1, name="click")(x)
    return keras.Model(ids, ops.sigmoid(logit))


@network("click")
def neural_collaborative_filtering():
    """He et al., Neural collaborative filtering, 2017: a product of embeddings beside an MLP."""
    user, item = (keras.Input((), dtype="int32", name=name) for name in ("user", "item"))
    vectors = {
        f"{name}_{part}": layers.Embedding(5, width, name=f"{name}_{part}")(x)
        for name, x in (("user", user), ("item", item))
        for part, width in (("product", 6), ("mlp", 7))
    }
    product = layers.Multiply(name="product")([vectors["user_product"], vectors["item_product"]])
    joined = layers.Concatenate(name="joined")([vectors["user_mlp"], vectors["item_mlp"]])
    both = layers.Concatenate(name="both")([product, deep(joined, 10, 8)])
    return keras.Model([user, item], click(both))


@network("click")
def deep_interest():
    """Zhou et al., Deep interest network, 2018: what was bought matters as it suits the item."""
    item = keras.Input((1,), dtype="int32", name="item")
    bought = keras.Input((5,), dtype="int32", name="bought")
    vectors = layers.Embedding(6, 8, name="items")
    query, keys = vectors(item), vectors(bought)
    query = ops.repeat(query, 5, axis=1)
    beside = ops.concatenate([query, keys, query - keys, query * keys], axis=-1)
    x = layers.Dense(7, activation="sigmoid", name="suits0")(beside)
    suits = layers.Dense(1, name="suits1")(x)
    history = ops.sum(suits * keys, axis=1)
    x = ops.concatenate([history, query[:, 0]], axis=-1)
    return keras.Model([item, bought], click(deep(x, 9, 7)))


def tower(name):
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(10, activation="tanh", name="hidden"),
            layers.Dense(6, activation="tanh", name="meaning"),
        ],
        name=name,
    )


@network(over_channels=True)
def deep_structured_semantic_model():
    """Huang et al., Learning deep structured semantic models, 2013: cosines with a query."""
    query = keras.Input((8,), name="query")
    documents = [keras.Input((8,), name=f"document{n}") for n in range(4)]
    meaning, of_documents = tower("queries")(query), tower("documents")
    cosines = [
        layers.Dot(1, normalize=True, name=f"cosine{n}")([meaning, of_documents(each)])
        for n, each in enumerate(documents)
    ]
    smoothed = 10.0 * layers.Concatenate(name="cosines")(cosines)
    return keras.Model([query, *documents], layers.Softmax(name="chances")(smoothed))


def convolve(node, neighbours, importance, units, name):
    """Return a node's vector, made of its own and those of its neighbours."""
    hidden = layers.Dense(8, activation="relu", name=f"{name}_neighbours")(neighbours)
    pooled = ops.einsum("...n,...nd->...d", importance, hidden)
    joined = layers.Concatenate(name=f"{name}_joined")([node, pooled])
    x = layers.Dense(units, activation="relu", name=f"{name}_node")(joined)
    return layers.UnitNormalization(name=f"{name}_norm")(x)


def pin(name):
    """Return what embeds a node by its neighbours and theirs."""
    node, near = keras.Input((5,)), keras.Input((3, 5))
    far = keras.Input((3, 2, 5))
    matters = [keras.Input((3,)), keras.Input((3, 2))]
    first = Convolution()
    shown = first(near, far, matters[1])
    x = convolve(first(node, near, matters[0]), shown, matters[0], 7, "second")
    x = layers.Dense(9, activation="relu", name="hidden")(x)
    return keras.Model([node, near, far, *matters], layers.Dense(6, name="vector")(x), name=name)


class Convolution:
    """The layers of one convolution, shared by all nodes that it is asked for."""

    def __init__(self):
        self.hidden = layers.Dense(8, activation="relu", name="first_neighbours")
        self.made = layers.Dense(7, activation="relu", name="first_node")

    def __call__(self, node, neighbours, importance):
        pooled = ops.matmul(ops.expand_dims(importance, -2), self.hidden(neighbours))
        joined = ops.concatenate([node, ops.squeeze(pooled, axis=-2)], axis=-1)
        x = self.made(joined)
        return x / ops.sqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-6)


@network(over_channels=True)
def pin_sage():
    """Ying et al., Graph convolutional neural networks for web-scale recommender systems, 2018."""
    shapes = [(5,), (3, 5), (3, 2, 5), (3,), (3, 2)]
    sides = [[keras.Input(shape) for shape in shapes] for _ in range(2)]
    vector = pin("pin")
    score = layers.Dot(1, name="score")([vector(side) for side in sides])
    return keras.Model([*sides[0], *sides[1]], score)
