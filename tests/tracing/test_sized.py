"""Constraints and regularizers that work for one size keep the units, and the report says which."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.callbacks import ProgressivePruning

MASK = (np.random.default_rng(0).random(12) > 0.5).astype("float32")
PAIR = np.array([0.5, 1.5], "float32")


class Masked(keras.constraints.Constraint):
    def __init__(self, mask=MASK):
        self.mask = mask

    def __call__(self, w):
        return w * self.mask


class Counting(keras.constraints.Constraint):
    """Fits every size, and counts its calls in a variable."""

    def __init__(self):
        self.calls = keras.Variable(0.0)

    def __call__(self, w):
        self.calls.assign(self.calls + 1)
        return w / ops.maximum(ops.norm(w), 1e-7)


def squares(w):
    return ops.sum(ops.square(ops.reshape(w, (-1, 2, 2))))


def anchored(w):
    return ops.sum((w - MASK) ** 2)


def smooth(w):
    return 0.01 * ops.sum(ops.square(w[1:] - w[:-1]))


def named(w):
    assert w.path  # Keras calls regularizers on variables
    return ops.sum(ops.square(w))


def chain(units=12, shape=(4,), first=layers.Dense, last=layers.Dense, others=(), **arguments):
    inputs = keras.Input(shape)
    x = first(units, name="cut", **arguments)(inputs)
    for layer in others:
        x = layer(x)
    x = layers.GlobalAveragePooling1D()(x) if len(x.shape) == 3 else x
    return keras.Model(inputs, last(2, name="head")(x))


FIXED = {
    "constraint": (lambda: chain(kernel_constraint=Masked()), "constraint Masked of cut/kernel"),
    "two": (
        lambda: chain(2, kernel_regularizer=lambda w: ops.sum(w * PAIR)),
        "regularizer <lambda> of cut/kernel",
    ),
    "last": (
        lambda: chain(kernel_regularizer=lambda w: ops.sum(ops.reshape(w[:, 11:12], (4,)))),
        "regularizer <lambda> of cut/kernel",
    ),
    "lambda": (
        lambda: chain(kernel_regularizer=lambda w: ops.sum(w * MASK)),
        "regularizer <lambda> of cut/kernel",
    ),
    "bias": (lambda: chain(bias_regularizer=anchored), "regularizer anchored of cut/bias"),
    "reshapes": (lambda: chain(bias_regularizer=squares), "regularizer squares of cut/bias"),
    "activity": (lambda: chain(activity_regularizer=squares), "activity regularizer squares"),
    "activity mask": (
        lambda: chain(activity_regularizer=lambda x: ops.sum(x * MASK)),
        "activity regularizer <lambda> of cut",
    ),
    "largest norms": (
        lambda: chain(kernel_constraint=keras.constraints.MaxNorm(MASK + 1)),
        "constraint MaxNorm of cut/kernel",
    ),
    "reader": (
        lambda: chain(
            last=lambda units, **k: layers.Dense(
                units, kernel_constraint=Masked(MASK[:, None]), **k
            )
        ),
        "constraint Masked of head/kernel",
    ),
    "normalization": (
        lambda: chain(others=[layers.BatchNormalization(name="bn", gamma_constraint=Masked())]),
        "constraint Masked of bn/gamma",
    ),
    "embeddings": (
        lambda: chain(
            shape=(3,),
            first=lambda u, **k: layers.Embedding(5, u, **k),
            embeddings_constraint=Masked(),
        ),
        "constraint Masked of cut/embeddings",
    ),
    "recurrent": (
        lambda: chain(3, shape=(5, 4), first=layers.LSTM, recurrent_regularizer=anchored),
        "regularizer anchored of cut/recurrent_kernel",
    ),
    "convolution": (
        lambda: chain(
            shape=(5, 4),
            first=lambda u, **k: layers.Conv1D(u, 3, **k),
            activity_regularizer=squares,
        ),
        "activity regularizer squares of cut",
    ),
    "steps": (
        lambda: chain(
            shape=(6, 4),
            first=lambda u, name, **k: layers.TimeDistributed(layers.Dense(u, **k), name=name),
            kernel_constraint=Masked(),
        ),
        "constraint Masked of cut/dense",
    ),
    "attention": (
        lambda: chain(
            4,
            shape=(3, 4),
            first=lambda u, name: layers.Dense(u, name=name),
            others=[
                lambda x: layers.MultiHeadAttention(2, 3, name="mha", activity_regularizer=squares)(
                    x, x
                )
            ],
        ),
        "mha regularizes activities of its own",
    ),
    "cannot be tried": (
        lambda: chain(kernel_regularizer=lambda w: ops.sum(w) / int("x")),
        "cannot be tried on other values",
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_has_a_size_keeps_its_units(name):
    build, reason = FIXED[name]
    graph = prune_keras.trace(build())
    assert "cut" not in graph.widths
    assert any(reason in fixed.reason for fixed in graph.fixed), graph.fixed


FREE = {
    "shape": dict(kernel_constraint=lambda w: w / (1 + ops.sum(w**2, axis=0, keepdims=True))),
    "scalar": dict(kernel_regularizer=lambda w: 0.1 * ops.sum(w**2)),
    "along inputs": dict(kernel_constraint=Masked(MASK[:4, None])),
    "smooth": dict(kernel_regularizer=smooth, bias_regularizer=smooth),
    "named": dict(kernel_regularizer=named),
    "activity": dict(activity_regularizer=lambda x: 0.1 * ops.mean(x**2)),
    "own": dict(
        kernel_constraint=keras.constraints.UnitNorm(axis=0),
        kernel_regularizer=keras.regularizers.OrthogonalRegularizer(),
        bias_constraint=keras.constraints.MinMaxNorm(),
        activity_regularizer="l1",
    ),
}


@pytest.mark.repeats(3)
@pytest.mark.parametrize("name", FREE)
def test_what_has_no_size_is_pruned_and_trained_on(name):
    model = chain(**FREE[name])
    model.compile("sgd", "mse")
    pruning = ProgressivePruning({"neurons": 0.5}, 0.3, verbose=0)
    data = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")
    model.fit(*data, epochs=3, verbose=0, callbacks=[pruning])
    assert model.get_layer("cut").units <= 6


def test_other_layers_are_pruned_beside_it():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(12, name="kept", kernel_constraint=Masked()),
            layers.Dense(8, name="cut", activation="relu"),
            layers.Dense(2),
        ]
    )
    model.compile("adam", "mse")
    pruning = ProgressivePruning({"neurons": 0.5}, 0.3, verbose=0)
    data = np.ones((8, 4), "float32"), np.ones((8, 2), "float32")
    model.fit(*data, epochs=3, verbose=0, callbacks=[pruning])
    assert [layer.units for layer in model.layers] == [12, 4, 2]
    np.testing.assert_array_equal(model.get_layer("kept").get_weights()[0][:, MASK == 0], 0)
    assert "Masked" in str(pruning.report)


def test_trying_leaves_variables_of_a_constraint_as_they_are():
    constraint = Counting()
    prune_keras.trace(chain(kernel_constraint=constraint))
    assert float(ops.convert_to_numpy(constraint.calls)) == 0


def test_a_whole_neuron_of_several_entries_is_tried_at_once():
    """A regularizer that takes a flattened map apart by its positions works without a channel."""

    def by_position(w):
        return ops.sum(ops.reshape(w, (9, -1, w.shape[-1])) ** 2)

    inputs = keras.Input((5, 5, 2))
    x = layers.Flatten()(layers.Conv2D(4, 3, name="cut")(inputs))
    model = keras.Model(inputs, layers.Dense(3, kernel_regularizer=by_position)(x))
    assert prune_keras.trace(model).widths == {"cut": 4}


def test_entries_that_go_together_are_tried_at_once():
    """Halves that an Add elsewhere ties stay equally long."""

    def by_halves(w):
        return ops.sum(ops.reshape(w, (2, -1, w.shape[-1])) ** 2)

    inputs = keras.Input((4,))
    a, b = (layers.Dense(6, name=name)(inputs) for name in "ab")
    read = layers.Dense(3, kernel_regularizer=by_halves)(layers.Concatenate()([a, b]))
    model = keras.Model(inputs, [layers.Dense(2)(layers.Add()([a, b])), read])
    assert prune_keras.trace(model).widths == {"a": 6, "b": 6}


@pytest.mark.parametrize(
    "function",
    [
        dict(kernel_regularizer=lambda w: ops.sum(ops.reshape(w, (-1, 4)) ** 2)),
        dict(kernel_constraint=lambda w: ops.reshape(ops.reshape(w, (-1, 4)), w.shape)),
    ],
)
def test_neurons_along_both_axes_are_tried_at_once(function):
    """8 * 11 and 7 * 12 entries are blocks of 4, and 7 * 11 are not."""
    inputs = keras.Input((4,))
    x = layers.Dense(12, name="cut", **function)(layers.Dense(8, name="before")(inputs))
    graph = prune_keras.trace(keras.Model(inputs, layers.Dense(2)(x)))
    assert graph.widths == {}
    told = {fixed.path: fixed.reason for fixed in graph.fixed}
    assert all("works for its present size only" in told[path] for path in ("before", "cut"))


@pytest.mark.parametrize("where", ["kernel_regularizer", "activity_regularizer"])
def test_as_many_are_left_as_a_function_needs(where):
    def of_five(x):
        return 0.1 * ops.sum(ops.top_k(x, 5)[0])

    model = chain(**{where: of_five})
    with pytest.raises(ValueError, match="reachable"):
        prune_keras.prune(model, target={"neurons": 4})
    thin, _ = prune_keras.prune(model, target={"neurons": 5})
    assert thin.get_layer("cut").units == 5
    thin.compile("sgd", "mse")
    thin.fit(np.ones((4, 4)), np.ones((4, 2)), verbose=0)
