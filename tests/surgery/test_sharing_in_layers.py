"""A model that a layer holds is a part of that layer; a second model that calls it is not."""

import keras
import numpy as np
import pytest
from fits import callback
from keras import layers

import prune_keras

X, Y = np.ones((8, 4), "float32"), np.ones((8, 1), "float32")


class Held(layers.Layer):
    """Holds models in an attribute, a list and a dictionary, one of them in another layer."""

    def __init__(self, inner=None, **others):
        super().__init__(**others)
        self.alone = keras.Sequential([layers.Dense(6)])
        inputs = keras.Input((6,))
        self.several = [keras.Model(inputs, layers.Dense(6)(inputs))]
        self.named = {"inner": inner or keras.Sequential([layers.Dense(6)])}

    def build(self, shape):
        for each in (self.alone, self.named["inner"]):
            each.build(shape)

    def call(self, x):
        return x + self.alone(x) + self.several[0](x) + self.named["inner"](x)


class Perceptual(keras.losses.Loss):
    """Holds a network that has nothing to do with the model."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential([keras.Input((1,)), layers.Dense(3)])

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(self.network(y_true) - self.network(y_pred)))


def over(layer, loss="mse"):
    inputs = keras.Input((4,))
    x = layers.Dense(16, activation="relu", name="a")(layer(layers.Dense(6)(inputs)))
    model = keras.Model(inputs, layers.Dense(1)(x))
    model.compile("adam", loss)
    return model


def nested_twice():
    return keras.Sequential([keras.Input((6,)), Held(inner=Held())], name="outer")


def distributed():
    inner = keras.Sequential([keras.Input((3,)), layers.Dense(3)])
    inside = [layers.Reshape((2, 3)), layers.TimeDistributed(inner), layers.Flatten()]
    return keras.Sequential([keras.Input((6,)), *inside])


def in_both_directions():
    cells = layers.Bidirectional(layers.LSTM(3))
    return keras.Sequential([keras.Input((6,)), layers.Reshape((2, 3)), cells])


HOLDERS = {
    "layer": Held,
    "layer in a layer": lambda: Held(inner=Held()),
    "layer in a layer in a model": nested_twice,
    "wrapper": distributed,
    "both directions": in_both_directions,
}


@pytest.mark.repeats(3)
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_a_layer_holds_is_its_own(holder):
    model = over(HOLDERS[holder](), Perceptual() if holder == "layer" else "mse")
    pruning = callback(target={"neurons": 0.9}, fraction=0.1, exclude=lambda path: path != "a")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[pruning])
    assert model.get_layer("a").units < 16


def second_call_of(part):
    inputs = keras.Input((6,))
    return keras.Model(inputs, part(inputs), name="second")


@pytest.mark.repeats(3)
@pytest.mark.parametrize(
    "part",
    [
        lambda layer: layer,
        lambda layer: layer.alone,
        lambda layer: layer.several[0],
        lambda layer: layer.named["inner"],
        lambda layer: layer.named["inner"].alone.layers[0],
    ],
)
def test_another_model_that_calls_a_part_of_it_is_refused(part):
    layer = Held(inner=Held())
    model = over(layer)
    plan = prune_keras.select(prune_keras.trace(model), prune_keras.score(model), fraction=0.5)
    other = second_call_of(part(layer))
    with pytest.raises(ValueError, match="which model 'second' has as well"):
        prune_keras.shrink_in_place(model, plan)
    del other
    prune_keras.shrink_in_place(model, plan)
