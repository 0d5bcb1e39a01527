"""A student and its teacher in `fit`: what is compared, in which fits, and that nothing stays."""

import copy

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, SAMPLES, callback, compiled, conv_model, dense_model, fit

from prune_keras.callbacks import Distillation, Teacher
from prune_keras.surgery import shrink
from prune_keras.teaching.stages import stage_ends
from prune_keras.tracing import trace

ALL = {"logits": 0.5, "features": 0.3, "attention": 100.0}


def plain_convs():
    x = pixels = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(x)
    y = keras.layers.Conv2D(8, 3, padding="same", name="b")(x)
    x = keras.layers.ReLU(name="end1")(keras.layers.Add()([x, y]))
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="end2")(x)
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax", name="classes")(x))


def nested():
    inner_in = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="a")(inner_in)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="b")(x)
    base = keras.Model(inner_in, x, name="base")
    pixels = keras.Input((8, 8, 2))
    x = keras.layers.GlobalAveragePooling2D()(base(pixels))
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax", name="classes")(x))


def shared():
    pixels = keras.Input((8, 8, 2))
    one = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="one")(pixels)
    again = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="again")
    x = keras.layers.GlobalAveragePooling2D()(again(again(one)))
    return keras.Model(pixels, keras.layers.Dense(3, activation="softmax", name="classes")(x))


NETWORKS = {
    "plain": (plain_convs, ["a", "b", "end1", "end2", "flat"]),
    "nested": (nested, ["base/a", "base/b"]),
    "shared": (shared, ["one", "again"]),
}


def half_dead(model, rng):
    """Let about half of the units be zero for whatever is read, each family in the same places."""
    for family in trace(model).families:
        gone = rng.permutation(family.size)[: family.size // 2]
        for path in family.paths:
            producer = trace(model).producers[path]
            for weight in producer.layer.weights:
                value = np.array(weight)
                value[..., gone] = 0
                weight.assign(value)
    return model


def lasting_state(model):
    everything = [model, *model._flatten_layers(include_self=False)]
    return [
        {name for name in vars(each) if name in ("call", "compute_loss", "train_step")}
        for each in everything
    ]


def is_clean(model):
    return not any(lasting_state(model))


def resting(model):
    """Compile so that nothing moves; without graphs where these take longer to make than to run."""
    eagerly = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", run_eagerly=eagerly)
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_kept_channels_are_compared_with_themselves_through_all_rounds(name):
    """Where only dead units go and nothing is trained, a student stays what it was."""
    make, paths = NETWORKS[name]
    x = np.random.default_rng(2).normal(size=(12, 8, 8, 2)).astype("float32")
    losses = []
    for features in (0.0, 5.0):
        keras.utils.set_random_seed(1)
        model = resting(half_dead(make(), np.random.default_rng(3)))
        teacher = Teacher("start", logits=1e-6, features=features, layers=paths)
        pruning = callback(
            teacher=teacher,
            criterion="l2",
            target={"neurons": 0.55},
            fraction=0.2,
            min_units=4,
        )
        history = model.fit(x, LABELS[:12], epochs=4, callbacks=[pruning], verbose=0)
        losses.append(history.history["loss"])
        assert len(pruning.rounds) >= 3 and pruning.report.plan.removed
        assert is_clean(model)
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_other_channels_than_the_kept_ones_would_show():
    """What the test above relies on: with live units gone, the same fit costs more."""
    x = np.random.default_rng(2).normal(size=(12, 8, 8, 2)).astype("float32")
    model = resting(plain_convs())
    teacher = Teacher("start", logits=0.0, features=5.0, layers=["end2"])
    fitted = model.fit(
        x, LABELS[:12], epochs=2, verbose=0, callbacks=[callback(teacher=teacher, criterion="l2")]
    )
    alone = model.evaluate(x, LABELS[:12], verbose=0)
    assert fitted.history["loss"][1] > alone + 0.01


@pytest.mark.repeats(2)
@pytest.mark.parametrize("make", [dense_model, plain_convs, nested, shared])
def test_a_teacher_equal_to_its_student_changes_nothing(make):
    model = make()
    model.compile(
        keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", run_eagerly=make is nested
    )
    before = [np.array(weight) for weight in model.weights]
    maps = 100.0 if make is not dense_model else 0.0
    teacher = Teacher("start", logits=1.0, features=1.0, attention=maps)
    x = SAMPLES if make is dense_model else np.random.default_rng(0).normal(size=(24, 8, 8, 2))
    history = model.fit(x, LABELS, epochs=2, callbacks=[Distillation(teacher)], verbose=0)
    assert history.history["loss"] == pytest.approx([0, 0], abs=1e-5)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_allclose(old, new, atol=1e-5)


def test_a_share_of_the_loss_is_the_teachers():
    """One step of SGD by hand: cross-entropy with labels and with what the teacher says."""
    x, y = SAMPLES[:4], LABELS[:4]
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, use_bias=False)])
    teacher = keras.models.clone_model(model)
    teacher.set_weights([np.random.default_rng(5).normal(size=(6, 3))])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1.0), loss)
    before = np.array(model.weights[0])
    share, heat = 0.75, 2.0
    taught = Distillation(Teacher(teacher, logits=share, temperature=heat))
    model.fit(x, y, batch_size=4, callbacks=[taught], verbose=0)

    def softmax(z):
        return np.exp(z) / np.exp(z).sum(-1, keepdims=True)

    z, t = x @ before, x @ np.array(teacher.weights[0])
    hard = softmax(z) - np.eye(3)[y]
    soft = heat * (softmax(z / heat) - softmax(t / heat))
    slope = x.T @ ((1 - share) * hard + share * soft) / 4
    np.testing.assert_allclose(before - model.weights[0], slope, atol=1e-5)


