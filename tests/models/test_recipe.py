"""The recipe, as a function and as a command: stages, files, and the model that stays."""

import json

import keras
import numpy as np
import pytest
from command_line import call, succeed

import prune_keras
from prune_keras import recipe
from prune_keras.callbacks import ProgressivePruning, QuantizationAware
from prune_keras.report import Report

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (80, 8, 8, 3)).astype("uint8")
LABELS = RNG.integers(0, 4, 80)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT files are written with TensorFlow"
)


def network():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu", name="a"),
            layers.Conv2D(8, 3, activation="relu", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def shrunk_to(folder, model, **options):
    data = (IMAGES, LABELS)
    options |= {"int8": True, "verbose": 0}
    return prune_keras.shrink_to(model, {"neurons": 0.6}, data, data, folder, **options)


@on_tensorflow
def test_stages_are_written_and_told(tmp_path):
    model = network()
    before = [np.array(weight) for weight in model.weights]
    shrunk = shrunk_to(tmp_path, model, epochs=2)
    names = ["dense", "thin", "thin, int8 after training", "thin, int8 aware"]
    assert [stage.name for stage in shrunk.stages] == names
    sizes = [stage.bytes for stage in shrunk.stages]
    assert sizes[0] > sizes[1] and all(stage.milliseconds > 0 for stage in shrunk.stages)
    assert all((tmp_path / stage.file).stat().st_size == stage.bytes for stage in shrunk.stages)
    told = json.loads((tmp_path / "stages.json").read_text())
    assert [stage["name"] for stage in told] == names
    assert Report.load(tmp_path / "report.json") == shrunk.report
    assert {each.name: each.values["bytes"] for each in shrunk.report.outcomes} == {
        stage.name: stage.bytes for stage in shrunk.stages
    }
    assert "<svg" in (tmp_path / "report.html").read_text("utf-8")
    assert all(name in shrunk.render() for name in names)
    read = keras.models.load_model(tmp_path / "thin.keras")
    assert read.get_layer("a").filters + read.get_layer("b").filters <= 10
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.slow
@on_tensorflow
def test_commands_write_what_functions_write(tmp_path):
    model, file, data = network(), tmp_path / "model.keras", tmp_path / "data.npz"
    model.fit(IMAGES[:8], LABELS[:8], verbose=0)  # its optimizer has a state, as any trained one
    model.save(file)
    np.savez(data, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:9], y_test=LABELS[:9])
    folder = tmp_path / "small"
    printed = succeed(
        "shrink",
        file,
        "--data",
        data,
        "--target",
        "neurons=0.6",
        "--epochs",
        2,
        "-o",
        folder,
        "--teacher",
        file,
    )
    assert "dense" in printed and (folder / "thin.keras").exists()
    file = folder / "thin.tflite"
    succeed("export", folder / "thin.keras", "-o", file, "--int8", "--data", data)
    assert file.stat().st_size < (folder / "thin.keras").stat().st_size
    assert call("export", folder / "thin.keras", "-o", file, "--int8").exit_code == 2


class Killed(BaseException):
    """Stands for SIGKILL."""


def die(*args, **kwargs):
    raise Killed


def shrunk_weights(folder):
    keras.backend.clear_session()  # as in a process of its own
    keras.utils.set_random_seed(1)
    shrunk = shrunk_to(folder, network(), epochs=3, backup_dir=folder / "backup")
    return shrunk.model.get_weights()


AFTER = {
    "after pruning": (recipe, "_accuracy", 1),
    "at last": (QuantizationAware, "on_epoch_end", 1),
}
DEATHS = {"a round": (ProgressivePruning, "on_epoch_end", 3)} | AFTER


@on_tensorflow
@pytest.mark.parametrize(
    "moment", ["a round", *(pytest.param(each, marks=pytest.mark.slow) for each in AFTER)]
)
def test_a_recipe_that_is_killed_goes_on(moment, tmp_path, monkeypatch):
    whole = shrunk_weights(tmp_path / "whole")
    owner, name, left = DEATHS[moment]
    does = getattr(owner, name)
    calls = iter([does] * (left - 1))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, lambda *args, **kwargs: next(calls, die)(*args, **kwargs))
        shrunk_weights(tmp_path / "killed")
    begun = []
    begin = ProgressivePruning.on_epoch_begin
    monkeypatch.setattr(
        ProgressivePruning,
        "on_epoch_begin",
        lambda self, epoch, logs=None: (begun.append(epoch), begin(self, epoch, logs))[1],
    )
    np.testing.assert_equal(shrunk_weights(tmp_path / "killed"), whole)
    assert begun == ([2] if moment == "a round" else [])


def test_a_recipe_needs_a_compiled_model(tmp_path):
    bare = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must be compiled"):
        prune_keras.shrink_to(bare, {"params": 0.5}, (0, 0), (0, 0), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
