"""TargetedDropout: what a step sees, what it learns from that, and what is left of it."""

import contextlib
import dataclasses

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    assert_same,
    callback,
    compiled,
    conv_model,
    dense_model,
    fit,
)

import prune_keras
from prune_keras import _backend
from prune_keras.callbacks import TargetedDropout

GRANULARITIES = ("unit", "weight")


def seen_model(inputs=5, units=8):
    """A model that gives the kernel of its layer `a`, as `b` reads it, for the unit matrix."""
    a = keras.layers.Dense(units, use_bias=False, name="a")
    b = keras.layers.Dense(units, use_bias=False, name="b", kernel_initializer="identity")
    model = keras.Sequential([keras.Input((inputs,)), a, b])
    values = np.random.default_rng(0).permutation(inputs * units) + 1.0
    a.kernel.assign(values.reshape(inputs, units))
    return model


@contextlib.contextmanager
def training(model, epoch=0, **arguments):
    dropout = TargetedDropout(**{"target_fraction": 0.5, "drop_rate": 0.5, "seed": 3} | arguments)
    dropout.set_model(model)
    dropout.on_train_begin()
    dropout.on_epoch_begin(epoch)
    yield dropout
    dropout.on_train_end()


def seen(model, inputs=5):
    return keras.ops.convert_to_numpy(model(np.eye(inputs, dtype="float32"), training=True))


def candidates(model, granularity, share):
    """Which entries of `a`'s kernel a step may see as zeros, by a reference in NumPy."""
    kernel = keras.ops.convert_to_numpy(model.get_layer("a").kernel)
    lowest = np.zeros(kernel.shape, bool)
    if granularity == "unit":
        norms = np.linalg.norm(kernel, axis=0)
        lowest[:, np.argsort(norms)[: int(share * len(norms))]] = True
        return lowest
    order = np.argsort(np.abs(kernel), axis=0)[: int(share * len(kernel))]
    np.put_along_axis(lowest, order, True, axis=0)
    return lowest


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_candidates_are_dropped_at_the_rate_and_one_by_one(granularity):
    model, rate, draws = seen_model(units=24), 0.3, 60
    may, kernel = (
        candidates(model, granularity, 0.5),
        keras.ops.convert_to_numpy(model.get_layer("a").kernel),
    )
    with training(model, drop_rate=rate, granularity=granularity):
        drawn = np.stack([seen(model) for _ in range(draws)])
    dropped = drawn == 0
    np.testing.assert_array_equal(drawn[~dropped], np.broadcast_to(kernel, drawn.shape)[~dropped])
    assert not dropped[:, ~may].any()
    units = dropped[:, 0, may[0]] if granularity == "unit" else dropped[:, may]
    sigma = np.sqrt(rate * (1 - rate) / draws)
    assert np.abs(units.mean(0) - rate).max() < 4 * sigma
    # the mean over all entries is 1 - share * rate: nothing is rescaled
    assert (drawn / kernel).mean() == pytest.approx(1 - may.mean() * rate, abs=4 * sigma)
    # candidates are drawn apart from each other: counts vary as those of a binomial do
    count = units.shape[1]
    assert units.sum(1).var() == pytest.approx(count * rate * (1 - rate), rel=0.6)
    if granularity == "unit":
        assert (dropped.all(1) == dropped.any(1)).all()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_share_is_rounded_down_and_grows_with_the_ramp(granularity):
    model = seen_model()
    for epoch, risen in ((0, 0), (1, 0.25), (2, 0.5), (3, 0.75), (4, 1), (9, 1)):
        arguments = {"target_fraction": 0.9, "drop_rate": 1.0, "ramp_epochs": 4}
        with training(model, epoch, granularity=granularity, **arguments) as dropout:
            assert (dropout.share, dropout.rate) == (0.9 * risen, risen)
            dropout._dropping.ramp(dropout.share, 1.0)
            dropped = seen(model) == 0
        np.testing.assert_array_equal(dropped, candidates(model, granularity, 0.9 * risen))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_is_dropped_learns_nothing_in_that_step(granularity):
    model = seen_model()
    a, b = (model.get_layer(name).kernel for name in "ab")
    x = np.random.default_rng(1).normal(size=(4, 5)).astype("float32")

    def loss():
        return keras.ops.sum(model(x, training=True) ** 2)

    with training(model, drop_rate=1.0, granularity=granularity):
        of_a, of_b = _backend.variable_gradients(loss, [a, b], model.variables)
    zeros = candidates(model, granularity, 0.5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(of_a) == 0, zeros)
    kernel = np.where(zeros, 0, np.array(a))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(of_a), ~zeros * (2 * x.T @ x @ kernel), rtol=1e-4
    )
    if granularity == "unit":
        np.testing.assert_array_equal((keras.ops.convert_to_numpy(of_b) == 0).all(1), zeros[0])