def two_headed(policy="float32"):
    with Policy(policy):
        pixels = keras.Input((6, 6, 2))
        x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(pixels)
        x = keras.layers.GlobalAveragePooling2D()(x)
        kind = keras.layers.Dense(3, name="kind", activation="softmax", dtype="float32")(x)
        size = keras.layers.Dense(1, name="size", dtype="float32")(x)
        flags = keras.layers.Dense(2, name="flags", dtype="float32")(x)
        return keras.Model(pixels, {"kind": kind, "size": size, "flags": flags})


class Policy:
    def __init__(self, name):
        self.name = name

    def __enter__(self):
        self.before = keras.mixed_precision.dtype_policy()
        keras.mixed_precision.set_dtype_policy(self.name)

    def __exit__(self, *_):
        keras.mixed_precision.set_dtype_policy(self.before)


@pytest.mark.repeats(1)
@pytest.mark.parametrize(("policy", "steps"), [("float32", 1), ("mixed_float16", 3)])
def test_several_outputs_learn_each_by_its_own_kind(policy, steps):
    model = two_headed(policy)
    flags = keras.losses.BinaryCrossentropy(from_logits=True)
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse", "flags": flags}
    model.compile("adam", losses, steps_per_execution=steps)
    targets = {"kind": LABELS, "size": LABELS[:, None], "flags": np.eye(2)[LABELS % 2]}
    teacher = Teacher("start", **ALL)
    pruning = callback(teacher=teacher, monitor="loss")
    weights = {"kind": np.ones(24), "size": np.zeros(24), "flags": np.ones(24)}
    history = model.fit(
        IMAGES,
        targets,
        sample_weight=weights,
        batch_size=8,
        epochs=3,
        callbacks=[pruning],
        verbose=0,
    )
    assert np.isfinite(history.history["loss"]).all()
    assert model.get_layer("conv").filters == 4 and is_clean(model)


def test_what_is_learnt_is_weighted_as_samples_are():
    """Samples of weight zero teach nothing."""
    model = dense_model()
    other = dense_model()
    before = [np.array(weight) for weight in model.weights]
    taught = Distillation(Teacher(other, logits=1.0))
    model.fit(SAMPLES, LABELS, sample_weight=np.zeros(24), callbacks=[taught], verbose=0)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_regularizers_keep_their_weight():
    layer = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5), name="a")
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    penalty = float(keras.ops.convert_to_numpy(sum(model.losses)))
    taught = Distillation(Teacher("start", logits=1.0))
    history = model.fit(SAMPLES, np.zeros((24, 3)), callbacks=[taught], verbose=0)
    assert history.history["loss"][0] == pytest.approx(penalty, rel=1e-5)


def test_validation_knows_no_teacher():
    model = resting(dense_model())
    taught = Distillation(Teacher(dense_model(), logits=0.9))
    history = fit(model, taught, epochs=1)
    alone = model.evaluate(SAMPLES, LABELS, verbose=0, return_dict=True)["loss"]
    assert history.history["val_loss"][0] == pytest.approx(alone, rel=1e-5)
    assert history.history["loss"][0] != pytest.approx(alone, rel=1e-3)


class Failing(keras.callbacks.Callback):
    def __init__(self, hook):
        super().__init__()
        setattr(self, hook, self._fail)

    def _fail(self, *_, **__):
        raise KeyboardInterrupt


@pytest.mark.repeats(2)
@pytest.mark.parametrize(
    ("hook", "alone"),
    [("on_train_batch_end", True), ("on_epoch_end", False), ("on_train_end", True)],
)
def test_a_fit_that_fails_leaves_nothing(hook, alone, capsys):
    model = conv_model()
    teacher = Teacher("start", features=1.0)
    taught = Distillation(teacher) if alone else callback(teacher=teacher)
    with pytest.raises(KeyboardInterrupt):
        fit(model, Failing(hook), taught)
    assert is_clean(model)
    fit(model, epochs=1)


