"""Inversion: images from feature maps that tell all, a part, or nothing of them."""

import csv

import keras
import numpy as np
import pytest
from command_line import call, succeed
from matplotlib.image import imread

from prune_keras.models import inversion, preimages
from prune_keras.models.preimages import Search
from prune_keras.plan import Plan

SEARCH = Search(steps=80, learning_rate=0.5, variation=0.0, jitter=0, scales=2)
IMAGE = np.random.default_rng(0).integers(40, 216, (8, 8, 3)).astype("float32")


def network():
    """A nested convolution: three channels are the colours, nine more are always zero."""
    inputs = keras.Input((8, 8, 3))
    conv = keras.layers.Conv2D(12, 1, name="conv")
    nested = keras.Sequential([keras.Input((8, 8, 3)), conv], name="base")
    x = nested(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten(name="flatten")(x)))
    conv.set_weights([np.eye(3, 12)[None, None], np.zeros(12)])
    return model


def test_channels_that_tell_all_bring_the_image_back():
    plan = Plan({"base/conv": [0, 1, 2]}, {"base/conv": 12})
    found = inversion.invert(network(), IMAGE, "conv", plan, SEARCH)
    every, kept, random = found
    assert [r.channels for r in found] == [12, 3, 3]
    assert [r.name.split()[0] for r in found] == ["all", "kept", "random"]
    np.testing.assert_allclose(every.image, IMAGE, atol=15)
    np.testing.assert_allclose(kept.image, IMAGE, atol=15)
    assert every.pixel_error < 0.05 and kept.pixel_error < 0.05 < random.pixel_error
    assert kept.feature_error < 0.05 < random.feature_error


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(ValueError, match=f"image must be.*{name}.*Name"):
            inversion.read_image(tmp_path / name, network())


def test_a_model_that_takes_no_images_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"must take images.*input_shape=\(None, 4\)"):
        inversion.read_image(tmp_path / "image.png", model)


def test_grey_images_of_any_size_are_read_sought_and_drawn_grey(tmp_path):
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 3, name="conv")(inputs))
    keras.utils.save_img(tmp_path / "image.png", IMAGE[:6], scale=False)
    pixels = inversion.read_image(tmp_path / "image.png", model)
    assert pixels.shape == (6, 8, 1)
    found = inversion.invert(model, pixels, "conv", search=Search(steps=1))
    picture = imread(inversion.draw(pixels, found, tmp_path / "out.png"))
    assert np.ptp(picture[..., :3], axis=-1).max() == 0 < np.ptp(picture[..., 0])


def test_variation_smooths():
    rough, smooth = (
        inversion.invert(network(), IMAGE, "base/conv", None, Search(30, 0.2, weight))[0].image
        for weight in (0.0, 10.0)
    )
    assert np.abs(np.diff(smooth, axis=0)).mean() < 0.5 * np.abs(np.diff(rough, axis=0)).mean()


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="Received: layer='conv9', which is there 0 times.*conv"):
        inversion.invert(network(), IMAGE, "conv9", search=Search(steps=1))


def test_a_plan_of_another_model_is_refused():
    plan = Plan({"base/conv": [0, 1]}, {"base/conv": 8})
    with pytest.raises(ValueError, match="Received: 8 units for 'base/conv', while it has 12"):
        inversion.invert(network(), IMAGE, "flatten", plan, Search(steps=1))


def test_the_command_draws_and_writes_errors(tmp_path):
    network().save(tmp_path / "model.keras")
    keras.utils.save_img(tmp_path / "image.png", IMAGE, scale=False)
    Plan({"base/conv": [0, 1, 5]}, {"base/conv": 12}).save(tmp_path / "plan.json")
    files, layers = (tmp_path / "model.keras", tmp_path / "image.png"), ("base/conv", "flatten")
    named = [word for layer in layers for word in ("--layer", layer)]
    options = ("--keep", tmp_path / "plan.json", "--steps", 3, "--output", tmp_path / "out.png")
    succeed("invert", *files, *named, *options)
    with open(tmp_path / "out.csv", newline="") as file:
        rows = [(row["layer"], row["channels"]) for row in csv.DictReader(file)]
    assert [count for path, count in rows if path == "base/conv"] == ["12", "3", "3"]
    assert {path for path, _ in rows} == {"base/conv", "flatten"}
    assert (tmp_path / "out.png").stat().st_size > 0


def test_an_ending_that_no_picture_has_is_refused_before_the_work(tmp_path):
    result = call("invert", "no.keras", "no.png", "--layer", "conv", "-o", tmp_path / "pic.bmp")
    assert result.exit_code == 2 and "A picture must end in" in result.stderr


def photo(size):
    """Broad colours with an edge, as photos are and noise is not."""
    y, x = np.mgrid[0:size, 0:size] / size
    return 255 * np.stack([x, (x > 0.5) * 0.6 + 0.2, 0.5 + 0.4 * np.sin(6 * y)], axis=-1)


def test_what_a_random_convolution_tells_comes_back_closer_than_the_mean_colour():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((24, 24, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for number in range(2):
        x = keras.layers.Conv2D(24, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
    model = keras.Model(inputs, x)
    shallow, deep = (
        inversion.invert(model, photo(24), name, search=Search(50, 0.1))[0]
        for name in ("conv0", "pool1")
    )
    assert shallow.pixel_error < 0.3 and shallow.pixel_error < deep.pixel_error < 1
    assert shallow.feature_error < 0.3


def test_the_loss_is_the_one_that_is_told():
    """Without jitter and steps that move, gradients are those of the formula, by differences."""
    search, image = Search(variation=0.7, exponent=1.5, jitter=0, scales=1), photo(6).astype("f")
    weights = np.random.default_rng(1).normal(size=(3, 4)).astype("f")
    loss = preimages._loss(
        lambda x: keras.ops.matmul(x / 255, weights), image / 255, np.ones(4, "f"), search
    )
    order, part = np.arange(6), np.random.default_rng(2).normal(size=(6, 6, 3)).astype("f")
    x = 1 / (1 + np.exp(-part @ preimages._COLOURS.T))
    far = np.square((x - image / 255) @ weights).sum() / np.square(image / 255 @ weights).sum()
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    variation = np.mean((down**2 + right**2 + 1e-8) ** 0.75)
    found = loss({"0": keras.ops.convert_to_tensor(part)}, order, order)
    np.testing.assert_allclose(float(found), far + 0.7 * variation, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"exponent": 0}, {"jitter": -1}, {"scales": 0}, {"learning_rate": 0}]
)
def test_a_search_that_cannot_be_is_refused(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"`{name}` must be .* Received: {name}={value}"):
        Search(**wrong)
