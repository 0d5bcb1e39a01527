"""Widths that a `call` takes to be equal, and activations that files should not name."""

import zipfile

import keras
import numpy as np
from composites_checks import assert_close, foreign_modules, outputs_of
from keras import layers, ops

import prune_keras

X = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")


class AsWideAsItsInput(layers.Layer):
    """Reshapes what it makes to the width of what it reads, as attention of MiT does."""

    def __init__(self, **options):
        super().__init__(**options)
        self.up = layers.Dense(8, name="up")
        self.down = layers.Dense(8, name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], 8))
        self.built = True

    def call(self, x):
        return self.down(ops.reshape(self.up(x), (-1, 5, x.shape[-1])))


def wide():
    inputs = keras.Input((5, 4))
    x = AsWideAsItsInput(name="block")(layers.Dense(8, name="stem")(inputs))
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def test_widths_that_only_agree_with_each_other_stay():
    graph = prune_keras.trace(wide())
    assert set(graph.widths) == {"block/down"}
    reasons = {fixed.path: fixed.reason for fixed in graph.fixed}
    assert "AsWideAsItsInput" in reasons["stem"] and "AsWideAsItsInput" in reasons["block/up"]


def test_they_go_one_without_the_other_once_they_are_unfolded():
    plain = prune_keras.unfold(wide())
    assert set(prune_keras.trace(plain).widths) == {"stem", "block/up", "block/down"}


@keras.saving.register_keras_serializable("someone")
def smoothly(x):
    return x * ops.sigmoid(1.7 * x)


def activated(function):
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, activation=function, name="a")(inputs)
    x = layers.Conv1D(6, 3, activation=function, use_bias=False, name="b")(x)
    x = layers.EinsumDense("btd,df->btf", (None, 3), activation=function, name="c")(x)
    return keras.Model(inputs, x)


def test_an_activation_of_somebody_else_becomes_operations(tmp_path):
    model = activated(smoothly)
    plain = prune_keras.unfold(model)
    assert_close(outputs_of(plain, X), outputs_of(model, X))
    assert {plain.get_layer(name).activation for name in "abc"} == {keras.activations.linear}
    assert [tuple(v.shape) for v in plain.weights] == [tuple(v.shape) for v in model.weights]
    plain.save(tmp_path / "plain.keras")
    assert foreign_modules(tmp_path / "plain.keras") == set()
    loaded = keras.models.load_model(tmp_path / "plain.keras")
    assert_close(outputs_of(loaded, X), outputs_of(plain, X))
    with zipfile.ZipFile(tmp_path / "plain.keras") as file:
        assert b"someone" not in file.read("config.json")
