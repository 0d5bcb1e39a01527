"""The sequential refit: a thin network that can say what the dense one said comes to say it."""

from collections import Counter

import keras
import numpy as np
import pytest
import twinned
from keras import layers
from twinned import (
    SAMPLES,
    TWIN,
    apart,
    closeness,
    drawn_for,
    refitted,
    sequential,
    twins,
    without_twin,
)

import prune_keras
from prune_keras import Plan
from prune_keras.callbacks import ProgressivePruning
from prune_keras.repair import Refit, Repair, observing, side_by_side
from prune_keras.repair.walking import Walk
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.surgery import kept_neurons


def two_read_it():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="a")(inputs)
    one = layers.Conv2D(4, 1, activation="relu")(x)
    other = layers.Conv2D(3, 3, padding="same", strides=2)(x)
    both = [layers.GlobalAveragePooling2D()(each) for each in (one, other)]
    return keras.Model(inputs, [layers.Dense(2)(both[0]), layers.concatenate(both)])


def residual(normalize=True):
    def build():
        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(5, 3, padding="same", name="a")(inputs)
        for number in range(2):
            y = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
            y = layers.BatchNormalization()(y) if normalize else y
            y = layers.ReLU()(y)
            y = layers.Conv2D(5, 3, padding="same", use_bias=False, name=f"add{number}")(y)
            y = layers.BatchNormalization(name=f"norm{number}")(y) if normalize else y
            x = layers.Add()([x, y])
        return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))

    return build


def shared():
    inputs = [keras.Input((6,)), keras.Input((6,))]
    first, second = layers.Dense(5, activation="relu", name="a"), layers.Dense(4)
    ends = [second(first(each)) for each in inputs]
    return keras.Model(inputs, layers.Dense(2)(layers.concatenate(ends)))


