"""The sequential refit of sums of units, of layers inside of others, and of what it cannot fit."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import runs_channels_first
from twinned import (
    SAMPLES,
    apart,
    closeness,
    combined,
    drawn_for,
    refitted,
    sequential,
    with_twins,
    without_twin,
)

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.repair.walking import Walk
from prune_keras.surgery import kept_neurons


class Block(layers.Layer):
    """Two Dense layers, as a user writes them."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.first = layers.Dense(4, activation="relu", dtype=self.dtype_policy)
        self.second = layers.Dense(3, dtype=self.dtype_policy)

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 4))
        self.built = True

    def call(self, x):
        return self.second(self.first(x))


class Own(layers.Layer):
    """A layer with a kernel of its own."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 4), name="w")
        self.b = self.add_weight(shape=(4,), name="b")

    def call(self, x):
        return ops.relu(ops.matmul(x, self.w) + self.b)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.a = layers.Dense(5, activation="relu", name="a")
        self.block = Block(name="block")
        self.last = layers.Dense(2)

    def call(self, x):
        return self.last(self.block(self.a(x)))


def read_by(*makes, shape=(6,), calls=1, activation="relu"):
    """Return what builds a Dense layer of five units, and layers that read it."""

    def build():
        inputs = keras.Input(shape)
        x = layers.Dense(5, activation=activation, name="a")(inputs)
        for make in makes:
            layer = make()
            x = layers.concatenate([layer(x), layer(ops.tanh(x))]) if calls > 1 else layer(x)
        return keras.Model(inputs, x)

    return build


def dense():
    return layers.Dense(2)


def attention(query_heads=4, heads=2):
    def build():
        inputs = keras.Input((6, 4))
        x = layers.Dense(5, name="a")(inputs)
        x = layers.GroupQueryAttention(3, query_heads, heads)(x, x)
        return keras.Model(inputs, layers.Dense(2)(x))

    return build


def first(kind, *arguments, rank=2, **more):
    """Return what builds a layer that reads a convolution with channels in front of space."""
    more["data_format"] = "channels_first"
    pool = layers.GlobalAveragePooling1D if rank == 1 else layers.GlobalAveragePooling2D
    behind = (lambda: kind(*arguments, **more), lambda: pool("channels_first"), dense)
    return sequential(*behind, shape=(3, 12, 11)[: rank + 1], data_format="channels_first")


LAYERS = {
    "block": read_by(Block, dense),
    "block of positions": read_by(Block, dense, shape=(7, 6)),
    "block called twice": read_by(Block, dense, calls=2),
    "own kernel": read_by(Own, dense),
    "own kernel of positions": read_by(Own, dense, shape=(7, 6)),
    "grouped queries": attention(),
    "one key for all": attention(2, 1),
}
FIRST = {
    "conv": (2, first(layers.Conv2D, 4, 3, padding="same", strides=2)),
    "conv along one axis": (1, first(layers.Conv1D, 4, 3, rank=1, dilation_rate=2)),
    "causal": (1, first(layers.Conv1D, 4, 3, rank=1, padding="causal")),
    "transposed": (2, first(layers.Conv2DTranspose, 4, 3, strides=2, padding="same")),
    "separable": (2, first(layers.SeparableConv2D, 4, 3, name="twins")),
    "depthwise": (2, first(layers.DepthwiseConv2D, 3, name="twins")),
}


def linear(*behind, **arguments):
    return sequential(*behind, activation=None, **arguments)


def stream():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, padding="same", name="a")(inputs)
    for number in range(2):
        y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = layers.add([x, layers.Conv2D(5, 3, padding="same", name=f"add{number}")(y)])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


SUMS = {
    "dense": linear(lambda: layers.Dense(7, activation="relu"), dense, shape=(6,)),
    "flattened": linear(layers.Flatten, dense, shape=(4, 4, 3)),
    "pooled": linear(lambda: layers.AveragePooling2D(2), lambda: layers.Conv2D(3, 2)),
    "strides": linear(lambda: layers.Conv2D(3, 3, strides=2, padding="same")),
    "dilated": linear(lambda: layers.Conv2D(3, (2, 3), dilation_rate=(2, 1), padding="same")),
    "causal": linear(lambda: layers.Conv1D(3, 2, padding="causal"), shape=(9, 3)),
    "three axes": linear(lambda: layers.Conv3D(3, 2, padding="same"), shape=(5, 5, 5, 2)),
    "transposed": linear(lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "einsum": linear(lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3)), shape=(7, 3)),
    "without bias": linear(lambda: layers.Dense(3, use_bias=False), shape=(6,)),
    "block": read_by(Block, dense, activation=None),
    "grouped queries": attention(),
    "stream": stream,
}


def brought_back(build, dtype="float32", **told):
    """Refit a network without its twin; return how far it is from the dense one, and what is said.

    Also see that the model stays as it was, and that the cut alone does harm.
    """
    model, x = with_twins(build, dtype, **told)
    before = [np.copy(value) for value in model.get_weights()]
    graph, plan = without_twin(model)
    thin, repair = refitted(model, graph, plan, x)
    fresh = ops.cast(drawn_for(model, np.random.default_rng(5))[:16], dtype)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert apart(model, prune_keras.shrink(model, plan), fresh) > 0.02
    return apart(model, thin, fresh), repair.notes


@pytest.mark.repeats(10)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", SUMS)
def test_what_others_say_together_is_said(name, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to before it starts")
    far, notes = brought_back(SUMS[name], dtype, told=combined)
    assert far < closeness(dtype)
    assert notes == ()


@pytest.mark.parametrize("name", LAYERS)
def test_layers_inside_of_others_are_fitted(name):
    far, notes = brought_back(LAYERS[name])
    assert far < 1e-4
    assert notes == ()


@pytest.mark.parametrize("name", FIRST)
def test_channels_may_lie_in_front_of_space(name):
    rank, build = FIRST[name]
    if not runs_channels_first(rank):
        pytest.skip("no kernel on this machine")
    far, notes = brought_back(build)
    assert far < 1e-4
    assert notes == ()


def test_a_subclassed_model_is_refitted_in_place_by_the_callback():
    keras.utils.set_random_seed(0)
    model = Subclassed()
    x = np.random.default_rng(0).normal(size=(SAMPLES, 6)).astype("float32")
    model(x)
    kernel = np.copy(model.a.get_weights()[0])
    kernel[:, 4] = kernel[:, 1]
    kernel[:, 0] = 0  # what is always zero goes first, then a twin
    model.a.set_weights([kernel * [1, 1, 1, 1, 0.5], np.zeros(5)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    wanted = ops.convert_to_numpy(model(x))
    pruning = ProgressivePruning(
        {"neurons": 10 / 12},
        fraction=2 / 12,
        criterion="l2",
        data=x,
        fuse="sequential",
        exclude=["block/*"],
        verbose=0,
    )
    model.fit(x, wanted, epochs=2, callbacks=[pruning], verbose=0)
    assert model.a.units == 3
    np.testing.assert_allclose(ops.convert_to_numpy(model(x)), wanted, atol=1e-5)


UNKNOWN = {
    "simple": (lambda: layers.SimpleRNN(3, name="r"), "r"),
    "gru": (lambda: layers.GRU(3, name="r"), "r"),
    "both ways": (lambda: layers.Bidirectional(layers.LSTM(3), name="r"), "r"),
    "each step": (lambda: layers.TimeDistributed(layers.Dense(3), name="r"), "r"),
    "summed steps": (lambda: layers.EinsumDense("abc,cd->ad", (3,), name="r"), "r"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_readers_that_cannot_be_fitted_are_told(name):
    make, path = UNKNOWN[name]
    model, x = with_twins(read_by(make, shape=(7, 6)))
    graph, plan = without_twin(model)
    _, repair = refitted(model, graph, plan, x)
    assert repair.notes == (f"not refitted, as there is no way to: {path}",)


def test_a_kernel_that_two_calls_hold_is_told():
    model, x = with_twins(read_by(lambda: Own(name="own"), dense, calls=2))
    graph, plan = without_twin(model)
    _, repair = refitted(model, graph, plan, x)
    assert repair.notes == ("not refitted, as there is no way to: own/w",)


@pytest.mark.parametrize("name", ["block", "grouped queries"])
def test_what_is_held_out_never_gets_worse(name):
    model, x = with_twins(LAYERS[name])
    graph, plan = without_twin(model)
    draw = np.random.default_rng(3)
    for variable in model.trainable_variables:  # now nothing can say what goes
        variable.assign(variable + 0.3 * draw.normal(size=variable.shape))
    kept = kept_neurons(graph, plan)
    walk = Walk(model, graph, kept, prune_keras.repair.Refit())
    walk.over(prune_keras.samples.subject.Subject(model, graph, x).flat())
    assert len(walk.fits) > 1
    assert all(fit.after <= fit.before for fit in walk.fits.values())
