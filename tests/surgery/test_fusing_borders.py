"""Fusing where kernels read padding, where weights are frozen, and where they are constrained."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras.readers.windows import reads
from prune_keras.repair.fusing import assign, fused
from prune_keras.repair.reading import convolved
from prune_keras.surgery import kept_neurons

UNITS = 6
DILATED = {"dilation_rate": 2}
READERS = {
    "same": (layers.Conv2D, (4, 5), {"kernel_size": 3, "padding": "same"}),
    "one position": (layers.Conv2D, (1, 1), {"kernel_size": 3, "padding": "same"}),
    "same, even": (layers.Conv2D, (5, 4), {"kernel_size": (2, 4), "padding": "same"}),
    "same, strides": (layers.Conv2D, (5, 6), {"kernel_size": 3, "padding": "same", "strides": 2}),
    "same, dilated": (
        layers.Conv1D,
        (7,),
        {"kernel_size": 3, "padding": "same", "dilation_rate": 2},
    ),
    "causal": (layers.Conv1D, (6,), {"kernel_size": 3, "padding": "causal", "dilation_rate": 2}),
    "causal, strides": (layers.Conv1D, (7,), {"kernel_size": 2, "padding": "causal", "strides": 3}),
    "valid": (layers.Conv2D, (6, 5), {"kernel_size": 3, "dilation_rate": 2}),
    "valid, strides": (layers.Conv1D, (9,), {"kernel_size": 2, "strides": 3}),
    "one tap": (layers.Conv1D, (7,), {"kernel_size": 1, "strides": 2}),
    "3D": (layers.Conv3D, (2, 3, 2), {"kernel_size": 3, "padding": "same"}),
    "no bias": (layers.Conv2D, (3, 3), {"kernel_size": 3, "padding": "same", "use_bias": False}),
}
UNITS_OF = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}
COUNT = 60


def network(name, dtype="float32", **reader):
    """Units `a`, and a layer `r` that reads them; `a` has noise of its own in each unit."""
    kind, sizes, options = READERS[name]
    inputs = keras.Input((*sizes, 5), dtype=dtype)
    units = UNITS_OF[len(sizes)](UNITS, 1, activation="relu", name="a", dtype=dtype)
    outputs = kind(4, name="r", dtype=dtype, **options | reader)(units(inputs))
    model = keras.Model(inputs, outputs)
    kernel, bias = units.get_weights()
    units.set_weights([kernel, bias + np.linspace(0.2, 1.5, UNITS)])
    samples = np.random.default_rng(0).normal(size=(COUNT, *sizes, 5)).astype(dtype)
    return model, samples


def fuse(model, samples, gone, way="weights"):
    """Return the thin model, and the thin model with fused weights."""
    graph = prune_keras.trace(model)
    plan = prune_keras.Plan.everything(graph.widths)
    kept = {**plan.kept, "a": np.delete(np.arange(UNITS), gone)}
    plan = prune_keras.Plan(kept, graph.widths)
    plain, thin = prune_keras.shrink(model, plan), prune_keras.shrink(model, plan)
    assign(thin, fused(model, graph, kept_neurons(graph, plan), samples, way))
    return plain, thin


def outputs(model, samples):
    return ops.convert_to_numpy(model(samples)).astype(np.float64)


def missed(model, thin, samples):
    """Return the mean square of what each output misses."""
    apart = outputs(thin, samples) - outputs(model, samples)
    return np.square(apart).reshape(-1, apart.shape[-1]).mean(axis=0)


@pytest.mark.parametrize("name", READERS)
def test_positions_count_as_often_as_the_layer_reads_them(name):
    model, _ = network(name)
    layer, sizes = model.get_layer("r"), READERS[name][1]
    places = int(np.prod(sizes))
    one_by_one = np.eye(places, dtype="float32").reshape(places, *sizes, 1)
    ones = np.ones((*layer.kernel_size, 1, 1), "float32")
    responses = ops.convert_to_numpy(convolved(layer, ops.convert_to_tensor(one_by_one), ones))
    counts, padded = reads(layer, ops.ones((3, *sizes, UNITS)), -1)
    expected = np.tile(responses.reshape(places, -1).sum(1), 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(counts)[:, 0], expected)
    every = 3 * responses[0].size * np.prod(layer.kernel_size)
    assert float(padded) == every - expected.sum()


@pytest.mark.parametrize("name", READERS)
def test_a_copy_is_not_missed_at_borders_either(name):
    model, samples = network(name)
    units = model.get_layer("a")
    units.set_weights([np.concatenate([w[..., :-1], w[..., :1]], -1) for w in units.get_weights()])
    plain, thin = fuse(model, samples, [UNITS - 1])
    assert (missed(model, thin, samples) < 1e-5 * missed(model, plain, samples)).all()


@pytest.mark.parametrize("name", READERS)
def test_a_constant_is_taken_over_by_another_one_at_borders_too(name):
    model, samples = network(name)
    units = model.get_layer("a")
    kernel, bias = units.get_weights()
    kernel[..., [0, 3]], bias[[0, 3]] = 0, [1.0, 2.5]
    units.set_weights([kernel, bias])
    plain, thin = fuse(model, samples, [3])
    assert (missed(model, thin, samples) < 1e-4 * missed(model, plain, samples)).all()


@pytest.mark.parametrize("name", ["one position", "valid", "valid, strides", "one tap"])
def test_a_constant_moves_into_the_bias_where_all_responses_read_alike(name):
    model, samples = network(name)
    units = model.get_layer("a")
    kernel, bias = units.get_weights()
    kernel[..., 3], bias[3] = 0, 2.5
    units.set_weights([kernel, bias])
    plain, thin = fuse(model, samples, [3], "bias")
    assert (missed(model, thin, samples) < 1e-6 * missed(model, plain, samples)).all()


@pytest.mark.parametrize("name", READERS)
def test_no_output_misses_more_than_without_fusing(name):
    model, samples = network(name)
    way = "bias" if name in ("same, strides", "causal") else "weights"
    plain, thin = fuse(model, samples, [0, 2, 4, 5], way)
    before, after = missed(model, plain, samples), missed(model, thin, samples)
    assert (after <= before * (1 + 1e-5)).all()
    if "bias" not in name:
        mean = outputs(thin, samples).reshape(-1, 4).mean(0)
        whole = outputs(model, samples).reshape(-1, 4).mean(0)
        np.testing.assert_allclose(mean, whole, rtol=1e-4, atol=1e-4)


def test_an_output_keeps_its_weights_where_others_would_be_worse():
    """What is foretold position by position may be wrong for a difference of two positions."""
    rng = np.random.default_rng(1)
    level = rng.normal(size=(COUNT, 1))
    wave = np.array([1.0, -1.0, 1.0, -1.0]) * rng.normal(size=(COUNT, 1))
    stays = level + 3 * wave
    goes = level + 0.1 * wave
    samples = np.stack([stays, goes], axis=-1).astype("float32")
    inputs = keras.Input((4, 2))
    units = layers.Conv1D(2, 1, use_bias=False, name="a")
    reader = layers.Conv1D(1, 2, use_bias=False, name="r")
    model = keras.Model(inputs, reader(units(inputs)))
    units.set_weights([np.eye(2)[None]])
    reader.set_weights([np.array([1.0, -1.0]).reshape(2, 1, 1) * np.array([[0.0], [1.0]])])
    graph = prune_keras.trace(model)
    plan = prune_keras.Plan({"a": np.array([0])}, graph.widths)
    plain, thin = prune_keras.shrink(model, plan), prune_keras.shrink(model, plan)
    assign(thin, fused(model, graph, kept_neurons(graph, plan), samples, "weights"))
    assert missed(model, thin, samples) <= missed(model, plain, samples) * (1 + 1e-5)
    np.testing.assert_array_equal(thin.get_layer("r").get_weights()[0], 0)


def test_float64_models_stay_in_float64():
    model, samples = network("same", "float64")
    units = model.get_layer("a")
    units.set_weights([np.concatenate([w[..., :-1], w[..., :1]], -1) for w in units.get_weights()])
    _, thin = fuse(model, samples + 1e4, [1, UNITS - 1])
    assert thin.get_layer("r").kernel.dtype == "float64"
    model, samples = network("one position", "float64")
    kernel, bias = model.get_layer("a").get_weights()
    kernel[..., 3], bias[3] = 0, 1e6 + 1e-4
    model.get_layer("a").set_weights([kernel, bias])
    _, thin = fuse(model, samples, [3], "bias")
    assert missed(model, thin, samples).max() < 1e-16


def test_positions_that_are_masked_do_not_count():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(40, 6, 3)).astype("float32")
    seen = np.arange(6) < rng.integers(2, 6, 40)[:, None]
    samples[~seen] = 0
    inputs = keras.Input((6, 3))
    x = layers.Dense(UNITS, activation="tanh", name="a")(layers.Masking()(inputs))
    model = keras.Model(inputs, layers.Dense(4, name="r")(x))
    model.get_layer("a").bias.assign(np.linspace(1, 2, UNITS))
    _, thin = fuse(model, samples, [0, 4], "bias")
    apart = (outputs(thin, samples) - outputs(model, samples))[seen]
    np.testing.assert_allclose(apart.mean(0), 0, atol=1e-5)


FROZEN = {
    "layer": lambda layer: setattr(layer, "trainable", False),
    "kernel": lambda layer: setattr(layer.kernel, "trainable", False),
    "bias": lambda layer: setattr(layer.bias, "trainable", False),
}


@pytest.mark.parametrize(
    ("frozen", "way", "kind"),
    [
        ("layer", "weights", "same"),
        ("kernel", "weights", "same"),
        ("bias", "weights", "dense"),
        ("layer", "bias", "dense"),
        ("kernel", "bias", "dense"),
        ("bias", "bias", "same"),
    ],
)
def test_frozen_weights_stay_slices(frozen, way, kind):
    if kind == "dense":
        inputs = keras.Input((5,))
        x = layers.Dense(UNITS, activation="relu", name="a")(inputs)
        model = keras.Model(inputs, layers.Dense(4, name="r")(x))
        samples = np.random.default_rng(0).normal(size=(30, 5)).astype("float32")
    else:
        model, samples = network(kind)
    FROZEN[frozen](model.get_layer("r"))
    plain, thin = fuse(model, samples, [0, 2], way)
    pairs = zip(thin.get_layer("r").weights, plain.get_layer("r").weights, strict=True)
    for variable, sliced in pairs:
        same = np.array_equal(*(ops.convert_to_numpy(v.value) for v in (variable, sliced)))
        is_frozen = frozen in ("layer", variable.name)
        assert same == (is_frozen or (way == "bias" and variable.name == "kernel"))


def test_layers_in_a_frozen_model_stay_slices():
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(UNITS, name="a"), layers.Dense(4)])
    inner.trainable = False
    inputs = keras.Input((5,))
    model = keras.Model(inputs, layers.Dense(2)(inner(inputs)))
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(30, 5))
    plain, thin = (
        prune_keras.prune(
            model, fraction=0.3, data=x, criterion="l2", fuse=fuse, exclude="*/dense*"
        )
        for fuse in (None, "weights")
    )
    for one, other in zip(plain[0].layers[1].weights, thin[0].layers[1].weights, strict=True):
        np.testing.assert_array_equal(*(ops.convert_to_numpy(v.value) for v in (one, other)))


CONSTRAINTS = {
    "NonNeg": keras.constraints.NonNeg(),
    "MaxNorm": keras.constraints.MaxNorm(0.4, axis=[0, 1, 2]),
    "UnitNorm": keras.constraints.UnitNorm(axis=[0, 1, 2]),
    "MinMaxNorm": keras.constraints.MinMaxNorm(0.2, 0.4, axis=[0, 1, 2]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints_hold_for_what_is_fused(name):
    constraint = CONSTRAINTS[name]
    keep = keras.constraints.NonNeg()
    model, samples = network("same", kernel_constraint=constraint, bias_constraint=keep)
    layer = model.get_layer("r")
    layer.kernel.assign(constraint(layer.kernel))
    layer.bias.assign([0.0, 0.0, 0.3, 0.0])
    _, thin = fuse(model, samples, [0, 2])
    for variable in thin.get_layer("r").weights:
        value = ops.convert_to_numpy(variable.value)
        held = ops.convert_to_numpy(variable.constraint(ops.convert_to_tensor(value)))
        np.testing.assert_allclose(value, held, rtol=1e-5, atol=1e-6)


TYING = {
    "UnitNorm": keras.constraints.UnitNorm(),
    "MinMaxNorm": keras.constraints.MinMaxNorm(0.9, 1.1),
    "MaxNorm over units": keras.constraints.MaxNorm(0.5, axis=1),
    "UnitNorm over units": keras.constraints.UnitNorm(axis=1),
}


@pytest.mark.parametrize("name", TYING)
def test_what_a_constraint_takes_from_a_response_goes_to_the_bias(name):
    """No slice of a unit of norm one has norm one: it responds by other weights, too."""
    constraint, rng = TYING[name], np.random.default_rng(0)
    first = layers.Dense(10, activation="relu", name="a")
    reader = layers.Dense(8, kernel_constraint=constraint, name="r")
    model = keras.Sequential([keras.Input((6,)), first, reader])
    first.kernel.assign(rng.normal(size=(6, 10)))
    reader.kernel.assign(constraint(ops.convert_to_tensor(rng.normal(size=(10, 8)), "float32")))
    samples = rng.normal(size=(400, 6)).astype("float32") + 1
    thin, _ = prune_keras.prune(model, fraction=0.4, data=samples, fuse="weights", criterion="l2")
    missed = thin.predict(samples, verbose=0) - model.predict(samples, verbose=0)
    np.testing.assert_allclose(missed.mean(axis=0), 0, atol=1e-4)
    kernel = thin.get_layer("r").kernel
    found, wanted = (ops.convert_to_numpy(each) for each in (constraint(kernel), kernel))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
