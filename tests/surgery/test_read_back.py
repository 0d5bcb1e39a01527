"""Files in eight bits are read back, and refused where they give something else."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.quantizing import writing

if keras.backend.backend() != "tensorflow":
    pytest.skip("LiteRT files are written by TensorFlow", allow_module_level=True)

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")


def deep(depth=30):
    """Return a network of which roundings add up before a sigmoid whose grid is fine."""
    keras.utils.set_random_seed(0)
    inner = [keras.layers.Dense(64, "relu", kernel_initializer="he_normal") for _ in range(depth)]
    return keras.Sequential([keras.Input((8,)), *inner, keras.layers.Dense(1, "sigmoid")])


def written(folder, model):
    ranges = prune_keras.calibrate(model, X)
    return prune_keras.export(model, folder / "model.tflite", X[32:], int8=ranges)


def test_roundings_of_many_layers_add_up(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "FAR", 0.0)  # so that a step too many is one
    assert written(tmp_path, deep()).exists()


def test_a_file_that_gives_something_else_is_refused(tmp_path, monkeypatch):
    given = writing.Interpreted.__call__
    monkeypatch.setattr(writing.Interpreted, "__call__", lambda self, x: given(self, x)[::-1])
    with pytest.raises(ValueError, match="in the mean square, where eight bits move them by"):
        written(tmp_path, deep())
    assert not (tmp_path / "model.tflite").exists()
