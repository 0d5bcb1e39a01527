"""The promises that pruning makes, over generated networks."""

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import outputs_of, recipes, samples
from silenced import Silenced

import prune_keras

BACKEND = keras.backend.backend()
FLOATX = ("float32", "float64") if BACKEND == "tensorflow" else ("float32",)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
CUTS = st.tuples(st.integers(0, 999), st.sampled_from((0.3, 0.5, 0.8)))
FEW, MANY = 60, 500


def times(count):
    phases = [phase for phase in hypothesis.Phase if phase != hypothesis.Phase.explain]
    return settings(max_examples=count, phases=phases)


def random_scores(graph, seed):
    rng = np.random.default_rng(seed)
    return {path: rng.uniform(size=width) for path, width in graph.widths.items()}


def random_plan(model, cut):
    """Return a plan that removes something, or give the example up."""
    seed, fraction = cut
    graph = prune_keras.trace(model)
    try:
        return prune_keras.select(graph, random_scores(graph, seed), fraction=fraction)
    except ValueError:  # nothing to remove
        hypothesis.reject()


def assert_close(found, expected, floatx):
    """Compare relative to the largest output."""
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        bound = TOLERANCE[floatx] * max(np.abs(b).max(), 1e-3)
        assert np.abs(a - b).max() <= bound, np.abs(a - b).max() / np.abs(b).max()


# 1. Removed = silenced.


def check_removed_is_silenced(recipe, cut):
    with recipe.built() as model:
        plan = random_plan(model, cut)
        reference = Silenced(model, plan)
        x = samples(model)
        expected = reference.outputs(x)
        hypothesis.assume(all(np.isfinite(y).all() for y in expected))
        thin = prune_keras.shrink(model, plan)
        assert_close(outputs_of(thin, x), expected, recipe.floatx)
        for old, new in zip(model.variables, thin.variables, strict=True):
            np.testing.assert_array_equal(reference.sliced(old), np.asarray(new))


@times(FEW)
@given(recipes(FLOATX), CUTS)
def test_removed_is_silenced(recipe, cut):
    check_removed_is_silenced(recipe, cut)


@pytest.mark.slow
@times(MANY)
@given(recipes(FLOATX), CUTS)
def test_removed_is_silenced_in_many_networks(recipe, cut):
    check_removed_is_silenced(recipe, cut)
