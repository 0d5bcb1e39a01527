"""Layers that read more neurons than pairs of them can be looked at."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.repair import fusing

SAMPLES = np.random.default_rng(0).normal(size=(64, 5)).astype("float32")


def thin(monkeypatch, widest, fuse):
    keras.utils.set_random_seed(0)
    hidden = keras.layers.Dense(8, activation="relu", bias_initializer="ones", name="hidden")
    wide = keras.layers.Dense(3, name="wide")
    model = keras.Sequential([keras.Input((5,)), hidden, wide])
    monkeypatch.setattr(fusing, "WIDEST", widest)
    return prune_keras.prune(model, {"neurons": 0.5}, data=SAMPLES, fuse=fuse, criterion="l2")


def test_a_layer_that_reads_too_much_is_told_of_and_helped_by_its_bias(monkeypatch):
    found, report = thin(monkeypatch, 7, "weights")
    (note,) = [each for each in report.notes if "only its bias" in each]
    assert note.startswith("wide: reads 8 neurons, more than the 7")
    expected, _ = thin(monkeypatch, 8, "bias")
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize("fuse", ["weights", "bias", None])
def test_others_are_not(monkeypatch, fuse):
    assert not [each for each in thin(monkeypatch, 8, fuse)[1].notes if "only its bias" in each]
