"""A teacher of which nothing is said but that it is the start: what is learnt from it."""

import keras
import numpy as np
import pytest
from fits import LABELS, SAMPLES, callback, dense_model
from keras import layers, ops

from prune_keras.callbacks import Distillation, Teacher
from prune_keras.plan import Plan
from prune_keras.recipe import _teacher_behind
from prune_keras.teaching.described import taught_by
from prune_keras.teaching.settling import ATTENTION, settled
from prune_keras.tracing import trace

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(24, 8, 8, 2)).astype("float32")


@keras.saving.register_keras_serializable("terms_left_open")
class Flipping(layers.Layer):
    """Moves images as only its writer knows."""

    def call(self, x):
        return ops.flip(x, 2)


class Twice(keras.Model):
    """A step that runs the model once more than its graph says."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        again = self(x, training=training)
        return super().compute_loss(x, y, (y_pred + again) / 2, sample_weight, training)


class Called(keras.Model):
    """A `call` of its own."""

    def __init__(self):
        super().__init__()
        self.inner = convs()

    def call(self, x):
        return self.inner(x)


def ended(x, rank=2):
    pool = {1: layers.GlobalAveragePooling1D, 2: layers.GlobalAveragePooling2D}[rank]
    return layers.Dense(3, activation="softmax")(pool()(x))


def convs(before=(), kind=keras.Model):
    x = pixels = keras.Input((8, 8, 2))
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(8, 3, activation="relu", name="a")(x)
    x = layers.Conv2D(8, 3, activation="relu", name="b")(x)
    return kind(pixels, ended(x))


def nested():
    pixels = keras.Input((8, 8, 2))
    given = keras.Input((8, 8, 2))
    maps = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(given)
    return keras.Model(pixels, ended(keras.Model(given, maps, name="base")(pixels)))


def shared():
    pixels = keras.Input((8, 8, 2))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="one")(pixels)
    again = layers.Conv2D(8, 3, padding="same", activation="relu", name="again")
    return keras.Model(pixels, ended(again(again(x))))


def sequential():
    end = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    return keras.Sequential([keras.Input((8, 8, 2)), layers.Conv2D(8, 3), *end])


def rows():
    """A network of signals, of which an image has many."""
    x = given = keras.Input((8, 8, 2))
    x = layers.Conv1D(8, 3, activation="relu")(layers.Reshape((8, 16))(x))
    return keras.Model(given, ended(x, rank=1))


def flat():
    """Of images without maps."""
    hidden = layers.Dense(8, activation="relu")
    end = layers.Dense(3, activation="softmax")
    return keras.Sequential([keras.Input((8, 8, 2)), layers.Flatten(), hidden, end])


WITH_MAPS = {"convs": convs, "nested": nested, "shared": shared, "sequential": sequential}
WITHOUT = {
    "rows": rows,
    "flat": flat,
    "moved by Keras": lambda: convs([layers.Pipeline([layers.RandomFlip()])]),
    "moved by its user": lambda: convs([Flipping()]),
    "a function": lambda: convs([layers.Lambda(lambda x: x)]),
    "a loss of its own": lambda: convs(kind=Twice),
    "a call of its own": Called,
}


def compiled(model):
    model.build((None, 8, 8, 2))
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    return model


def weight_of(student, **terms):
    asked = Teacher(**{"model": "start"} | terms)
    return settled(asked, student, trace(student)).attention


@pytest.mark.parametrize("name", WITH_MAPS)
def test_maps_of_images_are_compared(name):
    assert weight_of(WITH_MAPS[name]()) == ATTENTION == 3000


@pytest.mark.parametrize("name", WITHOUT)
def test_a_network_without_such_maps_learns_by_outputs(name):
    model = compiled(WITHOUT[name]())
    assert weight_of(model) == 0
    fitted = model.fit(IMAGES, LABELS, verbose=0, callbacks=[Distillation()])
    assert np.isfinite(fitted.history["loss"]).all()


ASKED = {
    "told": {"attention": 0.0},
    "features": {"features": 1.0},
    "layers": {"layers": ["a"]},
    "stored": {"store": True},
}


@pytest.mark.parametrize("terms", ASKED)
def test_what_is_asked_for_is_left_alone(terms):
    assert weight_of(convs(), **ASKED[terms]) == 0


def test_another_model_may_have_other_maps_under_the_same_names():
    teacher, student = convs(), convs()
    assert weight_of(student, model=teacher) == 0
    assert weight_of(student, model=teacher, attention=5.0) == 5


def losses(make, rounds, **terms):
    keras.utils.set_random_seed(1)
    model, teacher = compiled(make()), Teacher("start", **terms)
    learning = callback(teacher=teacher, criterion="l2") if rounds else Distillation(teacher)
    fitted = model.fit(IMAGES, LABELS, epochs=3, verbose=0, callbacks=[learning], shuffle=False)
    return fitted.history["loss"]


@pytest.mark.parametrize("rounds", [True, False], ids=["rounds", "alone"])
def test_a_fit_learns_what_was_settled(rounds):
    found = losses(convs, rounds)
    assert found == pytest.approx(losses(convs, rounds, attention=ATTENTION), rel=1e-5)
    assert found[-1] > losses(convs, rounds, attention=0.0)[-1] + 1e-4


def test_each_model_that_a_callback_meets_is_looked_at():
    distillation = Distillation()
    compiled(convs()).fit(IMAGES, LABELS, verbose=0, callbacks=[distillation])
    dense_model().fit(SAMPLES, LABELS, verbose=0, callbacks=[distillation])
    assert distillation._lessons.teacher.attention == 0
    compiled(convs()).fit(IMAGES, LABELS, verbose=0, callbacks=[distillation])
    assert distillation._lessons.teacher.attention == ATTENTION


def test_a_thin_model_goes_on_with_what_it_was_taught():
    model = convs()
    behind = _teacher_behind("start", model, Plan.everything(trace(model).widths))
    assert behind.model is model and behind.attention == ATTENTION


def test_another_choice_is_told_from_an_earlier_run():
    told = [taught_by(Teacher("start", **terms)) for terms in ({}, {"attention": 0.0})]
    assert told[0] != told[1] and taught_by("start") == told[0]


@pytest.mark.parametrize("attention", [-1.0, float("nan"), "much", True])
def test_a_weight_is_a_number(attention):
    with pytest.raises(ValueError, match="`attention` must be a number"):
        Teacher("start", attention=attention)


def test_nothing_is_not_learnt():
    with pytest.raises(ValueError, match="must learn something.*attention=None"):
        Teacher("start", logits=0.0)
