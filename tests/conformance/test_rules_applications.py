"""Rules of layers that networks of keras.applications bring along, and what they rely on."""

import keras
import numpy as np
from keras import layers
from networks import outputs_of, randomize, samples
from silenced import Silenced

import prune_keras


def check_cut(model, tmp_path, **kept):
    """Cut a model, compare with the silenced one, save it and read it back."""
    widths = prune_keras.trace(model).widths
    plan = prune_keras.Plan({**prune_keras.Plan.everything(widths).kept, **kept}, widths)
    x = samples(model)
    expected = Silenced(model, plan).outputs(x)
    thin = prune_keras.shrink(model, plan)
    prune_keras.shrink_in_place(model, plan)
    read = keras.models.load_model(prune_keras.export(thin, tmp_path / "thin.keras"))
    for each in (thin, model, read):
        for found, wanted in zip(outputs_of(each, x), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    return thin


def test_what_a_normalization_was_adapted_to_survives_in_a_copy(tmp_path):
    scale = layers.Normalization()
    scale.adapt(np.random.default_rng(0).normal(5, 3, (64, 4)))
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Dense(3, name="a")(scale(inputs)))
    check_cut(keras.Model(inputs, outputs), tmp_path, a=[0, 2])
