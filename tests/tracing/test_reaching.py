"""What no rule knows the use of keeps all axes of the variables that it may use."""

import functools
from collections import UserList
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras

HELD = {}  # what a layer's code finds as a global


class ByAttribute(layers.Layer):
    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.dense = dense

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.dense.kernel))


class InContainers(layers.Layer):
    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.parts = {"tied": [(dense,)]}

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.parts["tied"][0][0].kernel))


class Plain:
    __slots__ = ("kernel",)

    def __init__(self, kernel):
        self.kernel = kernel


class InAnObject(layers.Layer):
    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.held = Plain(dense.kernel)

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.held.kernel))


class InANamespace(layers.Layer):
    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.held = SimpleNamespace(dense=dense)

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.held.dense.kernel))


class InAnArray(layers.Layer):
    """As a list of a class of its own, which arrays of objects and `UserList` are."""

    def __init__(self, dense, kind, **kwargs):
        super().__init__(**kwargs)
        self.held = kind([dense])

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.held[0].kernel))


def objects(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


class OfABackend(layers.Layer):
    """The variable is the backend's, which Keras' one holds."""

    def __init__(self, dense, **kwargs):
        super().__init__(**kwargs)
        self.held = Plain(dense.kernel.value)

    def call(self, x):
        return ops.matmul(x, ops.transpose(ops.convert_to_tensor(self.held.kernel)))


class AsAGlobal(layers.Layer):
    def call(self, x):
        return ops.matmul(x, ops.transpose(HELD["dense"].kernel))


class InAProperty(layers.Layer):
    @property
    def other(self):
        return HELD["dense"]

    def call(self, x):
        return ops.matmul(x, ops.transpose(self.other.kernel))


def transposed(x, dense):
    return ops.matmul(x, ops.transpose(dense.kernel))


def by_argument(dense):
    class WithArgument(layers.Layer):
        def call(self, x, kernel=None):
            return ops.matmul(x, ops.transpose(kernel))

    return lambda x: WithArgument(name="tied")(x, kernel=dense.kernel)


def of_activation(dense):
    """Each unit is alone, but what it is multiplied with depends on the other layer's units."""
    return layers.Dense(16, activation=lambda x: x * ops.mean(dense.kernel), name="tied")


def of_regularizer(dense):
    return layers.Dense(
        16, kernel_regularizer=lambda k: 0.1 * ops.sum(dense.kernel**2) * ops.sum(k**2), name="tied"
    )


WAYS = {
    "object": lambda dense: InAnObject(dense, name="tied"),
    "namespace": lambda dense: InANamespace(dense, name="tied"),
    "array of objects": lambda dense: InAnArray(dense, objects, name="tied"),
    "list of its own": lambda dense: InAnArray(dense, UserList, name="tied"),
    "backend": lambda dense: OfABackend(dense, name="tied"),
    "global": lambda dense: AsAGlobal(name="tied"),
    "property": lambda dense: InAProperty(name="tied"),
    "argument": by_argument,
    "closure": lambda dense: layers.Lambda(
        lambda x: ops.matmul(x, ops.transpose(dense.kernel)), name="tied", output_shape=(16,)
    ),
    "partial": lambda dense: layers.Lambda(
        functools.partial(transposed, dense=dense), name="tied", output_shape=(16,)
    ),
    "default": lambda dense: layers.Lambda(
        lambda x, held=dense: transposed(x, held), name="tied", output_shape=(16,)
    ),
    "activation": of_activation,
    "regularizer": of_regularizer,
}


SEEN = {
    "attribute": lambda dense: ByAttribute(dense, name="tied"),
    "containers": lambda dense: InContainers(dense, name="tied"),
}


def tied_model(way):
    """`a` makes what `code` reads, and something behind `code` uses the kernel of `code` again."""
    inputs = keras.Input((20,))
    dense = HELD["dense"] = layers.Dense(8, name="code")
    code = dense(layers.Dense(16, activation="relu", name="a")(inputs))
    x = layers.Dense(20, name="out")((WAYS | SEEN)[way](dense)(code))
    return keras.Model(inputs, x)


@pytest.mark.parametrize("way", SEEN)
def test_a_kernel_of_a_layer_inside_is_followed(way):
    model, x = tied_model(way), np.random.default_rng(0).normal(size=(3, 20))
    graph = prune_keras.trace(model)
    everything = prune_keras.Plan.everything(graph.widths).kept
    kept = {path: range(0, 16, 3) for path in graph.families[0].paths}
    plan = prune_keras.Plan({**everything, **kept}, graph.widths)
    kernel = model.get_layer("code").kernel
    before = ops.convert_to_numpy(kernel)
    kernel.assign(before * (np.arange(16) % 3 == 0)[:, None])
    silenced = ops.convert_to_numpy(model(x))
    kernel.assign(before)
    prune_keras.shrink_in_place(model, plan)
    assert tuple(kernel.shape) == (6, 8)
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), silenced, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_a_kernel_that_is_used_by_reference_keeps_its_size(way):
    model = tied_model(way)
    graph = prune_keras.trace(model)
    assert not {"a", "code"} & {*graph.widths}
    (told,) = [fixed.reason for fixed in graph.fixed if fixed.path == "a"]
    assert "tied" in told and told.endswith("may use code/kernel")


