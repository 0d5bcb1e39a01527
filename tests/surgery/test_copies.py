"""A thinner copy is a model of its own: nothing that is done to it reaches the one it came from."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, assert_same, compiled, dense_model, fit, state_of

import prune_keras
from prune_keras import Plan


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_training_a_copy_leaves_the_model_as_it_was(fraction):
    model = dense_model((8, 4))
    fit(model, epochs=1)
    before, graph = state_of(model), prune_keras.trace(model)
    plan = Plan.everything(graph.widths)
    if fraction:
        plan = prune_keras.select(graph, prune_keras.score(model), fraction=fraction)
    fit(compiled(prune_keras.shrink(model, plan)), epochs=2)
    assert_same(before, state_of(model))


def test_a_model_can_be_used_after_its_copy_was_evaluated():
    model = dense_model((8, 4))
    expected = keras.ops.convert_to_numpy(model(SAMPLES))
    thin = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))
    compiled(thin).evaluate(SAMPLES, LABELS, verbose=0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(SAMPLES)), expected)
