"""Files that only a cut makes unreadable are refused before the first batch, or told of."""

import random

import keras
import numpy as np
import pytest
from fits import callback
from keras import layers

import prune_keras
from prune_keras.copies import rehearsed

X = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 3)).astype("float32")


class Wide(keras.Model):
    """Its constructor makes the layers, as wide as its config says."""

    def __init__(self, width=16, last=3, **others):
        inputs = keras.Input((6,))
        x = layers.Dense(width, name="a")(inputs)
        super().__init__(inputs, layers.Dense(last, name="b")(x), **others)
        self.width = width

    def get_config(self):
        return {"width": self.width, "name": self.name}


class Telling(Wide):
    """Its config tells the widths that are left."""

    def get_config(self):
        a, b = self.get_layer("a"), self.get_layer("b")
        return {"width": a.units, "last": b.units, "name": self.name}


class Plain(keras.Model):
    """Is made of inputs and outputs, which Keras writes down."""


class Unreadable(Wide):
    """Cannot be read back, cut or not."""

    @classmethod
    def from_config(cls, config):
        raise NotImplementedError


def nested(kind):
    inputs = keras.Input((6,))
    return keras.Model(inputs, layers.Dense(3)(kind()(inputs)))


def plain():
    inputs = keras.Input((6,))
    return Plain(inputs, layers.Dense(3)(layers.Dense(16, name="a")(inputs)))


READABLE = {
    "telling": Telling,
    "telling, nested": lambda: nested(Telling),
    "plain": plain,
    "plain, nested": lambda: nested(plain),
    "of Keras": lambda: keras.Sequential([keras.Input((6,)), layers.Dense(16), layers.Dense(3)]),
}
UNREADABLE = {"wide": Wide, "wide, nested": lambda: nested(Wide)}
CLASSES = {"Wide": Wide, "Telling": Telling, "Plain": Plain}


def compiled(model):
    model.compile("sgd", "mse")
    return model


def fit(model, *callbacks):
    return model.fit(X, Y, epochs=2, verbose=0, callbacks=list(callbacks))


@pytest.mark.parametrize("kind", READABLE)
def test_files_of_what_tells_its_widths_are_read_back(kind, tmp_path):
    model = compiled(READABLE[kind]())
    pruning = callback()
    fit(model, pruning, keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"))
    read = keras.models.load_model(tmp_path / "model.keras", CLASSES)
    found, wanted = (keras.ops.convert_to_numpy(each(X)) for each in (read, model))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert type(read) is type(model) and "cannot be read" not in str(pruning.report)


@pytest.mark.parametrize("kind", UNREADABLE)
def test_files_that_a_cut_would_make_unreadable_are_refused(kind, tmp_path):
    model = compiled(UNREADABLE[kind]())
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    for other in ({}, {"keep_rounds": tmp_path / "rounds"}):
        beside = [] if other else [keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")]
        with pytest.raises(
            ValueError, match="file of the thin model cannot .* get_config of Wide tell"
        ):
            fit(model, callback(**other), *beside)
    for old, now in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(now), old)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("kind", UNREADABLE)
def test_where_no_file_is_written_it_is_told(kind, tmp_path, capsys):
    model = compiled(UNREADABLE[kind]())
    pruning = callback(verbose=1)
    fit(model, pruning)
    assert "cannot be read" in capsys.readouterr().out
    assert any("cannot be read" in note for note in pruning.report.notes)
    _, report = prune_keras.prune(model, fraction=0.3)
    assert any("cannot be read" in note for note in report.notes)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("kind", UNREADABLE)
def test_the_way_out_is_export(kind, suffix, tmp_path):
    thin, _ = prune_keras.prune(UNREADABLE[kind](), fraction=0.5)
    read = keras.models.load_model(prune_keras.export(thin, tmp_path / f"thin{suffix}"))
    found, wanted = (keras.ops.convert_to_numpy(each(X)) for each in (read, thin))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_what_was_never_readable_is_told_and_not_refused(tmp_path):
    model, pruning = compiled(Unreadable()), callback()
    fit(model, pruning, keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"))
    assert any("cannot be read" in note for note in pruning.report.notes)


def test_looking_draws_no_random_numbers():
    """Random layers and initializers of a copy draw their seeds from Python's."""
    inputs = keras.Input((6,))
    x = layers.Dropout(0.5)(layers.Dense(16)(inputs))
    model = Plain(inputs, layers.Dense(3)(x))
    graph, before = prune_keras.trace(model), random.getstate()
    assert rehearsed(model, graph) == ()
    assert random.getstate() == before
