"""Files of other runtimes give the outputs of the model, or are refused, and older ones stay."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import deploying
from prune_keras.deploying import deployed, runtimes


def branches(as_dicts=False):
    """Two inputs and two outputs, whose names are not in the order of the alphabet."""
    images, numbers = keras.Input((8, 8, 3), name="zeta"), keras.Input((5,), name="alpha")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(images)
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    y = layers.Dense(4, name="hidden")(numbers)
    second, first = layers.Dense(2)(layers.Add()([x, y])), layers.Dense(2)(y)
    if as_dicts:
        return keras.Model({"zeta": images, "alpha": numbers}, {"q": second, "p": first})
    return keras.Model([images, numbers], [second, first])


def own():
    class Own(keras.Model):
        def __init__(self):
            super().__init__(name="own")
            self.hidden, self.last = layers.Dense(8, activation="relu"), layers.Dense(3)

        def call(self, x):
            return self.last(self.hidden(x))

    model = Own()
    model(np.ones((1, 4), "float32"))
    return model


def words():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(10, 4, name="table")(inputs))
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(5, name="hidden")(x)))


MODELS = {
    "branches": branches,
    "dicts": lambda: branches(as_dicts=True),
    "own": own,
    "words": words,
}
ENDS = {"tf_saved_model": "model", "onnx": "m.onnx", "litert": "m.tflite", "openvino": "m.xml"}
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the other backends write other formats"
)


def skip_without(form):
    missing = deploying.FORMATS[form].missing
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install -e '.[deploy]'")


@pytest.mark.parametrize("form", ENDS)
@pytest.mark.parametrize("name", MODELS)
def test_a_thin_model_gives_its_outputs_in_each_runtime(tmp_path, name, form):
    skip_without(form)
    keras.utils.set_random_seed(0)
    thin, _ = prune_keras.prune(MODELS[name](), fraction=0.4)
    path = prune_keras.export(thin, tmp_path / ENDS[form], format=form)
    assert path.exists() and [*tmp_path.glob("*")] == [*tmp_path.glob(f"{path.stem}*")]


@pytest.mark.parametrize("form", ENDS)
def test_outputs_that_differ_are_refused_and_what_was_there_stays(tmp_path, form, monkeypatch):
    skip_without(form)
    path = tmp_path / ENDS[form]
    prune_keras.export(words(), path, format=form)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    write, other = deployed._write, words()
    other(np.ones((2, 6), "int32"))
    monkeypatch.setattr(deployed, "_write", lambda model, *where: write(other, *where))
    with pytest.raises(ValueError, match="outputs of .* that differ by"):
        prune_keras.export(words(), path, format=form)
    assert before == {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}


@pytest.mark.parametrize("name", ["model", "thin_0.5", "old"])
def test_a_folder_takes_the_place_of_an_older_one(name, tmp_path):
    (tmp_path / name).write_text("a file of this name")
    for model in (words(), own()):
        prune_keras.export(model, tmp_path / name, format="tf_saved_model")
    found = runtimes.saved_model(tmp_path / name)(np.ones((2, 4), "float32"))
    assert found[0].shape == (2, 3) and [each.name for each in tmp_path.iterdir()] == [name]


def test_missing_packages_are_named_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="without .*onnxruntime.*pip install"):
        prune_keras.export(words(), tmp_path / "new" / "model.onnx")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("path", "form", "message"),
    [
        ("model", None, "must end as its format does"),
        ("model.pb", None, "must end as its format does"),
        ("model.onnx", "litert", "must end as its format does.*format='litert'"),
        ("model.keras", "onnx", "must end as its format does"),
        ("model.onnx", "pickle", "`format` must be one of .*'openvino'"),
    ],
)
def test_formats_and_paths_that_do_not_fit_are_refused(tmp_path, path, form, message):
    with pytest.raises(ValueError, match=message):
        prune_keras.export(words(), tmp_path / path, format=form)
    assert not [*tmp_path.iterdir()]
