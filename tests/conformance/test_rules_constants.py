"""Constant arrays that layers are given where others are given tensors, and masks of heads."""

import keras
import numpy as np
import pytest
from keras import layers
from small_models import cut, families, model_of, reason

import prune_keras

LENGTH, WIDTH = 5, 6
RNG = np.random.default_rng(0)


def array(*shape):
    """Return numbers for a sample, which broadcast over the batch."""
    return RNG.normal(size=(1, *shape)).astype("float32")


def sequence():
    return keras.Input((LENGTH, WIDTH))


def dense(x, name, units=8):
    return layers.Dense(units, name=name)(x)


STATES = {
    "simple": lambda x: layers.SimpleRNN(6, name="a")(x, initial_state=[array(6)]),
    "alone": lambda x: layers.GRU(6, name="a", seed=0)(x, initial_state=array(6)),
    "positional": lambda x: layers.LSTM(6, name="a", seed=0)(x, [array(6), array(6)]),
    "masked": lambda x: layers.LSTM(6, name="a", seed=0)(
        x, initial_state=[array(6), array(6)], mask=np.ones((1, LENGTH), bool)
    ),
    "one of two": lambda x: layers.LSTM(6, name="a", seed=0)(
        x, initial_state=[dense(x[:, 0], "s", 6), array(6)]
    ),
    "tensor": lambda x: layers.GRU(6, name="a", seed=0)(
        x, initial_state=keras.ops.convert_to_tensor(array(6))
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_constant_states_go_with_their_units(name, tmp_path):
    inputs = sequence()
    model = model_of(inputs, STATES[name](dense(inputs, "given")))
    widths = prune_keras.trace(model).widths
    assert widths["a"] == 6
    thin = cut(model, tmp_path, **dict.fromkeys({"a", "s"} & {*widths}, [0, 2, 5]))
    assert thin.get_layer("a").units == 3


def test_constant_states_of_both_directions(tmp_path):
    inputs = sequence()
    both = layers.Bidirectional(layers.LSTM(4, name="g", seed=0), name="a")
    model = model_of(inputs, both(inputs, initial_state=[array(4) for _ in range(4)]))
    assert families(model)["a/forward_g"] == 4
    kept = dict.fromkeys(["a/forward_g", "a/backward_g"], [0, 3])
    assert cut(model, tmp_path, **kept).get_layer("a").forward_layer.units == 2


def test_constant_states_of_stacked_cells(tmp_path):
    inputs = sequence()
    cells = [layers.GRUCell(4, name="c", seed=0), layers.LSTMCell(5, name="d", seed=0)]
    states = [array(4), [array(5), array(5)]]
    model = model_of(inputs, layers.RNN(cells, name="a")(inputs, initial_state=states))
    cut(model, tmp_path, **{"a/c": [1, 2], "a/d": [0, 3, 4]})


def test_constant_states_of_convolutions(tmp_path):
    inputs = keras.Input((LENGTH, WIDTH, 2))
    cells = layers.ConvLSTM1D(4, 1, name="a", seed=0)
    model = model_of(inputs, cells(inputs, initial_state=[array(WIDTH, 4), array(WIDTH, 4)]))
    cut(model, tmp_path, a=[0, 3])


def heads(kind, **arguments):
    """Return attention of four heads."""
    if kind is layers.MultiHeadAttention:
        return kind(4, 3, name="a", **arguments)
    return kind(3, 4, 2, name="a", **arguments)


KINDS = [layers.MultiHeadAttention]
KINDS += [layers.GroupQueryAttention] if hasattr(layers, "GroupQueryAttention") else []


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_attention_to_a_constant_loses_heads(kind, place, tmp_path):
    inputs = sequence()
    given = [dense(inputs, name) for name in "qvk"]
    given[place] = np.repeat(array(LENGTH, 8), 2, 0)
    model = model_of(inputs, heads(kind)(*given))
    kept = {"a:heads": [0] if kind is not layers.MultiHeadAttention else [0, 2]}
    cut(model, tmp_path, **kept)


@pytest.mark.parametrize("kind", [layers.Attention, layers.AdditiveAttention])
def test_what_is_compared_with_a_constant_stays(kind, tmp_path):
    inputs = sequence()
    constant = np.repeat(array(LENGTH, 8), 2, 0)
    model = model_of(inputs, kind()([dense(inputs, "a"), dense(inputs, "v"), constant]))
    assert "a constant for one of its tensors" in reason(model)
    cut(model, tmp_path, v=[0, 2, 5])


def test_a_product_with_a_constant_keeps_what_is_summed_over():
    inputs = keras.Input(batch_shape=(2, LENGTH, WIDTH))
    constant = np.repeat(array(LENGTH, 8), 2, 0)
    model = model_of(inputs, layers.Dot(2)([dense(inputs, "a"), constant]))
    assert "multiplies them with what cannot lose any" in reason(model)
    assert prune_keras.cost(model).params == model.count_params()


# Masks of heads.


def masks(rows, kind):
    """Return an input that a mask comes from, None for a constant, and how it is given."""
    if kind == "symbolic":
        mask = keras.Input((rows, LENGTH, LENGTH), dtype="bool")
        return mask, {"attention_mask": mask}
    constant = np.tril(np.ones((1, rows, LENGTH, LENGTH), bool))
    return None, {"attention_mask": constant}


@pytest.mark.parametrize("given", ["symbolic", "constant"])
@pytest.mark.parametrize("kind", KINDS)
def test_heads_that_a_mask_tells_apart_stay(kind, given):
    inputs = sequence()
    mask, arguments = masks(4, given)
    x = dense(inputs, "x")
    model = model_of([inputs, mask] if mask is not None else inputs, heads(kind)(x, x, **arguments))
    assert "a:heads" not in families(model)
    assert "a mask for each of them" in reason(model, "a:heads")
    cut(model, x=[0, 2, 5], a=[0, 2, 5])


@pytest.mark.parametrize("given", ["symbolic", "constant"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_for_all_heads_keeps_none(kind, given):
    inputs = sequence()
    mask, arguments = masks(1, given)
    x = dense(inputs, "x")
    model = model_of([inputs, mask] if mask is not None else inputs, heads(kind)(x, x, **arguments))
    cut(model, **{"a:heads": [0]})


def test_a_mask_as_long_as_there_are_heads_is_one_of_positions():
    inputs = keras.Input((4, WIDTH))
    x = dense(inputs, "x")
    mask = np.tril(np.ones((1, 4, 4), bool))
    model = model_of(inputs, heads(layers.MultiHeadAttention)(x, x, attention_mask=mask))
    cut(model, **{"a:heads": [1, 3]})
