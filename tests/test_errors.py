"""Bad models and plans: a clear error, and the model as it was."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import Plan


def network():
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, name="a"), layers.Dense(5, name="b"), layers.Dense(2)]
    )


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def quantized():
    model = network()
    model.layers[0].quantize("int8")
    return model


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: "model.keras", "must be a keras.Model. Received: model='model.keras'"),
        (lambda: keras.Sequential([layers.Dense(2)], name="bare"), "must be built.*'bare'"),
        (Subclassed, "must know what it is called on.*Subclassed"),
        (quantized, "floating-point weights. Received: layer 'a' quantized to 'int8'"),
    ],
)
@pytest.mark.parametrize(
    "use",
    [
        prune_keras.trace,
        prune_keras.cost,
        prune_keras.score,
        lambda model: prune_keras.prune(model, fraction=0.5),
        lambda model: prune_keras.shrink(model, Plan({}, {})),
        lambda model: prune_keras.shrink_in_place(model, Plan({}, {})),
        lambda model: prune_keras.export(model, "model.keras"),
    ],
    ids=["trace", "cost", "score", "prune", "shrink", "shrink_in_place", "export"],
)
def test_models_that_cannot_be_pruned_are_refused(make, message, use):
    with pytest.raises(ValueError, match=message):
        use(make())


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan({"a": [0]}, {"a": 6}), "None units for 'b', while it has 5"),
        (Plan({"a": [0], "b": [0]}, {"a": 7, "b": 5}), "7 units for 'a', while it has 6"),
        (Plan({"a": [], "b": [0]}, {"a": 6, "b": 5}), "at least one channel"),
    ],
)
@pytest.mark.parametrize("use", [prune_keras.shrink, prune_keras.shrink_in_place])
def test_a_plan_that_does_not_fit_changes_nothing(plan, message, use):
    model = network()
    weights, config = model.get_weights(), model.to_json()
    with pytest.raises(ValueError, match=message):
        use(model, plan)
    assert model.to_json() == config
    for old, new in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_plan_must_not_split_a_neuron():
    inputs = keras.Input((4,))
    a, b = layers.Dense(3, name="a")(inputs), layers.Dense(3, name="b")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.Add()([a, b])))
    with pytest.raises(ValueError, match=r"Received: kept\['.'\]=\[.*\], which splits a neuron"):
        prune_keras.shrink(model, Plan({"a": [0, 1], "b": [1, 2]}, {"a": 3, "b": 3}))


def test_a_model_of_outputs_only_has_nothing_to_prune():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="only")])
    with pytest.raises(ValueError, match="prunable neurons.*only: 2 units are fixed"):
        prune_keras.prune(model, fraction=0.5)


def test_layers_of_another_living_model_are_not_cut_in_place():
    shared = layers.Dense(6, name="shared")
    one, two = keras.Input((4,)), keras.Input((4,))
    model = keras.Model(one, layers.Dense(1)(shared(one)))
    other = keras.Model(two, layers.Dense(3)(shared(two)), name="other")
    plan = Plan({"shared": [0, 1]}, {"shared": 6})
    with pytest.raises(ValueError, match="'shared' of .*, which model 'other' has as well"):
        prune_keras.shrink_in_place(model, plan)
    assert shared.units == 6
    assert prune_keras.shrink(model, plan).get_layer("shared").units == 2
    del other
    prune_keras.shrink_in_place(model, plan)
    assert shared.units == 2


def test_a_graph_from_before_a_cut_or_of_another_model_is_refused():
    model, other = network(), network()
    graph = prune_keras.trace(model)
    prune_keras.shrink_in_place(model, Plan({"a": [1, 2], "b": [0]}, {"a": 6, "b": 5}), graph)
    assert [layer.units for layer in model.layers] == [2, 1, 2]
    plan = Plan({"a": [0], "b": [0]}, {"a": 6, "b": 5})
    with pytest.raises(ValueError, match=r"in which a/kernel has sizes .*Trace again"):
        prune_keras.shrink_in_place(model, plan, graph)
    with pytest.raises(ValueError, match="must be traced from the model as it is now"):
        prune_keras.shrink_in_place(other, plan, graph)
    assert [layer.units for layer in model.layers] == [2, 1, 2]
    assert [layer.units for layer in other.layers] == [6, 5, 2]
