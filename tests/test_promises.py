"""The promises that pruning makes, over generated networks."""

import json
import subprocess
import sys

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Recipe, outputs_of, recipes, samples, train_step, weights_of
from silenced import Silenced

import prune_keras
from prune_keras import _keras
from prune_keras.surgery import capture, restore

BACKEND = keras.backend.backend()
FLOATX = ("float32", "float64") if BACKEND == "tensorflow" else ("float32",)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
CUTS = st.tuples(st.integers(0, 999), st.sampled_from((0.3, 0.5, 0.8)))
FEW, MANY = 60, 500
SOME = 15
FEW_STEPS, MANY_STEPS = 10, 50


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


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    # A large epsilon, lest Adam blow up rounding errors where a gradient is zero but for them.
    "adam": lambda: keras.optimizers.Adam(0.01, epsilon=1e-2),
}


def slots_of(optimizer):
    """Return the optimizer's averages, each a list aligned with the trainable variables."""
    names = ("momentums", "_momentums", "_velocities")
    return {name: held for name in names if (held := getattr(optimizer, name, None))}


def check_step_after_cut(recipe, cut, optimizer):
    """A cut between two training steps gives what the second one gives to the silenced original."""
    with recipe.built() as model:
        original = recipe.build()
        for each in (model, original):
            each.compile(OPTIMIZERS[optimizer](), loss="mse", run_eagerly=True)
            train_step(each, seed=3)
        hypothesis.assume(all(np.isfinite(w).all() for w in weights_of(model)))
        plan = random_plan(model, cut)
        prune_keras.shrink_in_place(model, plan)
        silenced = Silenced(original, plan)
        silenced.zero_reads()
        for each in (model, original):
            train_step(each, seed=4)
        for old, new in zip(original.variables, model.variables, strict=True):
            assert_near(silenced.sliced(old), np.asarray(new), recipe.floatx)
        kept, thin = slots_of(original.optimizer), slots_of(model.optimizer)
        assert kept and kept.keys() == thin.keys()
        for name, held in kept.items():
            for variable, old, new in zip(
                original.trainable_variables, held, thin[name], strict=True
            ):
                expected = silenced.sliced(variable, old.value)
                assert_near(expected, np.asarray(new), recipe.floatx, np.abs(old).max())


def assert_near(expected, found, floatx, largest=1.0):
    assert expected.shape == found.shape
    bound = {"float32": 2e-4, "float64": 1e-9}[floatx] * max(largest, np.abs(expected).max(), 1e-3)
    assert np.isfinite(expected).all() and np.abs(expected - found).max() <= bound


@times(FEW_STEPS)
@given(recipes(FLOATX[-1:], noise=False), CUTS, st.sampled_from(sorted(OPTIMIZERS)))
def test_a_cut_in_training_keeps_the_optimizers_state(recipe, cut, optimizer):
    check_step_after_cut(recipe, cut, optimizer)


@pytest.mark.slow
@times(MANY_STEPS)
@given(recipes(FLOATX[-1:], noise=False), CUTS, st.sampled_from(sorted(OPTIMIZERS)))
def test_many_cuts_in_training_keep_the_optimizers_state(recipe, cut, optimizer):
    check_step_after_cut(recipe, cut, optimizer)


# 2. Neurons of a family are alike, and cutting nothing changes nothing.


def permute(graph, family, order):
    """Let the neurons of a family change places, with all weights that belong to them."""
    places = dict(zip(family.neurons.tolist(), family.neurons[order].tolist(), strict=True))
    for weight in graph.weights:
        value = np.array(weight.variable)
        for axis, neurons in weight.axes.items():
            index = np.arange(len(neurons))
            for old, new in places.items():
                index[neurons == old] = np.flatnonzero(neurons == new)
            value = value.take(index, axis)
        weight.variable.assign(value)


@times(SOME)
@given(recipes(), st.integers(0, 999))
def test_neurons_of_a_family_can_change_places(recipe, seed):
    with recipe.built() as model:
        graph, rng, x = prune_keras.trace(model), np.random.default_rng(seed), samples(model)
        hypothesis.assume(graph.families)
        before = outputs_of(model, x)
        hypothesis.assume(all(np.isfinite(y).all() for y in before))
        for family in graph.families:
            permute(graph, family, rng.permutation(family.size))
        assert_close(outputs_of(model, x), before, recipe.floatx)


@times(SOME)
@given(recipes())
def test_cutting_nothing_changes_nothing(recipe):
    with recipe.built() as model:
        everything = prune_keras.Plan.everything(prune_keras.trace(model).widths)
        before, x = weights_of(model), samples(model)
        outputs = outputs_of(model, x)
        same = prune_keras.shrink(model, everything)
        prune_keras.shrink_in_place(model, everything)
        for each in (same, model):
            np.testing.assert_equal(weights_of(each), before)
            np.testing.assert_equal(outputs_of(each, x), outputs)


# 3. Nothing but the in-place call changes the input model.


def identity(model):
    """Return what must be as before: objects, structure, values, compile state."""
    layers = _keras.all_layers(model)
    return {
        "objects": [id(each) for each in (*layers, *model.variables)],
        "config": json.dumps(model.get_config(), sort_keys=True, default=str),
        "nodes": [(len(la._inbound_nodes), len(la._outbound_nodes)) for la in layers],
        "shapes": [(la.name, [t.shape for t in _outputs(la)]) for la in layers],
        "weights": weights_of(model),
        "trainable": [la.trainable for la in layers],
        "compiled": (model.compiled, id(model.optimizer)),
        "slots": [np.array(v) for v in getattr(model.optimizer, "variables", ())],
        "random": [keras.backend.floatx(), keras.config.dtype_policy().name],
    }


