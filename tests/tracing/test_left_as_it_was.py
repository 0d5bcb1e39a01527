"""Looking into code of a user's leaves no trace: attributes, calls, dtypes, and losses stay."""

import gc

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.callbacks import ProgressivePruning

X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")


class Block(layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.up = layers.Dense(8, activation="relu", name="up")
        self.down = layers.Dense(6, name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 8))

    def call(self, x):
        return self.down(self.up(x))


def beside_raw(block):
    """Return a model in which a block stands beside a raw operation."""
    x = keras.Input((6,))
    h = layers.Dense(6, name="stem")(x)
    model = keras.Model(x, layers.Dense(2, name="head")(h + block(h)))
    model.compile("sgd", "mse")
    return model


def calls(model):
    return {o.name: (len(o._inbound_nodes), len(o._outbound_nodes)) for o in model.operations}


WAYS = {
    "unfold": prune_keras.unfold,
    "prune": lambda model: prune_keras.prune(model, fraction=0.3)[0],
    "cost": prune_keras.cost,
    "shrink": lambda model: prune_keras.shrink(model, _half(model)),
}


def _half(model):
    scores = prune_keras.score(model, "l2")
    return prune_keras.select(prune_keras.trace(model), scores, fraction=0.5)


@pytest.mark.parametrize("way", WAYS)
def test_raw_operations_have_no_more_calls_than_before(way):
    model = beside_raw(Block(name="block"))
    before = calls(model)
    WAYS[way](model)
    assert calls(model) == before


@pytest.mark.parametrize("way", WAYS)
def test_a_model_can_be_cut_in_place_after_a_copy_was_made(way):
    model = beside_raw(Block(name="block"))
    held = WAYS[way](model)
    pruning = ProgressivePruning(target={"params": 0.7}, fraction=0.3, verbose=0, criterion="l2")
    model.fit(X, X[:, :2], epochs=3, verbose=0, callbacks=[pruning])
    assert pruning.rounds
    del held
    gc.collect()


class Remembers(Block):
    """Keeps what it met in attributes that no later call reads."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.last, self.shapes, self.by_name, self.seen = None, [], {}, set()

    def call(self, x):
        h = self.up(x)
        self.last = h
        self.shapes.append(tuple(h.shape))
        self.by_name["h"] = h
        self.seen.add(len(self.shapes))
        self.another = h
        return self.down(h)


@pytest.mark.parametrize("way", WAYS)
def test_attributes_hold_what_they_held(way):
    block = Remembers(name="block")
    model = beside_raw(block)
    model(X)
    before = block.last, list(block.shapes), dict(block.by_name), set(block.seen), set(vars(block))
    WAYS[way](model)
    after = block.last, block.shapes, block.by_name, block.seen, set(vars(block))
    assert before[0] is after[0]
    assert before[1:2] + before[3:] == after[1:2] + after[3:]
    assert before[2]["h"] is after[2]["h"]
    model.predict(X, verbose=0)  # and it runs as before
    assert [*prune_keras.trace(model).widths] == ["stem", "block/up", "block/down"]


class Counts(Block):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.steps = 0

    def call(self, x):
        self.steps += 1
        return self.down(self.up(x)) * (1.0 if self.steps < 6 else 2.0)


def test_a_layer_that_counts_its_calls_is_left_as_it_is():
    block = Counts(name="block")
    model = beside_raw(block)
    before = block.steps
    graph = prune_keras.trace(model)
    assert block.steps == before
    assert any("changes its attribute 'steps'" in str(each) for each in graph.fixed)


class Ids(keras.Model):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.table = layers.Embedding(3000, 8, name="table")
        self.hidden = layers.Dense(8, activation="relu", name="hidden")
        self.head = layers.Dense(2, name="head", dtype="float32")

    def build(self, shape):
        self.table.build(shape)
        self.hidden.build((None, 8))
        self.head.build((None, 8))

    def call(self, ids):
        there = ops.cast(ids != 0, self.compute_dtype)
        return self.head(self.hidden(self.table(ids)) * there[..., None])


class Nested(Ids):
    """The same, looked up in a model of Keras' own."""

    def __init__(self, **settings):
        super().__init__(**settings)
        ids = keras.Input((5,), dtype="int32")
        self.table = keras.Model(ids, layers.Embedding(3000, 8)(ids))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", [Ids, Nested])
def test_ids_are_whole_numbers_in_a_plain_copy(kind, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = kind()
    finally:
        keras.config.set_dtype_policy(before)
    ids = np.array([[2999, 257, 2049, 1, 0]])
    given = model(ids)
    plain = prune_keras.unfold(model)
    assert plain.inputs[0].dtype == "int32"
    np.testing.assert_allclose(plain(ids), given, rtol=0, atol=1e-6)


class Weighs(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 8), name="kernel")
        self.scale = self.add_weight(shape=(8,), name="scale", initializer="ones")
        self.gain = self.add_weight(shape=(), name="gain", initializer="ones")

    def call(self, x):
        return ops.matmul(x, self.kernel) * self.scale * self.gain


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32", "bfloat16"])
def test_own_weights_stay_in_their_dtype(policy):
    x = keras.Input((6,))
    own = Weighs(name="own", dtype=keras.DTypePolicy(policy))
    model = keras.Model(x, layers.Dense(2, dtype="float32")(own(x)))
    fine = np.full((6, 8), 1 + 2.0**-14, "float32")
    own.kernel.assign(fine)
    plain = prune_keras.unfold(model)
    held = {tuple(each.shape): each for each in plain.weights}
    assert {held[s].dtype for s in ((6, 8), (8,))} == {own.kernel.dtype}
    np.testing.assert_array_equal(
        ops.convert_to_numpy(ops.cast(held[6, 8], "float32")),
        ops.convert_to_numpy(ops.cast(own.kernel, "float32")),
    )


@pytest.mark.parametrize("where", ["block", "inner block", "model"])
def test_what_is_added_to_the_loss_by_outputs_is_not_lost(where):
    def penalty(place):
        return keras.regularizers.L2(1.0) if place == where else None

    class Outer(layers.Layer):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.inner = Block(name="inner", activity_regularizer=penalty("inner block"))

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x):
            return self.inner(x)

    class Whole(keras.Model):
        def __init__(self):
            super().__init__(activity_regularizer=penalty("model"))
            self.outer = Outer(name="outer", activity_regularizer=penalty("block"))
            self.head = layers.Dense(2, name="head")

        def call(self, x):
            return self.head(self.outer(x))

    model = Whole()
    model(X)
    with pytest.raises(ValueError, match="must do in training what the model does"):
        prune_keras.unfold(model)
    _, report = prune_keras.prune(model, fraction=0.3)
    assert any("does in training only is not in the thin model" in note for note in report.notes)


class Adds(layers.Layer):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.hidden = layers.Dense(2000, name="hidden")

    def build(self, shape):
        self.hidden.build(shape)

    def call(self, x, offset):
        return self.hidden(x) + offset


def test_calls_with_other_large_arrays_are_other_calls():
    x = keras.Input((6,))
    first, second = np.zeros((1, 2000), "float32"), np.zeros((1, 2000), "float32")
    second[0, 1000] = 7.0
    adds = Adds(name="adds")
    model = keras.Model(x, layers.Dense(2)(adds(x, first) * adds(x, second)))
    plain = prune_keras.unfold(model)
    np.testing.assert_allclose(plain(X), model(X), rtol=1e-4, atol=1e-4)
