"""Rules of layers that networks of keras.applications bring along, and what they rely on."""

import keras
import numpy as np
import pytest
from keras import layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer
from networks import outputs_of, randomize, samples
from silenced import Silenced

import prune_keras


def conv(filters, name, **arguments):
    return layers.Conv2D(filters, 1, name=name, **arguments)


def model_of(inputs, x):
    model = keras.Model(inputs, layers.Dense(2, name="out")(layers.Flatten()(x)))
    randomize(model)
    return model


def families(model):
    return {each.name: (each.paths, each.size) for each in prune_keras.trace(model).families}


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


def test_a_layer_scale_goes_along_with_its_channels(image, tmp_path):
    x = LayerScale(0.1, 5, name="scale")(conv(5, "a")(image))
    model = model_of(image, x)
    assert families(model) == {"a": (("a",), 5)}
    thin = check_cut(model, tmp_path, a=[1, 2, 4])
    assert thin.get_layer("scale").projection_dim == 3


def test_what_drops_whole_branches_keeps_no_channel(image, tmp_path):
    x = conv(5, "a")(image)
    x = layers.Add()([x, StochasticDepth(0.2)(conv(5, "b")(x))])
    model = model_of(image, x)
    assert families(model) == {"a": (("a", "b"), 5)}
    check_cut(model, tmp_path, a=[0, 3], b=[0, 3])


def test_a_scaled_branch_goes_with_the_stream_it_is_added_to(image, tmp_path):
    x = conv(5, "a")(image)
    x = CustomScaleLayer(0.2)([x, conv(5, "b")(x)])
    model = model_of(image, x)
    assert families(model) == {"a": (("a", "b"), 5)}
    check_cut(model, tmp_path, a=[0, 3], b=[0, 3])


@pytest.mark.parametrize("multiplier", [1, 2])
def test_a_convolution_of_each_channel_by_itself(image, tmp_path, multiplier):
    x = conv(5, "a")(image)
    x = layers.Conv2D(5 * multiplier, 3, padding="same", groups=5, name="b")(x)
    model = model_of(image, x)
    assert families(model) == {"a": (("a", "b"), 5)}
    filters = np.arange(5 * multiplier).reshape(5, multiplier)[[0, 3]].ravel()
    check_cut(model, tmp_path, a=[0, 3], b=filters)