def test_what_is_saved_copied_or_called_within_a_fit_knows_nothing(tmp_path):
    held = []

    class Looking(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            held.append(shrink(self.model, trace_plan(self.model)))

    def trace_plan(model):
        from prune_keras import Plan

        return Plan.everything(trace(model).widths)

    model = conv_model()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    fit(model, Distillation(Teacher("start", features=1.0)), checkpoint, Looking(), epochs=1)
    read = keras.models.load_model(tmp_path / "model.keras")
    for each in (read, held[0], model):
        assert is_clean(each)
    np.testing.assert_allclose(read.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
    fit(held[0], epochs=1)


@pytest.mark.slow
def test_a_second_fit_goes_on_with_the_teacher_of_the_first():
    x = np.random.default_rng(2).normal(size=(12, 8, 8, 2)).astype("float32")
    model = resting(half_dead(plain_convs(), np.random.default_rng(3)))
    pruning = callback(
        teacher=Teacher("start", logits=1e-6, features=5.0),
        criterion="l2",
        min_units=4,
        target={"neurons": 0.55},
        fraction=0.2,
    )
    losses = []
    for _ in range(3):
        fitted = model.fit(x, LABELS[:12], epochs=2, callbacks=[pruning], verbose=0)
        losses += fitted.history["loss"]
    assert len(pruning.rounds) >= 3
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


def test_a_copy_of_a_callback_shares_its_teacher():
    teacher = Teacher(dense_model())
    pruning = callback(teacher=teacher)
    assert copy.deepcopy(pruning).teacher is teacher
    assert copy.deepcopy(Distillation(teacher)).teacher is teacher


def test_stages_end_where_maps_get_smaller():
    model = plain_convs()
    assert stage_ends(model, trace(model)) == ["end1", "end2"]
    model = nested()
    assert stage_ends(model, trace(model)) == ["base/a", "base/b"]
    model = dense_model()
    assert stage_ends(model, trace(model)) == ["hidden1"]


def test_another_model_teaches_by_attention_whatever_its_widths():
    wide = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(24, 3, activation="relu", name="wide"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    taught = Distillation(Teacher(wide, attention=3000.0, layers={"conv": "wide"}))
    history = fit(conv_model(), taught, epochs=1)
    assert np.isfinite(history.history["loss"]).all()
    with pytest.raises(ValueError, match="known to have kept"):
        fit(conv_model(), Distillation(Teacher(wide, features=1.0, layers={"conv": "wide"})))


def test_a_teacher_from_before_an_earlier_pruning():
    x = np.random.default_rng(2).normal(size=(12, 8, 8, 2)).astype("float32")
    whole = half_dead(plain_convs(), np.random.default_rng(3))
    model = resting(whole)
    first = callback(criterion="l2", min_units=4, fraction=0.2, target={"neurons": 0.55})
    teacher = keras.models.clone_model(whole)
    teacher.set_weights(whole.get_weights())
    model.fit(x, LABELS[:12], epochs=2, callbacks=[first], verbose=0)
    asked = Teacher(teacher, logits=0.0, features=5.0, plan=first.report.plan)
    fitted = model.fit(x, LABELS[:12], epochs=1, callbacks=[Distillation(asked)], verbose=0)
    alone = model.evaluate(x, LABELS[:12], verbose=0)
    assert fitted.history["loss"][0] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"model": "dense"}, "must be a keras.Model or 'start'"),
        ({"logits": 1.5}, "a share in"),
        ({"temperature": 0}, "above 0"),
        ({"features": -1}, "at least 0"),
        ({"logits": 0}, "learn something"),
        ({"outputs": "relu"}, "must be one of"),
    ],
)
def test_what_no_teacher_can_be_is_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        Teacher(**arguments)


@pytest.mark.parametrize(
    ("teacher", "match"),
    [
        (Teacher("start", features=1.0, layers=["nothing"]), "must be calls in the teacher's"),
        (Teacher("start", attention=1.0, layers=["hidden0"]), "compared on maps"),
        (lambda: Teacher(conv_model()), "inputs like"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_before_the_first_batch(teacher, match):
    teacher = teacher() if callable(teacher) else teacher
    model = dense_model()
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match=match):
        fit(model, Distillation(teacher))
    assert is_clean(model)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_model_is_not_its_own_teacher():
    model = dense_model()
    with pytest.raises(ValueError, match="own teacher"):
        fit(model, Distillation(model))


def test_a_fit_that_prunes_takes_its_teacher_itself():
    with pytest.raises(ValueError, match="ProgressivePruning\\(teacher"):
        fit(conv_model(), callback(), Distillation())


@pytest.mark.slow
def test_a_custom_training_step_learns_too():
    class Own(keras.Model):
        def train_step(self, *args):
            return super().train_step(*args)

    given = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(given)
    model = compiled(Own(given, keras.layers.Dense(3, activation="softmax")(hidden)))
    fit(model, callback(teacher=Teacher("start", features=1.0)))
    assert is_clean(model)
