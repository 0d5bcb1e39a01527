"""Small models of named layers, and what must hold once they are cut, for tests of rules."""

import keras
import numpy as np
from keras import layers
from networks import outputs_of, randomize, samples
from silenced import Silenced

import prune_keras
from prune_keras import _keras


def conv(filters, name, **arguments):
    return layers.Conv2D(filters, 1, name=name, **arguments)


def model_of(inputs, x):
    """Return a model with a head that reads the last axis, and random weights."""
    x = layers.Dense(4, name="read")(x)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    randomize(model)
    return model


def families(model):
    return {family.name: family.size for family in prune_keras.trace(model).families}


def reason(model, path="a"):
    fixed = prune_keras.trace(model).fixed
    return next((each.reason for each in fixed if each.path == path), "")


def cut(model, tmp_path=None, **kept):
    """Cut a model both ways, compare with the silenced one, save it, and return it."""
    widths = prune_keras.trace(model).widths
    everything = prune_keras.Plan.everything(widths).kept
    plan = prune_keras.Plan({**everything, **kept}, widths)
    x = samples(model)
    expected = Silenced(model, plan).outputs(x)
    thin = prune_keras.shrink(model, plan)
    prune_keras.shrink_in_place(model, plan)
    check_same(thin, x, expected)
    check_same(model, x, expected)
    if tmp_path is not None:
        model.save(tmp_path / "thin.keras")
        check_same(keras.models.load_model(tmp_path / "thin.keras"), x, outputs_of(model, x))
    return thin


def check_same(model, x, expected):
    for found, wanted in zip(outputs_of(model, x), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def operation(model, kind):
    """Return the only operation of a class, found by its name."""
    (found,) = (each for each in _keras.operations_in(model) if type(each).__name__ == kind)
    return found
