"""A classifier that ends in one logit is right where its sign says so."""

import keras
import numpy as np
import pytest

from prune_keras.models import cifar10
from prune_keras.models.pairing import hits
from prune_keras.models.settings import compile_model

X = np.random.default_rng(0).normal(size=(200, 1)).astype("float32")
LABELS = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_its_accuracy_and_hits_are_those_of_its_sign(activation):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, activation)])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    settings = cifar10.settings("stack")
    compile_model(model, settings, 1e-3, 1)
    assert model.evaluate(X, LABELS, verbose=0, return_dict=True)["accuracy"] == 1.0
    assert hits(model, (X, LABELS), settings).all()
