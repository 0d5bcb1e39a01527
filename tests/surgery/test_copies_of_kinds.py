"""A copy that cuts nothing equals the model, of whatever it is made; a cut one can be trained."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import Plan, _keras


class Twice(layers.Layer):
    """No get_config: Keras writes down the arguments by itself."""

    def __init__(self, factor=2.0, **others):
        super().__init__(**others)
        self.factor = factor

    def call(self, x):
        return self.factor * x


class Counted(layers.Layer):
    """Its constructor makes variables of values, and of an initializer."""

    def __init__(self, **others):
        super().__init__(**others)
        self.factor = keras.Variable(2.0)
        self.steps = keras.Variable(np.zeros(3, "int64"), trainable=False)
        self.shift = self.add_weight(shape=(), initializer="zeros", name="shift")

    def call(self, x):
        return self.factor * x + self.shift


class Feed(layers.Layer):
    """Holds a Sequential, and layers in a list and in a dictionary."""

    def __init__(self, **others):
        super().__init__(**others)
        self.ffn = keras.Sequential([layers.Dense(8, activation="relu"), layers.Dense(6)])
        self.several = [layers.Dense(6), keras.Sequential([layers.Dense(6)])]
        self.named = {"last": layers.Dense(6)}

    def build(self, shape):
        for layer in (self.ffn, *self.several, self.named["last"]):
            layer.build(shape)

    def call(self, x):
        for layer in (self.ffn, *self.several, self.named["last"]):
            x = x + layer(x)
        return x


class Cell(layers.Layer):
    """A cell that is registered nowhere."""

    def __init__(self, units, **others):
        super().__init__(**others)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1] + self.units, self.units), name="kernel")

    def call(self, x, states):
        state = ops.tanh(ops.concatenate([x, states[0]], axis=-1) @ self.kernel)
        return state, [state]


class Net(keras.Model):
    """Has a constructor of its own, no config, and state beside the graph."""

    def __init__(self, width=8, temperature=1.0):
        x = keras.Input((6,))
        super().__init__(x, layers.Dense(3)(layers.Dense(width, name="inner")(x)))
        self.temperature = temperature


class Stack(keras.Sequential):
    """Has another constructor than Sequential."""

    def __init__(self, width):
        super().__init__([keras.Input((6,)), layers.Dense(width, name="inner"), layers.Dense(6)])


def wave(x):
    return ops.sin(x) + x


def headed(inputs, x):
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def over(*between):
    inputs = x = keras.Input((6,))
    for layer in between:
        x = layer(x)
    return headed(inputs, x)


def pair(order=("a", "b")):
    """A model of two inputs, which subtracts one half of the other."""
    taken = {"a": keras.Input((6,), name="a"), "b": keras.Input((6,), name="b")}
    difference = layers.Subtract()([taken["a"], layers.Rescaling(0.5)(taken["b"])])
    x = layers.Dense(8, name="inner")(difference)
    return keras.Model([taken[name] for name in order], x)


def nested(call, inner=None):
    one, two = keras.Input((6,), name="one"), keras.Input((6,), name="two")
    return headed([one, two], call(inner or pair(), one, two))


def single(call):
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, name="inner"), layers.Dropout(0.5)]
    )
    inputs = keras.Input((6,))
    return headed(inputs, call(inner, inputs))


def with_lora(layer, *shape, dtype="float32", alpha=None, part=lambda layer: layer):
    inputs = keras.Input(shape, dtype=dtype)
    x = layer(inputs, inputs) if isinstance(layer, layers.MultiHeadAttention) else layer(inputs)
    model = headed(inputs, layers.Flatten()(x))
    part(layer).enable_lora(2, lora_alpha=alpha)
    return model


def rnn():
    inputs = keras.Input((4, 3))
    return headed(inputs, layers.RNN([Cell(4), Cell(3)], name="rnn")(inputs))


def recurrent(kind, **arguments):
    inputs = keras.Input((4, 3))
    return headed(inputs, kind(4, **arguments)(inputs))


def distributed():
    inputs = keras.Input((4, 3))
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(5, name="inner")])
    return headed(inputs, layers.Flatten()(layers.TimeDistributed(inner)(inputs)))


def frozen():
    model = over(layers.Dense(8, name="first"))
    model.get_layer("first").trainable = False
    return model


def ragged():
    inputs = {name: keras.Input((6,), name=name) for name in ("b", "a")}
    x = layers.Subtract()([inputs["a"], inputs["b"]])
    return keras.Model(inputs, {"y": layers.Dense(2)(layers.Dense(8, name="hidden")(x))})


KINDS = {
    "arguments kept by Keras": lambda: over(Twice(3.0)),
    "function as an activation": lambda: over(layers.Dense(5, activation=wave)),
    "lambda as an activation": lambda: over(layers.Dense(5, activation=lambda x: x * x)),
    "variables in a constructor": lambda: over(Counted()),
    "function in a cell": lambda: recurrent(layers.LSTM, activation=ops.silu),
    "lambda in a cell": lambda: recurrent(layers.GRU, activation=lambda x: ops.clip(x, -1, 1)),
    "regularizer in a cell": lambda: recurrent(
        layers.SimpleRNN, recurrent_regularizer=lambda w: 0.1 * ops.sum(w**2)
    ),
    "functions in both directions": lambda: recurrent(
        lambda *a, **k: layers.Bidirectional(layers.LSTM(*a, **k)), activation=ops.silu
    ),
    "Lambda": lambda: over(layers.Lambda(lambda x: 3 * ops.abs(x) + len(KINDS))),
    "Lambda of a name": lambda: over(layers.Lambda(wave, output_shape=lambda shape: shape)),
    "models in a layer": lambda: over(Feed()),
    "raw operations": lambda: over(lambda x: ops.relu(x) + 1.0),
    "cells in a layer": rnn,
    "model in a wrapper": distributed,
    "frozen": frozen,
    "dictionaries": ragged,
    "own class": Net,
    "own class, nested": lambda: over(Net()),
    "own class of Sequential": lambda: Stack(8),
    "own class of Sequential, nested": lambda: over(Stack(8)),
    "by keyword": lambda: single(lambda inner, x: inner(inputs=x)),
    "by keyword, with a flag": lambda: single(lambda inner, x: inner(inputs=x, training=False)),
    "twice": lambda: single(lambda inner, x: layers.Add()([inner(x), inner(inputs=-x)])),
    "list": lambda: nested(lambda inner, a, b: inner([a, b])),
    "list by keyword": lambda: nested(lambda inner, a, b: inner(inputs=[a, b])),
    "tuple": lambda: nested(lambda inner, a, b: inner((a, b))),
    "by names": lambda: nested(lambda inner, a, b: inner({"a": a, "b": b})),
    "by names, out of order": lambda: nested(
        lambda inner, a, b: inner(inputs={"a": a, "b": b}), pair(("b", "a"))
    ),
    "dictionary of inputs": lambda: nested(
        lambda inner, a, b: inner(inputs={"b": a, "a": b})["y"], ragged()
    ),
    "LoRA in Dense": lambda: with_lora(layers.Dense(6, name="inner"), 6, alpha=5),
    "LoRA asked of Dense": lambda: over(layers.Dense(6, name="inner", lora_rank=2, lora_alpha=7)),
    "LoRA in Conv2D": lambda: with_lora(layers.Conv2D(6, 3, name="inner"), 4, 4, 2, alpha=5),
    "LoRA in groups": lambda: with_lora(layers.Conv2D(8, 3, groups=2, name="inner"), 4, 4, 4),
    "LoRA in EinsumDense": lambda: with_lora(
        layers.EinsumDense("abc,cd->abd", (3, 6), name="inner"), 3, 4, alpha=5
    ),
    "LoRA in Embedding": lambda: with_lora(
        layers.Embedding(5, 6, name="inner"), 3, dtype="int32", alpha=5
    ),
    "LoRA in queries": lambda: with_lora(
        layers.MultiHeadAttention(2, 4), 3, 8, alpha=3, part=lambda layer: layer.query_dense
    ),
    "LoRA in keys": lambda: with_lora(
        layers.MultiHeadAttention(2, 4), 3, 8, part=lambda layer: layer.key_dense
    ),
    "LoRA in values": lambda: with_lora(
        layers.MultiHeadAttention(2, 4), 3, 8, part=lambda layer: layer.value_dense
    ),
    "LoRA in outputs": lambda: with_lora(
        layers.MultiHeadAttention(2, 4), 3, 8, part=lambda layer: layer.output_dense
    ),
}


def built(kind):
    model = KINDS[kind]()
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(rng.normal(size=variable.shape))
    return model


def samples(model):
    rng = np.random.default_rng(1)

    def drawn(tensor):
        shape = (5, *tensor.shape[1:])
        integers = tensor.dtype.startswith("int")
        return rng.integers(0, 4, shape) if integers else rng.normal(size=shape).astype("float32")

    sequential = isinstance(model, keras.Sequential)
    return keras.tree.map_structure(drawn, model.inputs[0] if sequential else model.input)


def outputs(model):
    found = keras.tree.flatten(model(samples(model), training=False))
    return [ops.convert_to_numpy(tensor) for tensor in found]


def weights(model):
    return [ops.convert_to_numpy(v) for v in model.variables if "seed" not in v.path]


@pytest.mark.repeats(12)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_that_cuts_nothing_equals_the_model(kind):
    model = built(kind)
    twin = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))
    assert type(twin) is type(model)
    assert [layer.name for layer in twin.layers] == [layer.name for layer in model.layers]
    assert [v.trainable for v in twin.variables] == [v.trainable for v in model.variables]
    for old, new in zip(weights(model), weights(twin), strict=True):
        np.testing.assert_array_equal(new, old)
    for old, new in zip(outputs(model), outputs(twin), strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.repeats(12)
@pytest.mark.parametrize("kind", KINDS)
def test_a_walk_computes_what_the_model_does(kind):
    """Whatever scores and repairs with data goes from call to call."""
    model = built(kind)
    found = _keras.walk(model, keras.tree.flatten(samples(model)), _keras.run)
    for old, new in zip(outputs(model), found, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(new), old, atol=1e-6 * np.abs(old).max())


@pytest.mark.repeats(12)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_in_place_and_a_cut_copy_are_equal(kind):
    model = built(kind)
    plan = prune_keras.select(prune_keras.trace(model), prune_keras.score(model), fraction=0.4)
    before = outputs(model)
    thin = prune_keras.shrink(model, plan)
    for old, new in zip(before, outputs(model), strict=True):
        np.testing.assert_array_equal(new, old)
    prune_keras.shrink_in_place(model, plan)
    assert thin.count_params() == model.count_params()
    for old, new in zip(outputs(model), outputs(thin), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5 * np.abs(old).max())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("LoRA")])
def test_a_cut_with_lora_is_the_cut_of_what_it_adds_up_to(kind):
    """Merging LoRA into the weights and cutting may be done in either order."""
    model = built(kind)
    graph = prune_keras.trace(model)
    plan = prune_keras.select(graph, prune_keras.score(model), fraction=0.4, scope="uniform")
    thin = prune_keras.shrink(model, plan)
    merged = prune_keras.shrink(model, Plan.everything(graph.widths))
    for layer in merged._flatten_layers():
        if getattr(layer, "lora_enabled", False):
            merge(layer)
    assert thin.count_params() < model.count_params()
    for old, new in zip(outputs(prune_keras.shrink(merged, plan)), outputs(thin), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-5 * np.abs(old).max())


def merge(layer):
    """Add LoRA's product to the weight that it is added to, and let it be zero."""
    table = isinstance(layer, layers.Embedding)
    name = "embeddings" if table else "kernel"
    getattr(layer, f"_{name}").assign(ops.convert_to_tensor(getattr(layer, name)))
    getattr(layer, f"lora_{name}_a").assign(0 * getattr(layer, f"lora_{name}_a"))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.LSTM(4, stateful=True),
        lambda: layers.Bidirectional(layers.GRU(4, stateful=True, return_sequences=True)),
        lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)], stateful=True),
    ],
)
def test_a_copy_of_a_stateful_layer_starts_anew(make):
    """As a model that is read from a file does, since no file holds states."""

    inputs = keras.Input(batch_shape=(5, 4, 3))
    model = headed(inputs, layers.Flatten()(make()(layers.Dense(6, name="before")(inputs))))
    thin, _ = prune_keras.prune(model, fraction=0.3)
    assert thin.get_layer("before").units < 6
    twin = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))
    for old, new in zip(weights(model), weights(twin), strict=True):
        np.testing.assert_array_equal(new, old)
    for old, new in zip(outputs(model), outputs(twin), strict=True):
        np.testing.assert_array_equal(new, old)
