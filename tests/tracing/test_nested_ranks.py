"""Nested models that are called on what Keras makes one of their inputs of."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, randomize, samples
from small_models import cut, reason

import prune_keras


def of_rank(inner, outer):
    """Return a model around a nested one that takes tensors of another rank."""
    inputs = keras.Input(inner)
    nested = keras.Model(inputs, layers.Dense(5, name="in")(inputs), name="inner")
    inputs = keras.Input(outer)
    x = layers.Dense(4, name="a")(layers.Dense(outer[-1], name="before")(inputs))
    x = layers.Dense(outer[-1], name="given")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Dense(3, name="b")(nested(x))))
    randomize(model)
    return model


RANKS = {"an axis too many": ((8,), (8, 1)), "an axis too few": ((4, 1), (4,))}


@pytest.mark.parametrize("name", RANKS)
def test_a_nested_model_of_another_rank_stays(name):
    model = of_rank(*RANKS[name])
    graph = prune_keras.trace(model)
    assert not any(path.startswith("inner") for path in graph.widths)
    assert "its input has another rank than what it is called on" in reason(model, "given")
    everything = prune_keras.Plan.everything(graph.widths).kept
    plan = prune_keras.Plan({**everything, "a": [0, 3]}, graph.widths)
    x, thin = samples(model), prune_keras.shrink(model, plan)
    kernel = model.get_layer("given").kernel
    kernel.assign(np.array(ops.convert_to_numpy(kernel)) * [[1], [0], [0], [1]])
    expected = outputs_of(model, x)
    prune_keras.shrink_in_place(model, plan)
    for each in (thin, model):
        np.testing.assert_allclose(outputs_of(each, x), expected, atol=1e-5)


@pytest.mark.parametrize("name", RANKS)
def test_scores_from_data_pass_through_it(name):
    model = of_rank(*RANKS[name])
    x = [np.repeat(each, 8, 0) for each in samples(model)]
    scores = prune_keras.score(model, "apoz", data=x[0])
    assert scores["a"].shape == (4,)


def test_a_constant_that_a_nested_model_is_given_keeps_what_it_is_joined_with():
    left, right = keras.Input((5, 8)), keras.Input((5, 8))
    joined = layers.Dense(7, name="in")(layers.Add()([left, right]))
    nested = keras.Model([left, right], joined, name="inner")
    inputs = keras.Input((5, 6))
    constant = ops.convert_to_tensor(np.ones((1, 5, 8), "float32"))
    x = nested([layers.Dense(8, name="a")(inputs), constant])
    model = keras.Model(inputs, layers.Dense(2)(x))
    randomize(model)
    assert reason(model) == "inner is given nothing but constants"
    cut(model, **{"inner/in": [0, 2, 5]})
