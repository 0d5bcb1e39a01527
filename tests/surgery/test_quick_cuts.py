"""Shortcuts of a cut: they change neither weights nor which living models are found."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras import surgery
from prune_keras._keras import sharing

layers = keras.layers


def network():
    keras.utils.set_random_seed(2)
    stack = [layers.Conv2D(8, 3), layers.BatchNormalization(), layers.Conv2D(6, 3)]
    last = [layers.GlobalAveragePooling2D(), layers.Dense(3)]
    return keras.Sequential([keras.Input((9, 9, 2)), *stack, *last])


@pytest.mark.parametrize("small", [0, 10**9])
def test_weights_are_the_same_slices_however_large_they_are(small, monkeypatch):
    monkeypatch.setattr(surgery, "SMALL", small)
    model = network()
    graph = prune_keras.trace(model)
    plan = prune_keras.select(graph, prune_keras.score(model, "l2"), fraction=0.4)
    thin = prune_keras.shrink(model, plan)
    prune_keras.shrink_in_place(model, plan, graph)
    assert model.count_params() < network().count_params()
    for cut, copied in zip(model.variables, thin.variables, strict=True):
        ours, theirs = (keras.ops.convert_to_numpy(each) for each in (cut, copied))
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("few", [0, 10**9])
def test_living_models_are_found_by_either_look(few, monkeypatch):
    monkeypatch.setattr(sharing, "FEW", few)

    class Holder(keras.Model):
        """A subclassed model that calls a layer of another one."""

        def __init__(self, layer):
            super().__init__(name="holder")
            self.held = layer

    model = network()
    view = keras.Model(model.inputs, model.layers[1].output)
    assert sharing.neighbours_of(model).views == (view,)
    holder = Holder(model.layers[0])
    assert set(sharing.neighbours_of(model).users.values()) == {holder.name}
    with pytest.raises(ValueError, match="holder"):
        surgery.check_alone(model)
