"""Inversion: the image that a layer's feature maps still tell, from all channels or from some.

An image is sought whose feature maps are those of a given one (see `preimages`). How close it comes
says what the channels keep of the image, and how little is lost with those that are pruned.

Reference:
    Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them, 2015,
    https://arxiv.org/abs/1412.0035
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras, plots
from prune_keras.models import images
from prune_keras.models.preimages import Search, preimage
from prune_keras.plan import Plan
from prune_keras.tracing import trace


@dataclass(frozen=True)
class Reconstruction:
    """An image found from feature maps.

    Args:
        name: which channels it was found from.
        layer: path of the layer whose channels these are.
        channels: how many these are.
        image: `(height, width, channels)`, pixels from 0 to 255.
        pixel_error: distance from the given image, relative to that image's distance from its mean
            colour: 1 for an image that is this colour everywhere.
        feature_error: distance from the feature maps of the given image, all channels, relative to
            their norm.
        mean_feature_error: the same distance for an image that is the mean colour everywhere.
    """

    name: str
    layer: str
    channels: int
    image: np.ndarray
    pixel_error: float
    feature_error: float
    mean_feature_error: float


def invert(
    model: Any,
    image: np.ndarray,
    layer: str,
    keep: Plan | None = None,
    search: Search | None = None,
    seed: int = 0,
) -> list[Reconstruction]:
    """Reconstruct an image from a layer's feature maps: from all, the kept and as many random ones.

    Args:
        model: a functional or Sequential model that takes pixels from 0 to 255.
        image: `(height, width, channels)`, what the model takes.
        layer: name of a layer, or its path, e.g. `"vgg16/block3_conv3"`.
        keep: a `Plan` for the model. Defaults to `None`: only all channels.
        search: a `preimages.Search`, which has the loss. Defaults to `None`: one as it is.
        seed: draws the random channels, what the search begins with, and its jitter.

    Returns:
        A list of `Reconstruction`.

    Raises:
        ValueError: if there is no such layer, or not exactly one, or the plan is another model's.

    Example:

    >>> from prune_keras.models import vgg16
    >>> model = vgg16.build(image_size=32, width=0.125, units=8)
    >>> found = invert(model, np.zeros((32, 32, 3)), "block1_conv2", search=Search(steps=2))
    >>> found[0].name, found[0].channels, found[0].image.shape
    ('all channels', 8, (32, 32, 3))
    """
    if keep is not None:
        keep.check_fits(trace(model).widths)
    image = np.asarray(image, "float32")
    features, path = _features_of(model, layer, image.shape)
    wanted = ops.convert_to_numpy(features(ops.convert_to_tensor(image[None])))
    flat = np.broadcast_to(image.mean((0, 1)), image.shape)
    random, found = np.random.default_rng(seed), []
    for name, kept in _choices(wanted.shape[-1], path, keep, random).items():
        chosen = np.isin(np.arange(wanted.shape[-1]), kept)
        pixels = preimage(features, image, chosen, search or Search(), random, model)
        maps, plain = (
            ops.convert_to_numpy(features(ops.convert_to_tensor(x[None]))) for x in (pixels, flat)
        )
        pairs = ((pixels, image, flat), (maps, wanted, 0), (plain, wanted, 0))
        errors = [_distance(*pair) for pair in pairs]
        found.append(Reconstruction(name, path, len(kept), pixels, *errors))
    return found


def read_image(path: str | Path, model: Any) -> np.ndarray:
    """Return the pixels of an image file, grey where a model takes grey ones, scaled to its size.

    Raises:
        ValueError: if it is missing, or no image, or the model takes none.
    """
    from PIL import Image

    if model.input_shape[3:] not in ((1,), (3,)):
        raise ValueError(
            "The model must take images, grey or in colours, (height, width, 1 or 3). Received: "
            f"model.input_shape={model.input_shape}. Choose one that does."
        )
    _, height, width, channels = model.input_shape
    try:
        images.check_pixels(path)
        image = keras.utils.load_img(path, color_mode="grayscale" if channels == 1 else "rgb")
    except (OSError, ValueError) as error:
        raise ValueError(
            "The image must be a file such as a .jpg or .png. Received: "
            f"image='{path}' ({type(error).__name__}). Name such a file."
        ) from error
    size = (width or image.width, height or image.height)  # a model may leave sizes open
    return keras.utils.img_to_array(image.resize(size, Image.Resampling.NEAREST))


def draw(image: np.ndarray, found: Sequence[Reconstruction], path: str | Path) -> Path:
    """Draw an image beside what was reconstructed of it, a row a layer, with the errors."""
    rows = {layer: {"image": image} for layer in dict.fromkeys(each.layer for each in found)}
    for each in found:
        errors = f"pixels {each.pixel_error:.2f}, features {each.feature_error:.2f}"
        rows[each.layer][f"{each.layer}\n{each.name} ({each.channels})\n{errors}"] = each.image
    return plots.images([*rows.values()], path)


def errors(reconstruction: Reconstruction) -> dict[str, Any]:
    """Return a reconstruction as a row of a table, without its image."""
    return {name: value for name, value in vars(reconstruction).items() if name != "image"}


def _choices(
    width: int, path: str, keep: Plan | None, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Return name -> channels."""
    choices = {"all channels": np.arange(width)}
    if keep is not None:
        kept = keep.kept.get(path, np.arange(width))
        choices["kept channels"] = kept
        choices["random channels"] = np.sort(random.permutation(width)[: len(kept)])
    return choices


def _features_of(model: Any, layer: str, shape: tuple) -> tuple[Callable[[Any], Any], str]:
    """Return the function from images of a shape to a layer's outputs, and the layer's path."""
    paths = []

    def find(visited: _keras.Call) -> Any:
        paths.append(visited.path)
        return _keras.run(visited)

    _keras.walk(model, [ops.zeros((1, *shape))], find)
    named = [path for path in paths if path == layer or path.endswith(f"/{layer}")]
    if len(named) != 1:
        raise ValueError(
            f"The layer must be one of the model's, once in it. Received: layer={layer!r}, which "
            f"is there {len(named)} times. Choose one of {', '.join(paths)}."
        )

    def features(images: Any) -> Any:
        outputs = []

        def call(visited: _keras.Call) -> Any:
            value = _keras.run(visited)
            if visited.path == named[0]:
                outputs.append(value)
            return value

        _keras.walk(model, [images], call)
        return ops.cast(outputs[0], "float32")

    return features, named[0]


def _distance(found: np.ndarray, wanted: np.ndarray, center: np.ndarray | float) -> float:
    return float(np.linalg.norm(found - wanted) / (np.linalg.norm(wanted - center) + 1e-12))