def _outputs(layer):
    return [tensor for node in layer._inbound_nodes for tensor in node.outputs]


@times(SOME)
@given(recipes(noise=False), CUTS)
def test_the_model_is_as_it_was(recipe, cut):
    with recipe.built() as model:
        model.compile(keras.optimizers.Adam(), loss="mse", run_eagerly=True)
        train_step(model)
        x = samples(model)
        outputs, before = outputs_of(model, x), identity(model)
        hypothesis.assume(all(np.isfinite(y).all() for y in outputs))
        plan = random_plan(model, cut)
        prune_keras.cost(model)
        prune_keras.score(model, "l1")
        prune_keras.shrink(model, plan)
        prune_keras.prune(model, fraction=0.5, scope="uniform", criterion="random")
        np.testing.assert_equal(identity(model), before)
        np.testing.assert_equal(outputs_of(model, x), outputs)


@times(SOME)
@given(recipes(noise=False), CUTS)
def test_an_in_place_cut_can_be_taken_back(recipe, cut):
    with recipe.built() as model:
        model.compile(keras.optimizers.Adam(), loss="mse", run_eagerly=True)
        train_step(model)
        before, x = identity(model), samples(model)
        outputs = outputs_of(model, x)
        plan = random_plan(model, cut)
        state = capture(model, prune_keras.trace(model))
        prune_keras.shrink_in_place(model, plan)
        restore(model, state)
        np.testing.assert_equal(identity(model), before)
        np.testing.assert_equal(outputs_of(model, x), outputs)


# 6. What a user recognizes a model by survives.


def features(model):
    layers = _keras.all_layers(model)
    return {
        "layers": [(la.name, type(la), la.dtype_policy.name, la.trainable) for la in layers],
        "variables": [(v.name, v.dtype, v.trainable) for v in model.variables],
        "signature": [(t.shape, t.dtype) for t in (*model.inputs, *model.outputs)],
        "loss": model.loss,
        "optimizer": model.optimizer.get_config(),
        "metrics": [m.name for m in model.metrics],
    }


@times(SOME)
@given(recipes(), CUTS, st.integers(0, 999))
def test_what_a_model_is_known_by_survives(recipe, cut, seed):
    with recipe.built() as model:
        rng = np.random.default_rng(seed)
        for layer in _keras.all_layers(model)[1:]:
            layer.trainable = bool(rng.integers(2))
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5), loss="mse", metrics=["mae"])
        plan = random_plan(model, cut)
        before = features(model)
        thin = prune_keras.shrink(model, plan)
        assert features(thin) == before and type(thin) is type(model)
        held = [*_keras.all_layers(model), *model.variables, model.optimizer]
        prune_keras.shrink_in_place(model, plan)
        assert features(model) == before
        still = [*_keras.all_layers(model), *model.variables, model.optimizer]
        assert [id(each) for each in still] == [id(each) for each in held]
        again = model.__class__.from_config(model.get_config())
        assert [v.shape for v in again.variables] == [v.shape for v in thin.variables]


# 7. Plans compose.


@times(SOME)
@given(recipes(), CUTS, CUTS)
def test_plans_compose(recipe, first, second):
    with recipe.built() as model:
        one = random_plan(model, first)
        between = prune_keras.shrink(model, one)
        two = random_plan(between, second)
        thin = prune_keras.shrink(between, two)
        once = prune_keras.shrink(model, one.then(two))
        np.testing.assert_equal(weights_of(once), weights_of(thin))
        prune_keras.shrink_in_place(model, one)
        prune_keras.shrink_in_place(model, two)
        np.testing.assert_equal(weights_of(model), weights_of(thin))
        configs = [json.dumps(each.get_config(), default=str) for each in (once, thin, model)]
        assert configs[0] == configs[1] == configs[2].replace(model.name, once.name)


def sizes_after(graph, plan):
    """Return the number of neurons that a plan leaves of each family."""
    gone = [np.delete(graph.producers[p].neurons, kept) for p, kept in plan.kept.items()]
    gone = np.concatenate(gone)
    return np.array([np.sum(~np.isin(family.neurons, gone)) for family in graph.families])


# 4 and 9. Costs are foreseen exactly, and whatever cannot be pruned is named.


@times(SOME)
@given(recipes(), CUTS)
def test_costs_are_foreseen_and_all_units_accounted_for(recipe, cut):
    with recipe.built() as model:
        graph = prune_keras.trace(model)
        assert graph.cost.params == model.count_params()
        for path, producer in graph.producers.items():
            fixed = [f for f in graph.fixed if f.path == path]
            assert sum(f.units for f in fixed) == np.sum(~producer.prunable)
            assert all(f.reason for f in fixed)
        plan = random_plan(model, cut)
        thin = prune_keras.shrink(model, plan)
        foreseen = graph.costs.at(sizes_after(graph, plan))
        found = prune_keras.cost(thin)
        assert found.params == thin.count_params() == foreseen.params
        assert found.flops == foreseen.flops


# 10. What is exported is read back by plain Keras.

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
