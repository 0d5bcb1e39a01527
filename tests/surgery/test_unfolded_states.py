"""States that a `call` makes for its batch, and weights that two layers would hold, unfolded."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, randomize, samples

import prune_keras


class Memory(layers.Layer):
    """Hands its recurrent layer what to start from."""

    def __init__(self, inner, fill=ops.zeros, count=1, by_name=True, **options):
        super().__init__(**options)
        self.inner, self.fill, self.count, self.by_name = inner, fill, count, by_name
        self.width = 8

    def call(self, x):
        states = [self.fill((ops.shape(x)[0], self.width)) for _ in range(self.count)]
        if self.by_name:
            return self.inner(x, initial_state=states)
        return self.inner(x, states)


def model_of(*arguments, **options):
    inputs = keras.Input((5, 6))
    x = Memory(*arguments, name="memory", **options)(layers.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    return model


KINDS = {
    "gru": lambda **options: model_of(layers.GRU(8, name="r", seed=0), **options),
    "simple": lambda **options: model_of(layers.SimpleRNN(8, name="r"), **options),
    "lstm": lambda **options: model_of(layers.LSTM(8, name="r", seed=0), count=2, **options),
    "both directions": lambda **options: model_of(
        layers.Bidirectional(layers.GRU(8, seed=0), name="r"), count=2, **options
    ),
}


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_states_follow_the_units_that_start_from_them(kind, by_name, tmp_path):
    model = KINDS[kind](by_name=by_name)
    widths, x = prune_keras.trace(model).widths, samples(model)
    plain = prune_keras.unfold(model)
    assert {*widths.values()} == {6, 8} and prune_keras.trace(plain).widths == widths
    plan = prune_keras.Plan({path: range(0, width, 2) for path, width in widths.items()}, widths)
    thin = prune_keras.shrink(plain, plan)
    prune_keras.shrink_in_place(model, plan)
    np.testing.assert_allclose(outputs_of(thin, x), outputs_of(model, x), atol=1e-5)
    thin.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    three = np.repeat(x[0][:1], 3, 0)
    np.testing.assert_allclose(loaded.predict(three, verbose=0), thin(three), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_other_numbers_are_there_for_each_sample(kind):
    model = KINDS[kind](fill=ops.ones)
    plain, x = prune_keras.unfold(model), np.ones((3, 5, 6), "float32")
    np.testing.assert_allclose(plain.predict(x, verbose=0), model(x), atol=1e-5)


class Quantized(layers.Layer):
    """Takes the entry of a table that fits best."""

    def build(self, shape):
        self.table = self.add_weight(shape=(10, shape[-1]), name="table")

    def call(self, x):
        best = ops.argmax(ops.matmul(x, ops.transpose(self.table)), axis=-1)
        return x + ops.take(self.table, best, axis=0)


class Distances(Quantized):
    """Takes the nearest entry of a table."""

    def call(self, x):
        squares = ops.sum(self.table**2, axis=-1)
        nearest = ops.argmin(squares - 2 * ops.matmul(x, ops.transpose(self.table)), axis=-1)
        return ops.take(self.table, nearest, axis=0)


class QuantizedModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = layers.Dense(6, name="hidden"), layers.Dense(2, name="head")

    def build(self, shape):
        self.table = self.add_weight(shape=(10, 6), name="table")
        self.hidden.build(shape)
        self.head.build((None, 6))

    def call(self, x):
        x = self.hidden(x)
        squares = ops.sum(self.table**2, axis=-1)
        nearest = ops.argmin(squares - 2 * ops.matmul(x, ops.transpose(self.table)), axis=-1)
        return self.head(ops.take(self.table, nearest, axis=0))


@pytest.mark.parametrize("block", [Quantized, Distances])
def test_a_table_that_is_searched_is_unfolded_or_stays_as_it_is(block):
    inputs = keras.Input((5, 6))
    x = block(name="block")(layers.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    x = samples(model)
    np.testing.assert_allclose(outputs_of(prune_keras.unfold(model), x), outputs_of(model, x))


def test_a_model_whose_weight_several_layers_would_hold_is_refused():
    model = QuantizedModel()
    model(np.ones((2, 6)))
    with pytest.raises(ValueError, match="A weight must belong to one layer") as error:
        prune_keras.unfold(model)
    assert "'quantized_model' (QuantizedModel), in which one is held by" in str(error.value)
    assert "Embedding" in str(error.value)
