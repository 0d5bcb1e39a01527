"""A fit with a teacher whose process dies goes on from its backup, and ends as it would have."""

import functools
import json

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS
from resumed import killed, outcome, run, small_model

from prune_keras.backups import Store
from prune_keras.callbacks import Backup, Factors, Teacher
from prune_keras.teaching.described import taught_by


def convolutions():
    pixels = keras.Input((6, 6, 2), name="pixels")
    x = keras.layers.Conv2D(6, 3, activation="relu", name="first")(pixels)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="last")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(keras.layers.GlobalAveragePooling2D(name="p")(x))
    x = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    model = keras.Model(pixels, x, name="small")
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
    return model


def images():
    return {"x": IMAGES, "y": LABELS, "batch_size": 5, "validation_data": (IMAGES, LABELS)}


def another(seed=1):
    keras.utils.set_random_seed(seed)
    model = small_model()
    keras.utils.set_random_seed(3)
    return model


def start():
    return {"teacher": Teacher("start", features=1.0)}


def given():
    return {"teacher": Teacher(another(), logits=0.7)}


def factors():
    teacher = Teacher("start", factors=Factors(IMAGES, epochs=1))
    return {"teacher": teacher, "build": convolutions, "data": images}


def stored():
    return {"teacher": Teacher("start", features=1.0, store=True)}


@functools.cache
def undisturbed(way, folder):
    return outcome(*run(folder, **way()))


@pytest.mark.slow
@pytest.mark.parametrize("moment", [("batch", 8), ("end", 1), ("epoch", 3)], ids=str)
@pytest.mark.parametrize("way", [start, factors, given, stored])
def test_it_ends_as_it_would_have(way, moment, tmp_path, tmp_path_factory):
    whole = undisturbed(way, tmp_path_factory.getbasetemp() / f"taught {way.__name__}")
    backup = Backup(tmp_path, every=2)
    killed(backup, moment, **way())
    written = [*tmp_path.glob("start-*")]
    assert len(written) == (way is not given)
    np.testing.assert_equal(outcome(*run(backup, **way())), whole)
    assert [*tmp_path.glob("start-*")] == written  # once


def test_a_run_that_goes_on_learns_from_what_it_began_with(tmp_path):
    """The script may hold other weights by then, such as those of its last checkpoint."""
    killed(tmp_path, ("end", 1), **start())
    whole = outcome(*run(tmp_path.with_name("whole"), **start()))

    def shuffled():
        model = small_model()
        model.set_weights([np.flip(weight) for weight in model.get_weights()])
        return model

    resumed = outcome(*run(tmp_path, build=shuffled, **start()))
    np.testing.assert_equal(resumed, whole)


OTHERS = {
    "weights": lambda: Teacher(another(2), logits=0.7),
    "share": lambda: Teacher(another(), logits=0.6),
    "start": lambda: "start",
    "none": lambda: None,
    "factors": lambda: Teacher(another(), logits=0.7, factors=Factors(IMAGES)),
    "samples": lambda: Teacher(another(), logits=0.7, factors=Factors(IMAGES[:9])),
    "stored": lambda: Teacher(another(), logits=0.7, store=True),
}


def test_a_teacher_is_told_from_another_one():
    told = {name: taught_by(make()) for name, make in OTHERS.items()}
    again = {name: taught_by(make()) for name, make in OTHERS.items()}
    assert told == again and json.loads(json.dumps(told)) == told
    assert len({json.dumps(each) for each in told.values()}) == len(told)
    assert taught_by(another()) == taught_by(Teacher(another()))


@pytest.mark.slow
@pytest.mark.parametrize("other", ["weights", "share", "none"])
def test_a_run_with_another_teacher_is_refused(other, tmp_path):
    killed(tmp_path, ("end", 1), **given())
    with pytest.raises(ValueError, match="the same call.*teacher"):
        run(tmp_path, teacher=OTHERS[other]())


@pytest.mark.parametrize("harm", ["cut", "other", "gone"])
def test_what_is_damaged_is_refused(harm, tmp_path):
    store = Store(tmp_path, 1)
    values = {"fixed/0": np.arange(12.0).reshape(3, 4), "fixed/1": np.array(7)}
    name = store.write_start(values)
    np.testing.assert_equal(store.start(name), values)
    file = tmp_path / name
    content = file.read_bytes()
    file.unlink()
    if harm != "gone":
        file.write_bytes(content[:-9] if harm == "cut" else bytes([*content[:-1], 1]))
    with pytest.raises(ValueError, match="must be whole to go on.*Delete the folder"):
        store.start(name)


def test_what_no_backup_came_to_is_written_anew(tmp_path):
    first, other = Store(tmp_path, 1), Store(tmp_path, 12)
    kept = other.write_start({"fixed/0": np.zeros(3)})
    for value in (1.0, 2.0):
        name = first.write_start({"fixed/0": np.full(3, value)})
        assert {each.name for each in tmp_path.iterdir()} == {name, kept}
