"""Teachers and students with a `call` of their own, and losses of the user's own."""

import keras
import numpy as np
import pytest

from prune_keras.callbacks import Distillation, ProgressivePruning, Teacher

RNG = np.random.default_rng(0)
IMAGES, LABELS = RNG.normal(size=(24, 8, 8, 3)).astype("float32"), np.arange(24) % 4
ROWS, CLASSES = RNG.normal(size=(32, 5)).astype("float32"), np.arange(32) % 4
LOSS = "sparse_categorical_crossentropy"


class Own(keras.Model):
    """What `functional` is, with a `call` of its own, and no config to make it again by."""

    def __init__(self):
        super().__init__()
        self.a = keras.layers.Conv2D(8, 3, activation="relu", name="a")
        self.b = keras.layers.Conv2D(8, 3, activation="relu", name="b")
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.classes = keras.layers.Dense(4, activation="softmax", name="classes")

    def call(self, x):
        return self.classes(self.pool(self.b(self.a(x))))


def own():
    model = Own()
    model(IMAGES[:1])
    return model


def functional():
    model = own()
    inputs = keras.Input((8, 8, 3))
    x = inputs
    for layer in (model.a, model.b, model.pool, model.classes):
        x = layer(x)
    return keras.Model(inputs, x)


MODELS = {"own": own, "functional": functional}


def fitted(model, callback, epochs=1):
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    return model.fit(
        *(IMAGES, LABELS), batch_size=24, epochs=epochs, callbacks=[callback], verbose=0
    ).history["loss"]


@pytest.mark.parametrize("terms", [{}, {"features": 1.0, "attention": 10.0}], ids=["", "maps"])
@pytest.mark.parametrize("teaching", MODELS)
@pytest.mark.parametrize("learning", MODELS)
def test_what_is_learnt_does_not_depend_on_how_models_are_written(learning, teaching, terms):
    teacher, student, plain = MODELS[teaching](), MODELS[learning](), functional()
    plain.set_weights(student.get_weights())
    reference = functional()
    reference.set_weights(teacher.get_weights())
    found = fitted(student, Distillation(Teacher(teacher, **terms)))
    expected = fitted(plain, Distillation(Teacher(reference, **terms)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("terms", [{}, {"features": 1.0, "attention": 10.0}], ids=["", "maps"])
def test_a_model_with_a_call_of_its_own_learns_from_what_it_was(terms):
    model = own()
    (found,) = fitted(model, Distillation(Teacher("start", **{"logits": 1.0} | terms)))
    assert found == pytest.approx(0, abs=1e-6)
    pruning = ProgressivePruning(
        target={"neurons": 0.5},
        criterion="l2",
        fraction=0.5,
        teacher=Teacher("start", **terms),
        verbose=0,
    )
    assert np.isfinite(fitted(model, pruning, epochs=2)).all()
    assert model.a.filters + model.b.filters == 8


def test_another_model_of_the_same_layers_is_no_teacher():
    model = functional()
    same = keras.Model(model.inputs, model.outputs)
    with pytest.raises(ValueError, match=r"own teacher.*Pass 'start'"):
        fitted(model, Distillation(same))


def dense(seed, units=4):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(units),
        ]
    )


class Subclass(keras.losses.SparseCategoricalCrossentropy):
    """A class of the user's own that says what it compares by what it is made from."""


class Bare(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def function(y_true, y_pred):
    return keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


def softened(z):
    e = np.exp((z - z.max(-1, keepdims=True)) / 4.0)
    return e / e.sum(-1, keepdims=True)


def taught(loss, from_logits):
    student, teacher = dense(1), dense(2)
    student.compile(keras.optimizers.SGD(0.0), loss)
    callback = Distillation(Teacher(teacher, logits=1.0, from_logits=from_logits))
    z, t = (each.predict(ROWS, verbose=0) for each in (student, teacher))
    (found,) = student.fit(ROWS, CLASSES, batch_size=32, callbacks=[callback], verbose=0).history[
        "loss"
    ]
    return found, z, t


@pytest.mark.parametrize(
    "loss", [Subclass(from_logits=True), Bare(), function], ids=["subclass", "class", "function"]
)
def test_logits_that_are_told_are_softened_whoever_wrote_the_loss(loss):
    found, z, t = taught(loss, True)
    apart = softened(t) * (np.log(softened(t)) - np.log(softened(z)))
    assert found == pytest.approx(16 * apart.sum(-1).mean(), rel=1e-4)


@pytest.mark.parametrize("loss", [Bare(), function], ids=["class", "function"])
def test_numbers_of_which_nothing_is_told_are_compared_as_such(loss):
    found, z, t = taught(loss, None)
    assert found == pytest.approx(np.mean((z - t) ** 2), rel=1e-4)


def test_a_class_made_from_one_of_keras_tells_by_itself():
    found, z, t = taught(Subclass(from_logits=True), None)
    assert found == pytest.approx(taught(Subclass(from_logits=True), True)[0], rel=1e-6)


def test_one_logit_that_is_told_is_of_a_class_that_holds_or_not():
    student, teacher = dense(1, 1), dense(2, 1)

    def loss(y_true, y_pred):
        return keras.losses.binary_crossentropy(y_true, y_pred, from_logits=True)

    student.compile(keras.optimizers.SGD(0.0), loss)
    callback = Distillation(Teacher(teacher, logits=1.0, from_logits=True, temperature=1.0))
    z, t = (each.predict(ROWS, verbose=0) for each in (student, teacher))
    y = (CLASSES[:, None] > 1).astype("float32")
    (found,) = student.fit(ROWS, y, batch_size=32, callbacks=[callback], verbose=0).history["loss"]
    p, q = (1 / (1 + np.exp(-each)) for each in (t, z))
    apart = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert found == pytest.approx(apart.mean(), rel=1e-3)


def test_a_loss_that_is_summed_over_a_batch_weighs_as_what_a_teacher_says():
    """Half of both, as with a mean, times the number of samples."""
    found = []
    for reduction in ("sum", "sum_over_batch_size"):
        student = dense(1)
        loss = keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)
        student.compile(keras.optimizers.SGD(0.0), loss)
        fit = {"batch_size": 32, "callbacks": [Distillation(dense(2))], "verbose": 0}
        found += student.fit(ROWS, CLASSES, **fit).history["loss"]
    assert found[0] == pytest.approx(32 * found[1], rel=1e-4)
