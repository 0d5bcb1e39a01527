"""The sequential refit: a thin network that can say what the dense one said comes to say it."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import Plan
from prune_keras.callbacks import ProgressivePruning
from prune_keras.repair import Refit, Repair
from prune_keras.repair.walking import Walk
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.surgery import kept_neurons

SAMPLES = 64
TWIN, OF = 4, 1  # of five units, the one that says what another one says


def sequential(*behind, shape=(8, 8, 3)):
    """Return what builds a model: a convolution of five filters, and what reads them."""

    def build():
        inputs = keras.Input(shape)
        first = {2: layers.Dense, 3: layers.Conv1D, 4: layers.Conv2D, 5: layers.Conv3D}
        kind = first[len(inputs.shape)]
        size = () if kind is layers.Dense else (2,)
        x = kind(5, *size, activation="relu", name="a")(inputs)
        for make in behind:
            x = make()(x)
        return keras.Model(inputs, x)

    return build


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


def twins(array, axis):
    """Let an array hold at one place along an axis what it holds at another one."""
    array = np.moveaxis(array.copy(), axis, 0)
    share = len(array) // 5
    array[TWIN * share : (TWIN + 1) * share] = array[OF * share : (OF + 1) * share]
    return np.moveaxis(array, 0, axis)


def with_twins(name, dtype="float32"):
    """Return a model of random weights in which a unit says what another one does, and samples."""
    keras.utils.set_random_seed(1)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        model = (MODELS | OTHERS)[name]()
    finally:
        keras.config.set_dtype_policy(before)
    draw = np.random.default_rng(0)
    for variable in model.variables:
        drawn = draw.normal(size=variable.shape) * 0.5
        drawn = np.abs(drawn) + 0.5 if "variance" in variable.name else drawn
        path = variable.path
        if any(part in path for part in ("a/", "add", "norm")) and variable.shape[-1] == 5:
            drawn = twins(drawn, -1)
        if path.startswith("a/") and variable.shape[-1] == 10:  # in two groups
            drawn = np.concatenate([twins(half, -1) for half in np.split(drawn, 2, axis=-1)], -1)
        if "twins" in path and "pointwise" not in path and variable.name != "bias":
            drawn = twins(drawn, -2)
        if "twins" in path and variable.name == "bias" and len(drawn) == 5:
            drawn = twins(drawn, -1)
        if variable.dtype.startswith(("float", "bfloat")):
            variable.assign(drawn)
    return model, drawn_for(model, draw)


def drawn_for(model, draw, count=SAMPLES):
    x = [draw.normal(size=(count, *each.shape[1:])) for each in model.inputs]
    return x if len(x) > 1 else x[0]


def without_twin(model):
    """Return the plan that takes the twin away."""
    graph = prune_keras.trace(model)
    (path,) = (path for path in graph.producers if path.split("/")[-1] == "a")
    gone = graph.producers[path].neurons[TWIN]
    kept = {p: np.flatnonzero(graph.producers[p].neurons != gone) for p in graph.widths}
    return graph, Plan({p: indices.tolist() for p, indices in kept.items()}, graph.widths)


def refitted(model, graph, plan, data, fuse="sequential"):
    thin = prune_keras.shrink(model, plan)
    repair = Repair.of(model, graph, kept_neurons(graph, plan), data, fuse)
    repair.apply(thin)
    return thin, repair


def apart(one, other, x):
    """Return how far outputs are apart, relative to the largest."""
    pairs = zip(*(keras.tree.flatten(m(x, training=False)) for m in (one, other)), strict=True)
    pairs = [
        tuple(keras.ops.convert_to_numpy(keras.ops.cast(y, "float64")) for y in p) for p in pairs
    ]
    return max(np.abs(a - b).max() / np.abs(a).max() for a, b in pairs)


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
    assert apart(model, thin, fresh) < (1e-4 if dtype == "float32" else 1e-9)
    assert repair.notes == ()


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
    np.testing.assert_array_equal(thin.layers[2].kernel, kernel[:TWIN])
    assert np.abs(np.array(thin.layers[2].bias) - np.array(model.layers[2].bias)).max() > 1e-3


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


def test_prune_and_the_callback_refit():
    model, x = with_twins("pooled")
    thin, report = prune_keras.prune(model, fraction=0.2, criterion="l2", data=x, fuse="sequential")
    assert report.scores == "l2, fused sequential"
    graph = prune_keras.trace(model)
    repair = Repair.of(model, graph, kept_neurons(graph, report.plan), Samples(x), "sequential")
    again = prune_keras.shrink(model, report.plan)
    repair.apply(again)
    np.testing.assert_allclose(thin(x), again(x), rtol=1e-5, atol=1e-6)
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
