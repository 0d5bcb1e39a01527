"""The table of layers and operations: complete, up to date, and true of models that are cut."""

import keras
import layer_table
import numpy as np
import pytest
from layer_cases import CASES
from networks import outputs_of, randomize, samples
from promises import random_plan

import prune_keras

LAYERS = layer_table.public_layers()
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
NOT_HERE = () if ON_TENSORFLOW else ("Hashing", "IntegerLookup")  # which compute with TensorFlow
CUT = [name for name in LAYERS if name in CASES and CASES[name].make is not None]


def test_every_layer_of_keras_has_an_entry():
    assert {*LAYERS} <= {*CASES}


@pytest.mark.skipif(not ON_TENSORFLOW, reason="the table is that of TensorFlow")
def test_the_table_is_up_to_date():
    assert {*CASES} == {*LAYERS}
    written = layer_table.DOCUMENT.read_text(encoding="utf-8")
    newest = layer_table.document()
    assert newest == written, f"write it anew, as {layer_table.__file__} says"


@pytest.mark.repeats(30)
@pytest.mark.parametrize("name", CUT)
def test_what_the_table_calls_prunable_can_be_cut(name, tmp_path):
    if name in NOT_HERE:
        pytest.skip("needs TensorFlow")
    model = CASES[name].model(LAYERS[name])
    word, _ = layer_table.verdict(CASES[name], LAYERS[name])
    if word == layer_table.KEPT:
        assert not prune_keras.trace(model).producers["before"].prunable.any()
        return
    randomize(model)
    graph, x = prune_keras.trace(model), samples(model)
    plan = random_plan(model, (0, 0.5))
    thin = prune_keras.shrink(model, plan)
    thin.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_equal(outputs_of(loaded, x), outputs_of(thin, x))
    if not graph.notes and name != "Dot":  # which has no weight that could silence what it reads
        silence(graph, plan)
        for found, wanted in zip(outputs_of(thin, x), outputs_of(model, x), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def silence(graph, plan):
    """Set every weight that reads a removed neuron to zero."""
    gone = [np.delete(graph.producers[path].neurons, kept) for path, kept in plan.kept.items()]
    for weight in graph.weights:
        value = keras.ops.convert_to_numpy(weight.variable)
        for axis in weight.reads:
            where = np.flatnonzero(np.isin(weight.axes[axis], np.concatenate(gone)))
            value[(slice(None),) * axis + (where,)] = 0
        weight.variable.assign(value)
