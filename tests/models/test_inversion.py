"""Inversion: images from feature maps that tell all, a part, or nothing of them."""

import csv

import keras
import numpy as np
import pytest
from command_line import succeed

from prune_keras.models import inversion
from prune_keras.plan import Plan

IMAGE = np.random.default_rng(0).integers(40, 216, (8, 8, 3)).astype("float32")


def network():
    """A nested convolution: three channels are the colours, nine more are always zero."""
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(12, 1, name="conv")
    nested = keras.Sequential([keras.Input((8, 8, 3)), conv], name="base")
    x = nested(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    conv.set_weights([np.eye(3, 12)[None, None], np.zeros(12)])
    return model


def test_channels_that_tell_all_bring_the_image_back():
    plan = Plan({"base/conv": [0, 1, 2]}, {"base/conv": 12})
    found = inversion.invert(network(), IMAGE, "conv", plan, steps=150, variation=0.0)
    every, kept, random = found
    assert [r.channels for r in found] == [12, 3, 3]
    assert [r.name.split()[0] for r in found] == ["all", "kept", "random"]
    np.testing.assert_allclose(every.image, IMAGE, atol=3)
    np.testing.assert_allclose(kept.image, IMAGE, atol=3)
    assert every.pixel_error < 0.05 and kept.pixel_error < 0.05 < random.pixel_error
    assert kept.feature_error < 0.05 < random.feature_error


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(ValueError, match=f"image must be.*{name}.*Name"):
            inversion.read_image(tmp_path / name, network())


def test_variation_smooths():
    rough, smooth = (
        inversion.invert(network(), IMAGE, "base/conv", steps=60, variation=weight)[0].image
        for weight in (0.0, 10.0)
    )
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="Received: layer='conv9', which is there 0 times.*conv"):
        inversion.invert(network(), IMAGE, "conv9", steps=1)


def test_the_command_draws_and_writes_errors(tmp_path):
    network().save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "image.png", IMAGE, scale=False)
    Plan({"base/conv": [0, 1, 5]}, {"base/conv": 12}).save(tmp_path / "plan.json")
    succeed("invert", tmp_path / "model.keras", tmp_path / "image.png", "--layer", "conv", "--keep",
            tmp_path / "plan.json", "--steps", 3, "--output", tmp_path / "out.png")  # fmt: skip
    with open(tmp_path / "out.csv", newline="") as file:
        assert [row["channels"] for row in csv.DictReader(file)] == ["12", "3", "3"]
    assert (tmp_path / "out.png").stat().st_size > 0