def test_it_counts_whichever_comes_first_in_the_graph():
    inputs = keras.Input((20,))
    dense = layers.Dense(8, name="code")
    dense.build((None, 16))
    tied = InAnObject(dense, name="tied")(layers.Dense(8, name="first")(inputs))
    code = dense(layers.Dense(16, name="a")(inputs))
    graph = prune_keras.trace(keras.Model(inputs, [layers.Dense(2)(tied), layers.Dense(2)(code)]))
    assert not {"a", "code", "first"} & {*graph.widths}


def test_variables_as_arguments_of_raw_operations_keep_their_size():
    inputs = keras.Input((20,))
    dense = layers.Dense(8, name="code")
    code = dense(layers.Dense(16, name="a")(inputs))
    other = ops.matmul(layers.Dense(16, name="b")(inputs), dense.kernel)
    outputs = [layers.Dense(2)(x) for x in (code, other)]
    graph = prune_keras.trace(keras.Model(inputs, outputs))
    assert graph.widths == {}
    told = {fixed.path: fixed.reason for fixed in graph.fixed}
    assert told["b"].endswith(" joins them with a variable, code/kernel")
    assert told["code"].endswith(" (Matmul) is given what no rule knows, and may use code/kernel")


def test_other_layers_go_on_being_pruned():
    model = tied_model("object")
    x = layers.Dense(6, name="free")(model.outputs[0])
    model = keras.Model(model.inputs[0], layers.Dense(2)(x))
    assert prune_keras.trace(model).widths == {"out": 20, "free": 6}
    plan = prune_keras.select(prune_keras.trace(model), prune_keras.score(model), fraction=0.5)
    prune_keras.shrink_in_place(model, plan)
    assert model(np.ones((2, 20), "float32")).shape == (2, 2)


class Shadow(layers.Layer):
    """An attribute has the name of a global, which is not meant."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.HELD = 2.0

    def call(self, x):
        return x[..., ::-1] * self.HELD


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="has no slices with negative steps")
def test_attributes_are_not_taken_for_globals_of_their_name():
    tied_model("global")
    inputs = keras.Input((20,))
    dense = HELD["dense"] = layers.Dense(8, name="code")
    x = layers.Dense(4, name="next")(dense(layers.Dense(16, name="a")(inputs)))
    model = keras.Model(inputs, layers.Dense(2)(Shadow()(x)))
    assert prune_keras.trace(model).widths == {"a": 16, "code": 8}
