"""Heads by hand: what is reshaped to heads and widths, sliced, turned, and attended to."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, randomize, samples
from promises import random_plan
from steps import BACKWARDS

import prune_keras

LENGTH, HEADS, WIDTH = 5, 4, 8


def heads_of(x, name, heads=HEADS, width=WIDTH):
    x = layers.Dense(heads * width, name=name)(x)
    return ops.reshape(x, (-1, LENGTH, heads, width))


def model_of(inputs, x):
    x = ops.reshape(x, (-1, LENGTH, x.shape[2] * x.shape[3]))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    return model


def zeroed(model, plan):
    """Set to zero what a plan removes, found by cutting the numbers of entries instead."""
    before = [np.array(v) for v in model.weights]
    for variable, value in zip(model.weights, before, strict=True):
        variable.assign(1.0 + np.arange(value.size).reshape(value.shape))
    thin = prune_keras.shrink(model, plan)
    for variable, value, left in zip(model.weights, before, thin.weights, strict=True):
        numbers = 1 + np.arange(value.size).reshape(value.shape)
        variable.assign(value * np.isin(numbers, np.array(left)))
    return before


def check(model, path, tmp_path, seed=0, fixed=frozenset({"out"})):
    """Cut a model at random; it gives what is left of the original, read back and cut again."""
    plan, x = random_plan(model, (seed, 0.5)), samples(model)
    thin = prune_keras.shrink(model, plan)
    assert len(plan.kept[path]) < plan.widths[path]
    thin.save(tmp_path / "thin.keras")
    read = keras.models.load_model(tmp_path / "thin.keras")
    before = zeroed(model, plan)
    (wanted,) = outputs_of(model, x)
    for variable, value in zip(model.weights, before, strict=True):
        variable.assign(value)
    prune_keras.shrink_in_place(model, plan)
    for each in (thin, read, model):
        (found,) = outputs_of(each, x)
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    again = prune_keras.trace(thin)
    assert {f.path for f in again.fixed} == fixed


def turned_by_halves(x):
    """Rotary positions, of which the first half of channels is turned with the second one."""
    half = x.shape[-1] // 2
    angles = np.arange(LENGTH)[:, None] / 10.0 ** np.arange(half)[None] / half
    angles = np.concatenate([angles, angles], axis=-1)[None, :, None, :].astype("float32")
    other = ops.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * np.cos(angles) + other * np.sin(angles)


def turned_by_pairs(x):
    """Rotary positions of neighbours: even channels are turned with odd ones."""
    even, odd = x[..., ::2], x[..., 1::2]
    half = even.shape[-1]
    angles = (np.arange(LENGTH)[:, None] / 10.0 ** np.arange(half)[None])[None, :, None, :]
    cos, sin = (f(angles).astype("float32") for f in (np.cos, np.sin))
    pairs = ops.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return ops.reshape(pairs, (-1, *x.shape[1:]))


def turned_by_split(x):
    """Rotary positions as KerasHub writes them."""
    first, second = ops.split(x, 2, axis=-1)
    other = ops.reshape(ops.stack((-second, first), axis=-2), (-1, *x.shape[1:]))
    return x * 0.5 + other * np.linspace(0, 1, WIDTH).astype("float32")


MOVES = {
    "halves": (turned_by_halves, HEADS, WIDTH // 2),
    "pairs": (turned_by_pairs, HEADS, WIDTH // 2),
    "split": (turned_by_split, HEADS, WIDTH // 2),
    "range": (lambda x: x[:, :, :, 2:6], HEADS, WIDTH),
    "range of both": (lambda x: x[:, :, 1:, :5], HEADS, WIDTH),
    "one head": (lambda x: x[:, :, 1:2], HEADS, WIDTH),
    "every second": (lambda x: x[..., 1::2], HEADS, WIDTH // 2),
    "every second head": (lambda x: x[:, :, ::2], HEADS, WIDTH),
    "backwards": (lambda x: x[..., ::-1], HEADS, HEADS),
    "heads backwards": (lambda x: x[:, :, ::-1], HEADS, WIDTH),
    "split heads": (lambda x: ops.subtract(*ops.split(x, 2, axis=2)), HEADS, WIDTH),
    "single heads": (lambda x: ops.maximum(*ops.split(x, HEADS, axis=2)[1:3]), HEADS, WIDTH),
    "uneven widths": (lambda x: ops.split(x, [3, 5], axis=3)[1], HEADS, WIDTH),
    "even parts": (lambda x: ops.add(*ops.array_split(x, 2, axis=3)), HEADS, WIDTH // 2),
    "uneven parts": (lambda x: ops.array_split(x, 3, axis=3)[2], HEADS, HEADS),
    "unstacked": (lambda x: ops.stack(ops.unstack(x, axis=2)[:3], axis=3), HEADS, WIDTH),
    "taken": (lambda x: ops.take(x, np.array([2, 0]), axis=2), HEADS, WIDTH),
    "picked head": (lambda x: x[:, :, 1][:, :, None], HEADS, WIDTH),
    "picked from behind": (lambda x: x[:, :, -1, :, None], HEADS, WIDTH),
}


@pytest.mark.repeats(9)
@pytest.mark.parametrize("name", MOVES)
def test_heads_that_are_sliced_keep_their_widths_prunable(name, tmp_path):
    if name.endswith("backwards") and not BACKWARDS:
        pytest.skip("PyTorch has no slices with negative steps")
    move, heads, neurons = MOVES[name]
    inputs = keras.Input((LENGTH, 4))
    model = model_of(inputs, ops.tanh(move(heads_of(inputs, "a"))))
    graph = prune_keras.trace(model)
    assert {fixed.path for fixed in graph.fixed} == {"out"}
    assert sum(f.size for f in graph.families if "a" in f.paths) == neurons
    check(model, "a", tmp_path)


def test_a_picked_channel_leaves_heads_prunable(tmp_path):
    inputs = keras.Input((LENGTH, 4))
    model = model_of(
        inputs,
        ops.tanh(layers.Reshape((LENGTH, 4, 3))(layers.Dense(12, name="a")(inputs))[..., 1])[
            ..., None
        ],
    )
    (family,) = prune_keras.trace(model).families
    assert family.size == 4
    check(model, "a", tmp_path)


def queries_keys_values(heads=HEADS):
    inputs = keras.Input((LENGTH, 4))
    return inputs, *(
        heads_of(inputs, n, h) for n, h in zip("qkv", (HEADS, heads, heads), strict=True)
    )


@pytest.mark.parametrize("heads", [HEADS, 2])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"mask": np.tri(LENGTH, dtype=bool)[None, None]},
        {"bias": np.linspace(-1, 1, LENGTH, dtype="float32")},
    ],
    ids=lambda arguments: next(iter(arguments), "plain"),
)
def test_raw_attention_keeps_its_scale(arguments, heads, tmp_path):
    inputs, query, key, value = queries_keys_values(heads)
    arguments = dict(arguments)
    if "bias" in arguments:
        arguments["bias"] = np.broadcast_to(arguments["bias"], (1, HEADS, LENGTH, LENGTH))
    made = ops.dot_product_attention(query, key, value, **arguments)
    model = model_of(inputs, made)
    (family,) = prune_keras.trace(model).families
    assert {*family.paths} == {*"qkv"} and family.size == WIDTH
    check(model, "q", tmp_path)


def test_raw_attention_fixes_a_bias_that_is_made():
    inputs, query, key, value = queries_keys_values()
    bias = layers.Dense(LENGTH, name="bias")(inputs)[:, None]
    model = model_of(inputs, ops.dot_product_attention(query, key, value, bias=bias))
    reasons = {fixed.path: fixed.reason for fixed in prune_keras.trace(model).fixed}
    assert "as a mask or a bias" in reasons["bias"]


def test_cutting_nothing_leaves_the_scale_open():
    inputs, *tensors = queries_keys_values()
    model = model_of(inputs, ops.dot_product_attention(*tensors))
    everything = prune_keras.Plan.everything(prune_keras.trace(model).widths)
    before = model.get_config()
    prune_keras.shrink_in_place(model, everything)
    assert model.get_config() == before


@pytest.mark.parametrize("start", [0, 1, 2, 3])
@pytest.mark.parametrize("step", [2, 3])
def test_steps_pick_the_same_of_each_period_that_is_left(start, step, tmp_path):
    inputs = keras.Input((LENGTH, 4))
    x = layers.Dense(11, name="a")(inputs)
    x = layers.Dense(3, name="read")(ops.tanh(x[..., start:10:step]))
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    check(model, "a", tmp_path, start)


@pytest.mark.parametrize(
    ("key", "left"),
    [
        (slice(None, 3), slice(None, 2)),
        (slice(-4, None), slice(-3, None)),
        (slice(1, -2, 2), slice(1, -2, 2)),
        (slice(2, None), slice(1, None)),
        (slice(None), slice(None)),
    ],
)
def test_slices_of_what_is_left_are_spelled_as_they_were(key, left):
    """So a `call` that reads its widths of shapes spells them, once it is thin."""
    inputs = keras.Input((3,))
    x = layers.Dense(8, name="a")(inputs)
    model = keras.Model(inputs, [layers.Dense(2)(x[..., key]), layers.Dense(2)(ops.sin(x))])
    kept = [0, 1, 4, 5, 6, 7] if key.step else [0, 2, 4, 5, 7]
    plan = prune_keras.Plan({"a": kept}, prune_keras.trace(model).widths)
    thin = prune_keras.shrink(model, plan)
    (item,) = (each for each in thin.operations if type(each).__name__ == "GetItem")
    assert item._inbound_nodes[0].arguments.args[1] == (Ellipsis, left)


def test_even_parts_stay_a_number_of_parts():
    inputs = keras.Input((3,))
    first, second = ops.split(layers.Dense(8, name="a")(inputs), 2, axis=-1)
    model = keras.Model(inputs, layers.Dense(2)(first * second))
    plan = prune_keras.Plan({"a": [0, 3, 4, 7]}, prune_keras.trace(model).widths)
    thin = prune_keras.shrink(model, plan)
    (split,) = (each for each in thin.operations if type(each).__name__ == "Split")
    assert split.indices_or_sections == 2


def gated(x, gates):
    """Experts that were asked, weighted by gates and added up."""
    return ops.sum(x * gates[..., None], axis=1)


@pytest.mark.parametrize("softmax", [True, False])
def test_gates_that_are_broadcast_stay_and_leave_channels_free(softmax, tmp_path):
    inputs = keras.Input((LENGTH,))
    experts = [layers.Dense(6, name=f"expert{n}")(inputs) for n in range(3)]
    gates = layers.Dense(3, name="gates", activation=None if softmax else "sigmoid")(inputs)
    x = gated(ops.stack(experts, axis=1), ops.softmax(gates) if softmax else gates)
    model = keras.Model(inputs, layers.Dense(2, name="out")(ops.tanh(x)))
    randomize(model)
    (family,) = prune_keras.trace(model).families
    assert family.paths == ("expert0", "expert1", "expert2") and family.size == 6
    told = {fixed.path: fixed.reason for fixed in prune_keras.trace(model).fixed}
    assert ("softmax" if softmax else "broadcasts") in told["gates"]
    check(model, "expert0", tmp_path, fixed={"out", "gates"})
