"""Unfolding: blocks and subclassed models as plain functional models of equal outputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, samples
from promises import random_plan

import prune_keras
from prune_keras import _keras

RNG = np.random.default_rng(0)


class Excite(layers.Layer):
    """Squeeze and excitation."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.pool = layers.GlobalAveragePooling2D(keepdims=True)
        self.down = layers.Conv2D(4, 1, activation="relu")
        self.up = layers.Conv2D(width, 1, activation="sigmoid")

    def call(self, x):
        return x * self.up(self.down(self.pool(x)))


class Inverted(layers.Layer):
    """An inverted residual with an excitation inside, which is a layer of layers, too."""

    def __init__(self, width, excite=True, **options):
        super().__init__(**options)
        self.steps = [
            layers.Conv2D(3 * width, 1, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.DepthwiseConv2D(3, padding="same"),
        ]
        self.excite = Excite(3 * width) if excite else None
        self.drop = layers.Dropout(0.1)
        self.project = layers.Conv2D(width, 1)

    def call(self, x, training=None):
        y = x
        for step in self.steps:
            y = step(y)
        y = y if self.excite is None else self.excite(y)
        return x + self.project(self.drop(y, training=training))


class Block(layers.Layer):
    """A transformer block."""

    def __init__(self, width, heads, **options):
        super().__init__(**options)
        self.attention = layers.MultiHeadAttention(heads, width // heads)
        self.norms = [layers.LayerNormalization() for _ in range(2)]
        self.mlp = keras.Sequential(
            [layers.Dense(2 * width, activation="gelu"), layers.Dense(width)]
        )

    def call(self, x, mask=None):
        y = self.norms[0](x)
        x = x + self.attention(y, y, attention_mask=mask)
        return ops.add(x, self.mlp(self.norms[1](x)))


class Pair(layers.Layer):
    """Two tensors in, a dict out."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.left, self.right = layers.Dense(width), layers.Dense(width)

    def call(self, a, b):
        return {"sum": self.left(a) + self.right(b), "product": ops.relu(a) * b}


class Classifier(keras.Model):
    """A model with a `call` of its own, of blocks in a list and a shared one."""

    def __init__(self):
        super().__init__()
        self.stem = layers.Conv2D(8, 3, strides=2)
        self.blocks = [Inverted(8), Inverted(8, excite=False)]
        self.shared = Inverted(8)
        self.head = layers.Dense(3)

    def call(self, x, training=None):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, training=training)
        x = self.shared(self.shared(x, training=training), training=training)
        return self.head(ops.mean(x, axis=(1, 2)))


def classifier():
    model = Classifier()
    model(np.zeros((1, 9, 9, 3), "float32"))
    return model, keras.Input((9, 9, 3))


def excited():
    x = inputs = keras.Input((6, 6, 3))
    for width in (6, 6):
        x = Excite(6)(layers.Conv2D(width, 3, padding="same")(x))
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x))), None


def transformer():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(11, 8)(inputs)
    for _ in range(2):
        x = Block(8, 2)(x)
    return keras.Model(inputs, layers.Dense(2)(x[:, 0])), None


def pairs():
    a, b = keras.Input((4,)), keras.Input((4,))
    made = Pair(4)(layers.Dense(4)(a), b=layers.Dense(4)(b))
    return keras.Model([a, b], layers.Dense(2)(made["sum"] * made["product"])), None


def sequential():
    blocks = [Inverted(4), Inverted(4, excite=False)]
    return keras.Sequential([keras.Input((6, 6, 3)), layers.Conv2D(4, 1), *blocks]), None


def nested():
    x = inputs = keras.Input((6, 6, 3))
    y = given = keras.Input((6, 6, 8))
    inner = keras.Model(given, Inverted(8)(y))
    x = inner(inner(layers.Conv2D(8, 1)(x)))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))), None


MAKERS = [classifier, excited, transformer, pairs, sequential, nested]


def given(model, x):
    return ops.convert_to_numpy(model(x))


@pytest.fixture(params=MAKERS, ids=lambda maker: maker.__name__)
def unfolded(request):
    model, inputs = request.param()
    return model, prune_keras.unfold(model, inputs)


def test_outputs_are_equal_and_no_layer_is_left_closed(unfolded):
    model, plain = unfolded
    x = samples(plain)
    x = x[0] if len(x) == 1 else x
    pairs = zip(keras.tree.flatten(model(x)), keras.tree.flatten(plain(x)), strict=True)
    for old, new in pairs:
        found, wanted = ops.convert_to_numpy(new), ops.convert_to_numpy(old)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert not [f for f in prune_keras.trace(plain).fixed if "no rule" in f.reason]
    assert all(type(each).__module__.startswith("keras.") for each in plain._flatten_layers())


def test_the_model_is_as_it_was(unfolded):
    model, plain = unfolded
    assert not {id(v) for v in model.variables} & {id(v) for v in plain.variables}
    before = [np.array(v) for v in model.variables]
    for variable in plain.variables:
        variable.assign(variable + 1)
    for old, variable in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(variable))


def test_a_thin_one_is_read_back_without_the_classes(unfolded, tmp_path):
    _, plain = unfolded
    plan = random_plan(plain, (0, 0.4))
    thin = prune_keras.shrink(plain, plan)
    thin.save(tmp_path / "thin.keras")
    read, x = keras.models.load_model(tmp_path / "thin.keras"), samples(plain)
    for old, new in zip(outputs_of(thin, x), outputs_of(read, x), strict=True):
        np.testing.assert_array_equal(new, old)


class Scaled(layers.Layer):
    def build(self, shape):
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones")
        self.inner = layers.Dense(4)
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x) * self.gamma


class Chancy(layers.Layer):
    """Branches by what it draws."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(4)

    def call(self, x, training=None):
        return self.inner(x) * 2.0 if training and np.random.rand() < 0.5 else self.inner(x)


class Noisy(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(4)

    def call(self, x):
        return self.inner(x) + keras.random.normal((4,))


class Positioned(layers.Layer):
    """Calls a layer on numbers that are no tensors of the graph."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table, self.inner = layers.Embedding(3, 4), layers.Dense(4)

    def call(self, x):
        return self.inner(x) + self.table(ops.arange(1))[0]


class Looking(keras.Model):
    """Reads a value."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(4)

    def call(self, x):
        return self.inner(x) if float(ops.sum(x)) > 0 else x


def looking():
    model = Looking()
    model(np.ones((1, 4), "float32"))
    return model, keras.Input((4,))


@pytest.mark.parametrize("kind", [Scaled, Positioned])
def test_own_weights_become_plain_layers(kind, tmp_path):
    inputs = keras.Input((4,))
    block = kind(name="block")(layers.Dense(4, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(block))
    for variable in model.variables:
        variable.assign(np.random.default_rng(1).normal(size=variable.shape))
    plain, x = prune_keras.unfold(model), np.random.default_rng(0).normal(size=(3, 4))
    np.testing.assert_allclose(given(plain, x), given(model, x), rtol=1e-6)
    assert len(plain.weights) == len(model.weights)
    thin, _ = prune_keras.prune(plain, fraction=0.4)
    thin.save(tmp_path / "thin.keras")
    read = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_array_equal(given(read, x), given(thin, x))


class Mixed(layers.Layer):
    """Has weights of no, one and two axes, which meet each other before they meet samples."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="normal", name="table")
        self.scale = self.add_weight(shape=shape[-1:], initializer="normal", name="scale")
        self.square = self.add_weight(shape=2 * shape[-1:], initializer="normal", name="square")
        self.gates = [self.add_weight(shape=(), initializer="ones", name="gate") for _ in range(2)]

    def call(self, x):
        first, other = self.gates
        added = self.table * self.scale * ops.tanh(first) + (1 - other) * self.scale
        return x * ops.exp(other) + added + ops.matmul(self.table, self.square)


def mixed():
    inputs = keras.Input((6, 3))
    x = Mixed(name="mixed")(layers.Dense(5, name="a")(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def test_weights_that_meet_each_other_keep_their_axes(tmp_path):
    model, x = mixed(), np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    plain = prune_keras.unfold(model)
    np.testing.assert_allclose(given(plain, x), given(model, x), atol=1e-6)
    assert len(plain.weights) == len(model.weights)
    plain.save(tmp_path / "plain.keras")
    read = keras.models.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(given(read, x), given(plain, x))


def test_a_graph_that_was_recorded_follows_its_weights():
    model, x = mixed(), np.random.default_rng(0).normal(size=(4, 6, 3)).astype("float32")
    prune_keras.trace(model)
    for number, variable in enumerate(model.variables):
        variable.assign(np.random.default_rng(number).normal(size=variable.shape))
    (found,) = _keras.walk(model, [ops.convert_to_tensor(x)], _keras.run)
    np.testing.assert_allclose(ops.convert_to_numpy(found), given(model, x), atol=1e-5)


@pytest.mark.parametrize("kind", [Chancy])
def test_what_cannot_be_looked_into_stays_and_is_named(kind):
    inputs = keras.Input((4,))
    block = kind(name="block")(layers.Dense(4, name="a")(inputs))
    plain = prune_keras.unfold(keras.Model(inputs, layers.Dense(2)(block)))
    assert type(plain.get_layer("block")) is kind
    (fixed,) = [f for f in prune_keras.trace(plain).fixed if f.path == "a"]
    assert fixed.units == 4 and "block" in fixed.reason


def test_what_draws_numbers_is_not_taken_for_what_it_drew():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, Noisy(name="block")(inputs))
    with pytest.raises(ValueError, match="must give the outputs of the model"):
        prune_keras.unfold(model)  # whose outputs are others each time


def test_a_block_that_is_called_in_two_ways_stays_one():
    x, block = keras.Input((None, 4)), Pair(4, name="block")
    first = block(x, x)["sum"]
    other = block(first, layers.Dense(4)(layers.GlobalMaxPooling1D()(first)))["sum"]
    model = keras.Model(x, other)
    plain = prune_keras.unfold(model)
    assert len(plain.weights) == len(model.weights)


def test_a_rule_has_the_last_word():
    seen = []

    class Ruled(Excite):
        pass

    @prune_keras.register_rule(Ruled)
    def ruled(visit, trace):
        seen.append(visit.path)
        return trace.refuse(visit, "a rule says so")

    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, Ruled(4)(layers.Conv2D(4, 1)(inputs)))
    model_inside = prune_keras.unfold(model)
    prune_keras.trace(model_inside)
    assert seen and type(model_inside.layers[-1]) is Ruled


def test_calls_that_were_made_to_look_are_forgotten():
    model, _ = excited()
    before = [len(layer._inbound_nodes) for layer in _keras.all_layers(model)]
    prune_keras.unfold(model)
    assert [len(layer._inbound_nodes) for layer in _keras.all_layers(model)] == before


class Unbuilt(keras.Model):
    pass


@pytest.mark.parametrize(
    "arguments, message",
    [
        (lambda: ("model",), "`model` must be a keras.Model"),
        (lambda: (Unbuilt(),), "must be built"),
        (lambda: (classifier()[0], (9, 9, 3)), "must come with its inputs.*Pass what `call` takes"),
        (lambda: (excited()[0], keras.Input((6, 6, 3))), "`inputs` are for subclassed models"),
        (
            lambda: (classifier()[0], keras.Input((9, 9))),
            "line .* of test_unfolding.py, .*self.stem",
        ),
        (looking, "Received: 'looking.*line .* of test_unfolding.py.*float\\(ops.sum"),
    ],
)
def test_what_is_wrong_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune_keras.unfold(*arguments())


class Adding(keras.layers.Layer):
    """Adds a loss by its own code."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.layers.Dense(6, name="inner")

    def call(self, x):
        y = self.inner(x)
        self.add_loss(0.1 * keras.ops.mean(y**2))
        return y


def test_what_adds_a_loss_is_cut_where_it_stands_and_keeps_its_class():
    inputs = keras.Input((4,))
    x = Adding(name="adding")(keras.layers.Dense(6, name="stem")(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2, name="head")(x))
    assert set(prune_keras.trace(model).widths) == {"stem", "adding/inner"}
    plain = prune_keras.unfold(model)
    plain(np.ones((1, 4)))
    assert type(plain.get_layer("adding")) is Adding and len(plain.losses) == 1
    _, report = prune_keras.prune(model, fraction=0.4, criterion="l2")
    assert any("what adding does in training only is not in" in note for note in report.notes)
    prune_keras.shrink_in_place(model, random_plan(model, (0, 0.4)))
    model(np.ones((1, 4)))
    assert len(model.losses) == 1