def test_candidates_are_chosen_anew_every_few_steps():
    model = seen_model()
    kernel = model.get_layer("a").kernel
    with training(model, drop_rate=1.0, granularity="weight", refresh_steps=3):
        np.testing.assert_array_equal(seen(model) == 0, candidates(model, "weight", 0.5))
        limits = np.where(candidates(model, "weight", 0.5), kernel, 0).max(axis=0)
        kernel.assign(41 - np.array(kernel))  # small ones are large now
        for _ in range(2):
            np.testing.assert_array_equal(seen(model) == 0, np.array(kernel) <= limits)
        np.testing.assert_array_equal(seen(model) == 0, candidates(model, "weight", 0.5))


def test_inference_and_variables_are_as_they_were():
    model = seen_model()
    kernel = keras.ops.convert_to_numpy(model.get_layer("a").kernel)
    with training(model, drop_rate=1.0):
        assert (seen(model) == 0).any()
        plain = keras.ops.convert_to_numpy(model(np.eye(5), training=False))
        np.testing.assert_array_equal(plain, kernel)
        np.testing.assert_array_equal(model.predict(np.eye(5), verbose=0), kernel)
        np.testing.assert_array_equal(model.get_layer("a").kernel, kernel)
    np.testing.assert_array_equal(seen(model), kernel)


def residual_model():
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 3, padding="same", name="first")(pixels)
    stream = keras.layers.Conv2D(6, 1, name="down")(x)
    for number in (1, 2):
        y = keras.layers.Conv2D(5, 3, padding="same", name=f"in{number}")(stream)
        y = keras.layers.Conv2D(6, 3, padding="same", name=f"out{number}")(y)
        stream = keras.layers.Add()([stream, y])
    x = keras.layers.GlobalAveragePooling2D()(stream)
    return compiled(keras.Model(pixels, keras.layers.Dense(3, name="classes")(x)), "sgd")


def test_neurons_that_are_coupled_are_dropped_together():
    model = residual_model()
    names = ("first", "down", "in1", "out1", "in2", "out2", "classes")
    kernels = {name: model.get_layer(name).kernel for name in names}
    norms = {
        n: np.linalg.norm(np.array(k).reshape(-1, k.shape[-1]), axis=0) for n, k in kernels.items()
    }
    together = np.mean([norms[name] for name in ("down", "out1", "out2")], axis=0)

    with training(model, drop_rate=1.0) as dropout:
        shown = {
            v.path: keras.ops.convert_to_numpy(value)
            for v, value in dropout._dropping.view.values()
        }
    gone = {
        name: (shown[kernels[name].path] == 0).all(axis=(0, 1, 3) if name != "classes" else 1)
        for name in ("in1", "in2", "classes", "out1")
    }
    lowest = np.isin(np.arange(6), np.argsort(together)[:3])
    for reader in ("in1", "in2", "classes"):
        np.testing.assert_array_equal(gone[reader], lowest)
    np.testing.assert_array_equal(gone["out1"], np.isin(np.arange(5), np.argsort(norms["in1"])[:2]))
    assert kernels["down"].path not in shown  # it alone reads the first convolution
    assert kernels["first"].path not in shown


