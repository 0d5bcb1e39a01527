"""The private Keras that `prune_keras._keras` and the rules touch is there.

Tried with Keras 3.15.0 (TensorFlow 2.18.0) and Keras 3.15.1 (TensorFlow 2.21.0, JAX 0.10.2,
PyTorch 2.13.0). A failure here after an upgrade says which touch has to be looked at.
"""

import keras
import pytest

from prune_keras import _keras


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def test_graphs_have_nodes_by_depth(model):
    function = _keras.function_of(model)
    names = [node.operation.name for node in _keras.nodes_of(function)]
    assert names == [layer.name for layer in model.layers]
    assert all(len(node.outputs) == 1 for node in _keras.nodes_of(function))


def test_variables_take_values_of_other_shapes(model):
    variable = keras.Variable(keras.ops.ones((2, 3)), name="kernel")
    _keras.set_value(variable, keras.ops.zeros((4, 5)))
    assert tuple(variable.shape) == tuple(variable.value.shape) == (4, 5)
    assert variable.name == "kernel"


def test_variables_keep_the_name_that_the_backend_knows(model):
    with keras.name_scope("outer"):
        variable = keras.Variable(keras.ops.ones((2, 3)), name="kernel")
    before = getattr(variable.value, "name", None)
    _keras.set_value(variable, keras.ops.zeros((4, 5)))
    assert getattr(variable.value, "name", None) == before


def test_variables_of_a_stateless_scope_start_from_what_is_given():
    with keras.StatelessScope():
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
        _keras.set_value_on_exit(layer.kernel, keras.ops.ones((2, 5)))
    assert keras.ops.convert_to_numpy(layer.kernel.value).tolist() == [[1] * 5] * 2


def test_layers_remember_shapes_where_they_are_looked_for(model):
    tensor = model.layers[0].output
    shapes = {id(tensor): (None, 7)}
    found = {(type(o).__name__, n) for o, n, _ in _keras.shape_attributes(model, shapes)}
    assert found >= {("KerasTensor", "_shape"), ("Dense", "_build_shapes_dict")}
    assert hasattr(tensor, "_shape")


def test_optimizers_hold_slots_in_lists_beside_their_variables(model):
    _keras.build_optimizer(model)
    slots = _keras.optimizer_slots(model)
    for variable in model.trainable_variables:
        shapes = [tuple(slot.variable.shape) for slot in slots[id(variable)]]
        assert shapes == [tuple(variable.shape)] * 2


def test_optimizers_ask_for_rates_and_update_by_these_names(model):
    for name in ("_get_current_learning_rate", "_backend_apply_gradients", "_iterations"):
        assert hasattr(model.optimizer, name)


def test_clones_have_no_weights_before_the_scope_ends(model):
    with keras.StatelessScope():
        twin = _keras.clone_structure(model)
        assert all(variable._value is None for variable in twin.weights)
    assert model.compiled
    assert not twin.compiled