def nested():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(5, 3, activation="relu", name="a")(inputs)
    given = keras.Input(x.shape[1:])
    inner = layers.Conv2D(4, 3, activation="relu")(given)
    inner = keras.Model(given, layers.BatchNormalization()(inner))
    x = layers.GlobalAveragePooling2D()(inner(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def attention():
    inputs = keras.Input((6, 4))
    x = layers.Dense(5, name="a")(inputs)
    x = layers.MultiHeadAttention(2, 3, output_shape=4)(x, x)
    return keras.Model(inputs, layers.Dense(2)(x))


def normalized():
    return layers.BatchNormalization(name="norm")


def dense():
    return layers.Dense(3)


def grouped():
    inputs = keras.Input((7, 7, 3))
    x = layers.Conv2D(10, 3, activation="relu", name="a")(inputs)
    return keras.Model(inputs, layers.Conv2D(4, 2, groups=2, padding="same")(x))


def recurrent():
    inputs = keras.Input((6, 4))
    x = layers.Dense(5, name="a")(inputs)
    return keras.Model(inputs, layers.LSTM(3, name="steps")(x))


OTHERS = {"recurrent": recurrent}
MODELS = {
    "grouped": grouped,
    "dense": sequential(lambda: layers.Dense(7, activation="relu"), dense, shape=(6,)),
    "flattened": sequential(layers.Flatten, dense, shape=(4, 4, 3)),
    "pooled": sequential(layers.MaxPooling2D, lambda: layers.Conv2D(4, 2), layers.Flatten, dense),
    "normalized": sequential(normalized, layers.ReLU, lambda: layers.Conv2D(3, 3)),
    "norm behind": sequential(lambda: layers.Conv2D(3, 3, use_bias=False), normalized),
    "same": sequential(lambda: layers.Conv2D(3, 3, padding="same"), lambda: layers.Conv2D(2, 2)),
    "strides": sequential(lambda: layers.Conv2D(3, 3, strides=2, padding="same")),
    "dilated": sequential(lambda: layers.Conv2D(3, (2, 3), dilation_rate=(2, 1), padding="same")),
    "causal": sequential(
        lambda: layers.Conv1D(3, 2, padding="causal", dilation_rate=2), shape=(9, 3)
    ),
    "three axes": sequential(lambda: layers.Conv3D(3, 2, padding="same"), shape=(5, 5, 5, 2)),
    "transposed": sequential(lambda: layers.Conv2DTranspose(3, 3, strides=2, padding="same")),
    "transposed valid": sequential(
        lambda: layers.Conv1DTranspose(3, 3, strides=2, output_padding=1), shape=(9, 3)
    ),
    "separable": sequential(lambda: layers.SeparableConv2D(4, 3, padding="same", name="twins")),
    "separable strides": sequential(
        lambda: layers.SeparableConv1D(4, 3, 2, depth_multiplier=2, name="twins"), shape=(9, 3)
    ),
    "depthwise": sequential(
        lambda: layers.DepthwiseConv2D(3, padding="same", name="twins"), lambda: layers.Conv2D(4, 1)
    ),
    "einsum": sequential(lambda: layers.EinsumDense("...c,cd->...d", 4, bias_axes="d")),
    "einsum in two": sequential(
        lambda: layers.EinsumDense("abc,cde->abde", (None, 2, 3), bias_axes="de"), shape=(7, 3)
    ),
    "without bias": sequential(lambda: layers.Dense(3, use_bias=False), shape=(6,)),
    "two read it": two_read_it,
    "residual": residual(),
    "residual without norm": residual(normalize=False),
    "shared": shared,
    "nested": nested,
    "attention": attention,
}


def with_twins(name, dtype="float32", told=twins):
    return twinned.with_twins((MODELS | OTHERS)[name], dtype, told)


@pytest.mark.repeats(16)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODELS)
def test_what_can_be_said_is_said(name, dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is told to before it starts")
    model, x = with_twins(name, dtype)
    graph, plan = without_twin(model)
    thin, repair = refitted(model, graph, plan, x)
    fresh = keras.tree.map_structure(
        lambda each: keras.ops.cast(each[:16], dtype), drawn_for(model, np.random.default_rng(5))
    )
    assert apart(model, prune_keras.shrink(model, plan), fresh) > 0.02
    assert apart(model, thin, fresh) < closeness(dtype)
    assert repair.notes == ()


@pytest.mark.repeats(10)
@pytest.mark.parametrize("name", MODELS)
def test_cutting_nothing_changes_nothing(name):
    model, x = with_twins(name)
    graph = prune_keras.trace(model)
    kept = kept_neurons(graph, Plan({p: range(n) for p, n in graph.widths.items()}, graph.widths))
    assert Repair.of(model, graph, kept, x, "sequential").values == ()


@pytest.mark.parametrize("name", ["dense", "pooled", "residual", "shared", "separable"])
def test_held_out_error_never_rises(name):
    model, x = with_twins(name)
    graph, plan = without_twin(model)
    draw = np.random.default_rng(3)
    for variable in model.trainable_variables:  # now nothing can say what goes
        variable.assign(variable + 0.3 * draw.normal(size=variable.shape))
    walk = walked(model, graph, plan, x)
    assert walk.fits
    assert all(fit.after <= fit.before for fit in walk.fits.values())


def walked(model, graph, plan, x):
    walk = Walk(model, graph, kept_neurons(graph, plan), Refit())
    walk.over(Subject(model, graph, x).flat())
    return walk


def test_frozen_weights_stay():
    model, x = with_twins("dense")
    for layer in model.layers[2:]:
        layer.trainable = False
    graph, plan = without_twin(model)
    thin, _ = refitted(model, graph, plan, x)
    expected = prune_keras.shrink(model, plan).get_weights()
    for one, other in zip(thin.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_frozen_kernel_leaves_the_bias():
    model, x = with_twins("dense")
    kernel = model.layers[2].kernel
    kernel.trainable = False
    graph, plan = without_twin(model)
    thin, _ = refitted(model, graph, plan, x)
    held, before = (each.layers[2].get_weights() for each in (thin, model))
    np.testing.assert_array_equal(held[0], before[0][:TWIN])
    assert np.abs(held[1] - before[1]).max() > 1e-3


def test_constraints_hold():
    model, x = with_twins("dense")
    layer = model.layers[2]
    layer.kernel.constraint = keras.constraints.MaxNorm(0.5)
    layer.kernel.assign(layer.kernel.constraint(layer.kernel.value))
    graph, plan = without_twin(model)
    thin, _ = refitted(model, graph, plan, x)
    norms = np.linalg.norm(np.array(thin.layers[2].kernel), axis=0)
    assert norms.max() < 0.5 + 1e-5
    assert apart(model, thin, x) < apart(model, prune_keras.shrink(model, plan), x)


@pytest.mark.parametrize("name", ["pooled", "residual", "dense"])
def test_mixed_precision_sums_in_full(name):
    model, x = with_twins(name, "mixed_float16")
    graph, plan = without_twin(model)
    thin, _ = refitted(model, graph, plan, x)
    assert {variable.dtype for variable in thin.trainable_variables} == {"float32"}
    assert apart(model, thin, x) < 0.02


def test_masked_steps_say_nothing():
    def build():
        inputs = keras.Input((6, 3))
        x = layers.Dense(5, activation="relu", name="a")(layers.Masking()(inputs))
        return keras.Model(inputs, layers.Dense(4)(x))

    keras.utils.set_random_seed(0)
    model, draw = build(), np.random.default_rng(0)
    x = draw.normal(size=(SAMPLES, 6, 3))
    x[:, 3:] = 0
    graph, plan = without_twin(model)
    thin, _ = refitted(model, graph, plan, x)
    shorter = keras.Sequential([keras.Input((3, 3)), *model.layers[2:]])
    graph = prune_keras.trace(shorter)
    other, _ = refitted(shorter, graph, plan, x[:, :3])
    np.testing.assert_allclose(thin.layers[-1].kernel, other.layers[-1].kernel, rtol=1e-4)


def test_the_model_stays_as_it_was():
    model, x = with_twins("residual")
    before = [np.array(value) for value in model.get_weights()]
    graph, plan = without_twin(model)
    refitted(model, graph, plan, x)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert prune_keras.trace(model).widths == graph.widths


def test_memory_bounds_the_samples():
    model, x = with_twins("pooled")
    graph, plan = without_twin(model)
    walk = Walk(model, graph, kept_neurons(graph, plan), Refit(memory=1))
    walk.over(Subject(model, graph, Samples(x, 8)).flat())
    assert walk.portion.samples == 8


def test_one_batch_is_not_run_to_know_what_it_takes(monkeypatch):
    model, x = with_twins("pooled")
    graph, plan = without_twin(model)
    monkeypatch.setattr(Walk, "_needed", lambda walk, batch: pytest.fail("it was run"))
    refitted(model, graph, plan, Samples(x, SAMPLES))


def test_the_dense_network_runs_once(monkeypatch):
    model, x = with_twins("residual")
    graph, plan = without_twin(model)
    runs, run_dense = Counter(), side_by_side.run_dense

    def counted(visited, number):
        runs[visited.path, number] += 1
        return run_dense(visited, number)

    for module in (observing, side_by_side):
        monkeypatch.setattr(module, "run_dense", counted)
    refitted(model, graph, plan, Samples(x, 32))
    assert {count for (_, number), count in runs.items() if number == 1} == {1}


def test_prune_and_the_callback_refit():
    model, x = with_twins("pooled")
    thin, report = prune_keras.prune(model, fraction=0.2, criterion="l2", data=x, fuse="sequential")
    assert report.scores == "l2, fused sequential"
    graph = prune_keras.trace(model)
    repair = Repair.of(model, graph, kept_neurons(graph, report.plan), Samples(x), "sequential")
    again = prune_keras.shrink(model, report.plan)
    repair.apply(again)
    assert apart(again, thin, x) < 1e-5
    model.compile("sgd", "mse")
    pruning = ProgressivePruning(
        {"neurons": 0.8}, fraction=0.2, criterion="l2", data=x, fuse=Refit(), verbose=0
    )
    targets = np.zeros((SAMPLES, *model.output_shape[1:]))
    model.fit(x, targets, epochs=2, callbacks=[pruning], verbose=0)
    assert pruning.report.scores == "l2, fused sequential"


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_samples_are_refused(count):
    model, x = with_twins("dense")
    graph, plan = without_twin(model)
    with pytest.raises(ValueError, match=f"samples to hold out. Received: data of {count} samples"):
        refitted(model, graph, plan, x[:count])


@pytest.mark.parametrize("value", [2, "auto", None])
def test_a_bar_is_shown_or_not(value):
    with pytest.raises(ValueError, match="`verbose` must be 0 or 1.*Received: verbose="):
        Refit(verbose=value)


@pytest.mark.parametrize("option", ["memory", "rows"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_bounds_are_counts(option, value):
    with pytest.raises(ValueError, match=f"at least 1. Received: {option}={value}. Leave"):
        Refit(**{option: value})


def test_what_cannot_be_refitted_is_told():
    model, x = with_twins("recurrent")
    graph, plan = without_twin(model)
    _, repair = refitted(model, graph, plan, x)
    assert repair.notes == ("not refitted, as there is no way to: steps",)


def test_progress_is_shown_only_when_asked_for(capsys):
    model, x = with_twins("dense")
    graph, plan = without_twin(model)
    refitted(model, graph, plan, x)
    assert capsys.readouterr().out == ""
    refitted(model, graph, plan, x, Refit(verbose=1))
    assert "3/3" in capsys.readouterr().out


@pytest.mark.parametrize("steps", [12, 20])
@pytest.mark.parametrize("criterion", ["l2", "obs"])
def test_normalization_of_steps_is_none_of_units(steps, criterion):
    """Its scales, one a step, are taken for those of units neither where they are as many."""
    parts = [
        keras.layers.Conv1D(16, 3, padding="same", activation="relu", name="a"),
        keras.layers.Conv1D(12, 3, padding="same", name="b"),
        keras.layers.BatchNormalization(axis=1, name="norm"),
        keras.layers.ReLU(),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dense(2),
    ]
    model = keras.Sequential([keras.Input((steps, 8)), *parts])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    norm = model.get_layer("norm")
    norm.set_weights([rng.uniform(0.5, 2, steps) for _ in norm.get_weights()])
    x = rng.normal(size=(300, steps, 8)).astype("float32")
    y = model.predict(x, verbose=0)
    asked = {"target": {"params": 0.6}, "data": (x, y + 0.1), "criterion": criterion}
    missed = [
        np.abs(prune_keras.prune(model, fuse=f, **asked)[0].predict(x, verbose=0) - y).mean()
        for f in ("sequential", None)
    ]
    assert missed[0] < 0.8 * missed[1]
