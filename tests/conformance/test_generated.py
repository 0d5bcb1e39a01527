"""The promises that pruning makes, over generated networks."""

import subprocess
import sys

import hypothesis
import keras
import numpy as np
import promises
import promises_in_training
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Recipe, outputs_of, recipes, samples

import prune_keras
from prune_keras import _keras

# Chance makes weights that no output depends on, and softmaxes over one channel.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Gradients do not exist"),
    pytest.mark.filterwarnings("ignore:You are using a softmax over axis"),
]
BACKEND = keras.backend.backend()
FLOATX = ("float32", "float64") if BACKEND == "tensorflow" else ("float32",)
CUTS = st.tuples(st.integers(0, 999), st.sampled_from((0.3, 0.5, 0.8)))
SEEDS = st.integers(0, 999)
QUIET = recipes(noise=False)
STEPS = (
    recipes(FLOATX[-1:], noise=False),
    CUTS,
    st.sampled_from(sorted(promises_in_training.OPTIMIZERS)),
)
FEW, MANY = 60, 500
SOME = 15
FEW_STEPS, MANY_STEPS = 10, 50


def times(count):
    phases = [phase for phase in hypothesis.Phase if phase != hypothesis.Phase.explain]
    return settings(max_examples=count, phases=phases)


def check(promise, *arguments):
    """Check a promise, and give the example up where it says nothing."""
    try:
        promise(*arguments)
    except promises.NothingToCheck:
        hypothesis.reject()


@times(FEW)
@given(recipes(FLOATX), CUTS)
def test_removed_is_silenced(recipe, cut):
    check(promises.check_removed_is_silenced, recipe, cut)


@pytest.mark.slow
@times(MANY)
@given(recipes(FLOATX), CUTS)
def test_removed_is_silenced_in_many_networks(recipe, cut):
    check(promises.check_removed_is_silenced, recipe, cut)


@times(FEW_STEPS)
@given(*STEPS)
def test_a_cut_in_training_keeps_the_optimizers_state(recipe, cut, optimizer):
    check(promises_in_training.check_step_after_cut, recipe, cut, optimizer)


@pytest.mark.slow
@times(MANY_STEPS)
@given(*STEPS)
def test_many_cuts_in_training_keep_the_optimizers_state(recipe, cut, optimizer):
    check(promises_in_training.check_step_after_cut, recipe, cut, optimizer)


@times(SOME)
@given(recipes(), SEEDS)
def test_neurons_of_a_family_can_change_places(recipe, seed):
    check(promises.check_neurons_can_change_places, recipe, seed)


@times(SOME)
@given(recipes())
def test_cutting_nothing_changes_nothing(recipe):
    check(promises.check_cutting_nothing_changes_nothing, recipe)


@times(SOME)
@given(QUIET, CUTS)
def test_the_model_is_as_it_was(recipe, cut):
    check(promises.check_the_model_is_as_it_was, recipe, cut)


@times(SOME)
@given(QUIET, CUTS)
def test_an_in_place_cut_can_be_taken_back(recipe, cut):
    check(promises.check_a_cut_can_be_taken_back, recipe, cut)


@times(SOME)
@given(recipes(), CUTS, SEEDS)
def test_what_a_model_is_known_by_survives(recipe, cut, seed):
    check(promises.check_what_a_model_is_known_by_survives, recipe, cut, seed)


@times(SOME)
@given(recipes(), CUTS, CUTS)
def test_plans_compose(recipe, first, second):
    check(promises.check_plans_compose, recipe, first, second)


@times(SOME)
@given(recipes(), CUTS)
def test_costs_are_foreseen_and_all_units_accounted_for(recipe, cut):
    check(promises.check_costs_are_foreseen, recipe, cut)


# What is exported is read back by plain Keras.

READ_BACK = """
import sys, pathlib
import keras, numpy as np
folder = pathlib.Path(sys.argv[1])
for held in sorted(folder.glob("*.npz")):
    stored = np.load(held)
    x = [stored[name] for name in sorted(stored) if name.startswith("x")]
    for file in folder.glob(held.stem + ".model.*"):
        model = keras.models.load_model(file, compile=False)
        found = keras.tree.flatten(model(x if len(x) > 1 else x[0], training=False))
        for number, y in enumerate(found):
            found = keras.ops.convert_to_numpy(y)
            np.testing.assert_allclose(found, stored[f"y{number}"], 1e-5, 1e-5)
        print(file.name)
assert not any(name.startswith("prune_keras") for name in sys.modules)
"""


def _is_held_by_h5(operation):
    return _keras.is_layer(operation) and type(operation) is not keras.layers.Attention


def test_exported_models_are_read_in_a_process_without_prune_keras(tmp_path):
    rng, written = np.random.default_rng(0), []
    for number in range(6):
        recipe = Recipe(tuple(rng.integers(0, 2**16, 100).tolist()))
        with recipe.built() as model:
            if not prune_keras.trace(model).families:
                continue
            thin, _ = prune_keras.prune(model, fraction=0.5, criterion="random", seed=0)
            raw = [op for op in _keras.operations_in(thin) if not _is_held_by_h5(op)]
            for suffix in (".keras", ".h5"):
                path = tmp_path / f"{number}.model{suffix}"
                if suffix == ".h5" and raw:
                    with pytest.raises(ValueError, match=rf"{raw[0].name}.*\.keras"):
                        prune_keras.export(thin, path)
                    assert not path.exists()
                    continue
                prune_keras.export(thin, path)
                written.append(path.name)
            x = samples(thin)
            arrays = {f"x{i}": each for i, each in enumerate(x)}
            arrays |= {f"y{i}": each for i, each in enumerate(outputs_of(thin, x))}
            np.savez(tmp_path / f"{number}.npz", **arrays)
    assert any(name.endswith(".h5") for name in written)
    command = [sys.executable, "-c", READ_BACK, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(result.stdout.split()) == sorted(written)
