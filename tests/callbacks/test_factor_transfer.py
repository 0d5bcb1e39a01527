"""Factor transfer: what is trained beside a student, through cuts, and that nothing stays."""

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, callback, compiled, fit

from prune_keras import _backend
from prune_keras.callbacks import Distillation, Factors, Teacher
from prune_keras.plan import Plan
from prune_keras.teaching.losses import Factored
from prune_keras.teaching.transfer import Transfer, _at_first
from prune_keras.tracing import trace

STILL = keras.optimizers.SGD(0.0)
EAGERLY = keras.backend.backend() != "jax"  # where a graph takes longer to make than to run
FEW = {"data": IMAGES, "epochs": 1}


def network(width=8, name="maps", rank=2, dtype=None, size=6):
    kind = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D}[rank]
    pool = {1: keras.layers.GlobalAveragePooling1D, 2: keras.layers.GlobalAveragePooling2D}[rank]
    pixels = keras.Input((size,) * rank + (2,))
    x = kind(width, 3, padding="same", activation="relu", name="first", dtype=dtype)(pixels)
    x = kind(width, 3, padding="same", activation="relu", name=name, dtype=dtype)(x)
    x = pool(dtype=dtype)(x)
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax", name="classes")(x))


@pytest.mark.slow
def test_the_paraphraser_learns_to_give_features_back():
    model = network()
    transfer = Transfer(Factors(IMAGES, epochs=60), model, model, trace(model))
    maps = keras.Model(model.input, model.get_layer("maps").output)
    expected = maps.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(transfer._features(), expected, rtol=1e-4, atol=1e-6)
    missed = transfer.learn()
    assert transfer.paraphraser.output_shape == (None, 6, 6, 4)
    assert len(missed) == 60 and missed[-1] < 0.97 * missed[0]


def test_the_translator_goes_down_its_own_gradient_and_the_student_down_the_loss():
    teacher, model = network(12, "wide"), network()
    asked = Factors(IMAGES, weight=20.0, optimizer=keras.optimizers.SGD(0.5))
    transfer = Transfer(asked, teacher, model, trace(model))
    told, said = (np.random.default_rng(n).normal(size=(4, 6, 6, w)) for n, w in ((0, 12), (1, 8)))
    told, said = (keras.ops.convert_to_tensor(each, "float32") for each in (told, said))
    weights = transfer.translator.weights

    def reference(said):
        return Factored()(transfer.paraphraser(told), transfer.translator(said))

    before = [keras.ops.convert_to_numpy(weight) for weight in weights]
    expected = _backend.variable_gradients(lambda: reference(said), weights, weights)
    slope = _backend.gradients(lambda x: reference(x["s"]), {"s": said})["s"]
    everything = np.ones(8, bool)
    at = float(keras.ops.convert_to_numpy(transfer.loss(told, said, everything)))
    for old, new, gradient in zip(before, weights, expected, strict=True):
        moved = old - keras.ops.convert_to_numpy(new)
        step = 0.5 * keras.ops.convert_to_numpy(gradient)
        np.testing.assert_allclose(moved, step, atol=1e-6)
    for weight, old in zip(weights, before, strict=True):
        weight.assign(old)
    expected = float(keras.ops.convert_to_numpy(reference(said)))
    assert at == pytest.approx(20 * expected, rel=1e-5)
    found = _backend.gradients(lambda x: transfer.loss(told, x["s"], everything), {"s": said})["s"]
    found, slope = (keras.ops.convert_to_numpy(each) for each in (found, slope))
    np.testing.assert_allclose(found, 20 * slope, atol=1e-6)


def test_what_is_left_is_read_where_it_always_was():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 5)).astype("float32")
    left = np.array([True, False, True, True, False])
    whole = _at_first(keras.ops.convert_to_tensor(x[..., left]), left)
    whole = keras.ops.convert_to_numpy(whole)
    np.testing.assert_array_equal(whole, x * left)


def dead_halves(model):
    """Let every second unit of each family be zero for whatever is read."""
    for family in trace(model).families:
        for path in family.paths:
            for weight in trace(model).producers[path].layer.weights:
                value = np.array(weight)
                value[..., ::2] = 0
                weight.assign(value)
    return model


@pytest.mark.repeats(1)
def test_factors_stay_what_they_were_where_only_dead_units_go():
    model = dead_halves(network())
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=EAGERLY)
    factors = Factors(**FEW, optimizer=STILL)
    pruning = callback(
        teacher=Teacher("start", logits=0.0, factors=factors),
        criterion="l2",
        target={"neurons": 0.5},
        fraction=0.25,
        min_units=4,
    )
    losses = model.fit(IMAGES, LABELS, epochs=4, callbacks=[pruning], verbose=0).history["loss"]
    assert len(pruning.rounds) >= 2 and model.get_layer("maps").filters == 4
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    assert losses[0] > model.evaluate(IMAGES, LABELS, verbose=0) + 1
    assert not {"train_step", "compute_loss", "call"} & {*vars(model)}


@pytest.mark.repeats(1)
@pytest.mark.parametrize(
    ("dtype", "options", "rank"),
    [
        ("mixed_float16", {"jit_compile": False, "steps_per_execution": 2}, 2),
        (None, {}, 1),
        (None, {"jit_compile": "auto"}, 2),
        (None, {"run_eagerly": True}, 2),
    ],
)
def test_a_wide_teacher_in_all_kinds_of_steps(dtype, options, rank):
    model, teacher = network(8, rank=rank, dtype=dtype), network(12, "wide", rank, dtype)
    optimizer = keras.optimizers.Adam()
    if dtype:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, "sparse_categorical_crossentropy", **options)
    x = IMAGES if rank == 2 else IMAGES[:, 0]
    names = [weight.path for weight in model.weights]
    taught = Distillation(Teacher(teacher, logits=0.5, factors=Factors(x, epochs=1)))
    history = model.fit(x, LABELS, batch_size=8, epochs=12, callbacks=[taught], verbose=0)
    losses = history.history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]
    assert [weight.path for weight in model.weights] == names
    assert not {"train_step", "compute_loss"} & {*vars(model)}
    model.fit(x, LABELS, verbose=0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"weight": 0}, "weight"),
        ({"rate": 1.5}, "rate"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed"),
        ({"layers": ["a"]}, "a student's and its teacher's path"),
        ({"optimizer": "none such"}, "none such"),
    ],
)
def test_what_factors_cannot_be_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Factors(**{"data": IMAGES} | arguments)


@pytest.mark.parametrize(
    ("teacher", "layers", "match"),
    [
        (network, "classes", "maps with channels"),
        (network, "nothing", "must be calls in the student"),
        (lambda: network(name="wide"), ("maps", "nothing"), "must be calls in the teacher"),
        (lambda: pooled(), None, "of one size"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(teacher, layers, match):
    model = compiled(network())
    before = [np.array(weight) for weight in model.weights]
    asked = Teacher(teacher(), factors=Factors(None, layers=layers))
    with pytest.raises(ValueError, match=match):
        fit(model, Distillation(asked))
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def pooled():
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="small")(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))


def test_teacher_takes_nothing_else_for_factors():
    with pytest.raises(ValueError, match="must be a prune_keras.callbacks.Factors"):
        Teacher("start", factors=500.0)


def test_a_plan_tells_where_channels_were():
    model = network()
    graph = trace(model)
    transfer = Transfer(Factors(IMAGES), model, model, graph)
    left = []
    transfer.loss = lambda told, said, which, weights: left.append(which)
    transfer.told(Plan.everything(graph.widths)).loss(None, None, None)
    assert left[0].all() and len(left[0]) == 8