def test_a_step_sees_the_model_that_a_cut_of_the_candidates_leaves():
    model = residual_model()
    kept = {}
    for members in (["in1"], ["in2"], ["down", "out1", "out2"]):
        kernels = [np.array(model.get_layer(name).kernel) for name in members]
        norms = [np.linalg.norm(k.reshape(-1, k.shape[-1]), axis=0) for k in kernels]
        order = np.argsort(np.mean(norms, axis=0))
        kept |= dict.fromkeys(members, np.sort(order[len(order) // 2 :]))
    for layer in model.layers:
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(np.linspace(0.5, 1, layer.bias.shape[0]))
    plan = prune_keras.Plan.everything(prune_keras.trace(model).widths)
    thin = prune_keras.shrink(model, dataclasses.replace(plan, kept={**plan.kept, **kept}))
    with training(model, drop_rate=1.0):
        drawn = keras.ops.convert_to_numpy(model(IMAGES, training=True))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(thin(IMAGES)), drawn, atol=1e-5)


def test_by_weight_the_first_convolution_and_outputs_stay():
    model = residual_model()
    with training(model, granularity="weight") as dropout:
        shown = {v.path.split("/")[-2] for v, _ in dropout._dropping.view.values()}
    assert shown == {"down", "in1", "in2", "out1", "out2"}
    with training(model, granularity="weight", layers=["first", "c*"]) as dropout:
        shown = {v.path.split("/")[-2] for v, _ in dropout._dropping.view.values()}
    assert shown == {"first", "classes"}


class Saved(keras.callbacks.Callback):
    """Writes the model within fit, and copies it."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        self.model.save(self.path)
        self.thin, _ = prune_keras.prune(self.model, fraction=0.25)


@pytest.mark.repeats(1)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_nothing_of_it_stays_with_the_model_or_its_files(granularity, tmp_path):
    model = dense_model((8, 6), "sgd")
    variables = [*model.variables]
    model.predict(SAMPLES, verbose=0)
    attributes = set(vars(model)) | {"history", "_eval_epoch_iterator", "stop_evaluating"}
    saved = Saved(tmp_path / "within.keras")
    fit(model, TargetedDropout(0.5, 0.5, granularity), saved, epochs=1)
    assert set(vars(model)) <= attributes
    assert not {"call", "compute_loss"} & set(vars(saved.thin))
    assert [*map(id, model.variables)] == [*map(id, variables)]
    model.save(tmp_path / "after.keras")
    for path in (saved.path, tmp_path / "after.keras"):
        read = keras.models.load_model(path)
        assert_same(dict(enumerate(read.get_weights())), dict(enumerate(model.get_weights())))


class Failing(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        raise self.error


@pytest.mark.repeats(1)
@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), SystemExit()])
def test_a_fit_that_ends_early_leaves_a_clean_model(error):
    model = seen_model(6, 3)
    compiled(model, "sgd")
    with pytest.raises(type(error)):
        fit(model, TargetedDropout(0.5, 1.0), Failing(error), epochs=1)
    assert "call" not in vars(model) and not model._seed_generators
    plain = keras.ops.convert_to_numpy(model(np.eye(6), training=False))
    np.testing.assert_array_equal(seen(model, 6), plain)


@pytest.mark.repeats(2)
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("given", ["arrays", "dataset"])
@pytest.mark.parametrize(
    "options",
    [{}, {"steps_per_execution": 2}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=lambda options: next(iter(options), "plain"),
)
def test_a_step_is_that_of_the_thinner_network_in_every_way_to_train(options, given, policy):
    """With a rate of 1 a step of SGD is exactly that of the network without the candidates."""
    if "steps_per_execution" in options and keras.backend.backend() == "torch":
        pytest.skip("Keras takes one step at a time there")
    keras.config.set_dtype_policy(policy)
    try:
        model, thin = seen_model(6, 3), seen_model(6, 3)
    finally:
        keras.config.set_dtype_policy("float32")
    for each in (model, thin):
        each.get_layer("a").kernel.assign(np.array(each.get_layer("a").kernel) / 64)
        each.compile(keras.optimizers.SGD(0.125), "mse", **options)
    zeros = candidates(model, "weight", 0.5)
    before = keras.ops.convert_to_numpy(model.get_layer("a").kernel)
    thin.get_layer("a").kernel.assign(np.where(zeros, 0, before))
    targets = np.eye(3, dtype="float32")[LABELS]
    data = {"x": SAMPLES, "y": targets, "batch_size": 24, "verbose": 0}
    if given == "dataset":
        tf = pytest.importorskip("tensorflow")
        batches = tf.data.Dataset.from_tensor_slices((SAMPLES, targets)).batch(24)
        data = {"x": batches, "shuffle": False, "verbose": 0}
    model.fit(callbacks=[TargetedDropout(0.5, 1.0, "weight")], **data)
    thin.fit(**data)
    after, other = (np.array(each.get_layer("a").kernel) for each in (model, thin))
    np.testing.assert_array_equal(after[zeros], before[zeros])
    np.testing.assert_allclose(after[~zeros], other[~zeros], rtol=1e-6)
    assert (after[~zeros] != before[~zeros]).any()


class Widths(keras.callbacks.Callback):
    """Notes what is shown within a fit, beside what there is."""

    def __init__(self, dropout):
        super().__init__()
        self.dropout, self.noted = dropout, []

    def on_train_batch_end(self, batch, logs=None):
        shown = {v.path: tuple(v.shape) for v, _ in self.dropout._dropping.view.values()}
        there = {v.path: tuple(v.shape) for v in self.model.variables}
        assert shown and shown.items() <= there.items()
        self.noted.append(shown)


@pytest.mark.repeats(1)
@pytest.mark.parametrize("made", [dense_model, conv_model])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_masks_follow_a_cut_and_one_that_is_undone(granularity, made):
    model = made(optimizer="sgd")
    dropout = TargetedDropout(0.5, 0.5, granularity)
    widths = Widths(dropout)
    pruning = callback(max_drop=0.0, baseline=2.0, min_fraction=0.2, target=None)
    fit(model, dropout, widths, pruning, epochs=2)  # nothing is as good as 2: all is undone
    fit(model, dropout, widths, callback(), epochs=2)
    assert "call" not in vars(model) and not getattr(model, "_seed_generators", None)
    assert len({tuple(each.items()) for each in widths.noted}) > 1


def test_batch_normalization_and_losses_of_layers_go_on():
    regularized = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(8, name="a", activity_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Dense(3, name="b", kernel_regularizer="l2"),
        ]
    )
    x = np.ones((4, 6), "float32")
    regularized(x, training=True)
    plain = [float(keras.ops.convert_to_numpy(v)) for v in regularized.losses]
    mean = np.array(regularized.get_layer("norm").moving_mean)
    with training(regularized):
        regularized(x, training=True)
        now = [float(keras.ops.convert_to_numpy(v)) for v in regularized.losses]
        assert now == pytest.approx(plain)
        assert (np.array(regularized.get_layer("norm").moving_mean) != mean).any()


def test_of_two_halves_that_each_solve_the_task_the_one_left_to_chance_is_let_go():
    """Two units say the same; the smaller one is dropped at times, so that it is not relied on."""
    halves = keras.layers.Dense(2, use_bias=False, trainable=False, name="a")
    reader = keras.layers.Dense(1, use_bias=False, name="b")
    model = keras.Sequential([keras.Input((1,)), halves, reader])
    halves.kernel.assign([[1.0, 0.9]])
    x = np.random.default_rng(0).choice([-1.0, 1.0], (1600, 1)).astype("float32")
    model.compile(keras.optimizers.SGD(0.1), "mse")
    for callbacks, expected in (([], [0.5, 0.5]), ([TargetedDropout(0.5, 0.5)], [1.0, 0.0])):
        reader.kernel.assign([[0.5], [0.5 / 0.9]])  # each half of the answer
        model.fit(x, x, batch_size=16, callbacks=callbacks, verbose=0)
        given = np.array(reader.kernel)[:, 0] * [1.0, 0.9]
        np.testing.assert_allclose(given, expected, atol=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_fraction": 0}, "`target_fraction` must be a share"),
        ({"drop_rate": 1.5}, "`drop_rate` must be a share"),
        ({"granularity": "units"}, "`granularity` must be one of"),
        ({"ramp_epochs": -1}, "`ramp_epochs` must be a whole number"),
        ({"refresh_steps": 0}, "`refresh_steps` must be a whole number"),
        ({"layers": "a"}, "`layers` must be a list"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TargetedDropout(**{"target_fraction": 0.5, "drop_rate": 0.5} | arguments)


@pytest.mark.parametrize(
    ("granularity", "layers", "message"),
    [
        ("unit", ["nowhere"], "must name a layer with units"),
        ("unit", ["b"], "There must be neurons that can be pruned"),
        ("weight", ["a*", "x*"], "must name a layer with units"),
    ],
)
def test_layers_that_are_not_there_are_refused(granularity, layers, message):
    model = seen_model()
    with (
        pytest.raises(ValueError, match=message),
        training(model, granularity=granularity, layers=layers),
    ):
        pass
    assert "call" not in vars(model)
