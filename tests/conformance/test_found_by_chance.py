"""What broke a promise in generated networks, each in a network as small as it can be."""

import keras
import numpy as np
import promises
import promises_in_training
import pytest
from keras import layers, ops
from networks import outputs_of, samples, train_step
from small_models import operation
from zoo import Network

import prune_keras

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="what TensorFlow alone does"
)


def network(make, shape, floatx="float32"):
    """Return the network that a function makes of an input, with a head, as promises take it."""

    def build():
        inputs = keras.Input(shape)
        return keras.Model(inputs, layers.Dense(2, name="out")(make(inputs)))

    return Network("", build, (), floatx=floatx)


def plan_of(model, **kept):
    widths = prune_keras.trace(model).widths
    return prune_keras.Plan({**prune_keras.Plan.everything(widths).kept, **kept}, widths)


# One channel left beside units no longer shows that there are channels.


def by_equation(x):
    return layers.EinsumDense("abc,bd->adc", (4, 3), name="b")(layers.Dense(3, name="a")(x))


def by_channel(x):
    x = layers.Dense(3, name="a")(x)
    return layers.EinsumDense("bpc,cpq->bqc", (4, 3), bias_axes="qc", name="b")(x)


def by_dense(x):
    x = layers.Permute((2, 1))(layers.Dense(3, name="a")(x))
    return layers.Permute((2, 1))(layers.Dense(4, name="b")(x))


@pytest.mark.parametrize("make", [by_equation, by_channel, by_dense])
def test_two_channels_stay_beside_units_that_are_fixed(make):
    beside = network(make, (5, 2))
    with beside.built() as model:
        with pytest.raises(ValueError, match="two where .* lie beside units that stay"):
            prune_keras.shrink(model, plan_of(model, a=[1]))
        plan = plan_of(model, a=[0, 2])
        assert prune_keras.trace(prune_keras.shrink(model, plan)).widths == plan.new_widths
    promises.check_costs_are_foreseen(beside, (0, 0.8))


def test_what_joins_samples_is_refused():
    """It stood for the last axis once."""
    inputs = keras.Input((3,), batch_size=2)
    x = layers.Dense(4, name="a")(inputs)
    for joined in (layers.Concatenate(axis=0)([x, x]), ops.concatenate([x, x])):
        graph = prune_keras.trace(keras.Model(inputs, layers.Dense(2)(joined)))
        assert "moves, joins or splits the batch" in graph.fixed[0].reason


# Parts that a first cut leaves uneven, and a second one even.


@pytest.mark.parametrize("parts", [2, [2]])
def test_cuts_that_make_parts_even_again_compose(parts):
    def make(x):
        return layers.Concatenate()(ops.split(layers.Dense(4, name="a")(x), parts, axis=-1)[::-1])

    with network(make, (3,)).built() as model:
        first = plan_of(model, a=[0, 2, 3])
        between = prune_keras.shrink(model, first)
        second = plan_of(between, a=[0, 1])
        once = prune_keras.shrink(model, first.then(second))
        twice = prune_keras.shrink(between, second)
        assert operation(between, "Split").indices_or_sections == (1,)
        assert promises.config_of(once) == promises.config_of(twice)
        np.testing.assert_equal(outputs_of(once, samples(once)), outputs_of(twice, samples(once)))


# What is no weight but belongs to a channel, and a gradient of which rounding is all there is.


def test_constants_change_places_with_their_neurons():
    def make(x):
        return layers.Dense(4, name="a")(x) * np.linspace(-1, 1, 4, dtype="float32")

    promises.check_neurons_can_change_places(network(make, (3,)), 0)


@on_tensorflow
def test_a_gradient_that_is_zero_is_compared_in_float64():
    def make(x):
        return layers.BatchNormalization()(layers.Dense(5, name="a")(x))

    shares = {}
    for floatx in ("float32", "float64"):
        with network(make, (3,), floatx).built() as model:
            model.compile(promises_in_training.OPTIMIZERS["adam"](), "mse", run_eagerly=True)
            train_step(model)
            kernel, bias = (np.abs(each).max() for each in model.optimizer._momentums[:2])
            shares[floatx] = bias / kernel
    assert 1e-9 < shares["float32"] < 1e-6 and shares["float64"] < 1e-15
    promises_in_training.check_step_after_cut(network(make, (3,), "float64"), (0, 0.5), "adam")


# Keras on TensorFlow adds a bias of (heads, 1) along a sequence that is as long as there are heads.


def attention(width, heads=3):
    return lambda x: layers.MultiHeadAttention(heads, width, name="a")(x, x)


@on_tensorflow
@pytest.mark.parametrize("length", [3, None])
def test_heads_with_biases_keep_a_width_of_two(length):
    beside = network(attention(3), (length, 4))
    with beside.built() as model:
        thin, _ = prune_keras.prune(model, fraction=0.9, criterion="random", seed=0)
        assert (thin.get_layer("a").key_dim, thin.get_layer("a").value_dim) == (2, 2)
    if length is not None:
        promises.check_removed_is_silenced(beside, (0, 0.8))
        promises.check_plans_compose(beside, (0, 0.5), (0, 0.3))


@on_tensorflow
def test_heads_of_width_1_stay_where_there_are_as_many_as_positions_or_more():
    with network(attention(1), (2, 4)).built() as model:
        (fixed,) = (each for each in prune_keras.trace(model).fixed if each.path == "a:heads")
        assert "takes the bias of heads of width 1 for one along the sequence" in fixed.reason
    promises.check_removed_is_silenced(network(attention(1), (2, 4)), (0, 0.5))
    with network(attention(1), (4, 4)).built() as model:
        assert prune_keras.trace(model).widths["a:heads"] == 3
