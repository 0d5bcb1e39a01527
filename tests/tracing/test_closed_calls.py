"""What no graph says for every batch, or by names that are its own, stays closed with a reason."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, randomize, samples

import prune_keras


class OfWeight(layers.Layer):
    """Adds what a layer makes of a weight."""

    def __init__(self, inner, **options):
        super().__init__(**options)
        self.inner = inner

    def build(self, shape):
        self.table = self.add_weight(shape=(6, 6), name="table")
        self.inner.build((6, 6))

    def call(self, x):
        return x + self.inner(self.table)


def model_of(block):
    inputs = keras.Input((6, 6))
    x = block(layers.Dense(6, name="a")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    return model


def check_cut(model):
    """Compare with a plain copy, as it is, and once half of what may go is gone from both."""
    graph, x = prune_keras.trace(model), samples(model)
    plain = prune_keras.unfold(model)
    for one, other in zip(outputs_of(plain, x), outputs_of(model, x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())
    plan = prune_keras.Plan(dict.fromkeys(graph.widths, [0, 2, 5]), graph.widths)
    thin = prune_keras.shrink(plain, plan)
    prune_keras.shrink_in_place(model, plan)
    np.testing.assert_allclose(outputs_of(thin, x), outputs_of(model, x), atol=1e-5)


def halved_rows(x):
    return x - ops.mean(x, axis=0, keepdims=True) / 2


ON_OTHER_AXES = {
    "layer normalization": lambda: layers.LayerNormalization(axis=0),
    "counted from the front": lambda: layers.LayerNormalization(axis=1),
    "of both axes": lambda: layers.LayerNormalization(axis=[0, 1]),
    "root mean square": lambda: layers.RMSNormalization(axis=0),
    "function of one's own": lambda: layers.Activation(halved_rows),
    "noise of one shape": lambda: layers.Dropout(0.5, noise_shape=(6, 1)),
}


@pytest.mark.parametrize("kind", ON_OTHER_AXES)
def test_layers_that_know_axes_are_not_called_on_a_weight_of_each_sample(kind):
    inner = ON_OTHER_AXES[kind]()
    model = model_of(OfWeight(inner, name="block"))
    graph = prune_keras.trace(model)
    (reason,) = {each.reason for each in graph.fixed if each.path == "a"}
    assert reason.endswith(f"it calls {inner.name} on a weight")


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_a_normalization_of_the_last_axis_of_a_weight_is_opened(kind):
    check_cut(model_of(OfWeight(getattr(layers, kind)(), name="block")))


class Twins(layers.Layer):
    """Calls two layers of one name."""

    def __init__(self, names=("twin", "twin"), **options):
        super().__init__(**options)
        self.inner = [layers.Dense(6, activation="relu", name=name) for name in names]

    def call(self, x):
        for each in self.inner:
            x = each(x)
        return x


class TwinModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.blocks = [Twins(("one", "other"), name="block") for _ in range(2)]

    def call(self, x):
        for each in self.blocks:
            x = each(x)
        return x


NAMED = "of its layers are called '{}'; give each its own name"


def test_layers_of_one_name_are_named():
    fixed = prune_keras.trace(model_of(Twins(name="block"))).fixed
    (reason,) = {each.reason for each in fixed if each.path == "a"}
    assert reason.endswith(f"2 {NAMED.format('twin')}")


def test_a_layer_that_is_called_twice_is_one():
    block = Twins(("one", "other"), name="block")
    block.inner.append(block.inner[0])
    assert {"block/one", "block/other"} <= {*prune_keras.trace(model_of(block)).widths}


@pytest.mark.parametrize("does", [prune_keras.trace, prune_keras.cost, prune_keras.unfold])
def test_blocks_of_one_name_in_a_model_are_named(does):
    model = TwinModel()
    model(np.ones((2, 6)))
    with pytest.raises(ValueError, match=f"2 {NAMED.format('block')}"):
        does(model)
