"""Inversion: the image that a layer's feature maps still tell, from all channels or from some.

An image is sought by gradient descent whose feature maps are those of a given one, among images
that vary little from pixel to pixel. How close it comes says what the channels keep of the image,
and how little is lost with those that are pruned.

Reference:
    Mahendran, Vedaldi: Understanding Deep Image Representations by Inverting Them, 2015,
    https://arxiv.org/abs/1412.0035
"""

from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras, plots
from prune_keras.models import images


@dataclass(frozen=True)
class Reconstruction:
    """An image found from feature maps.

    Args:
        name: which channels it was found from.
        channels: how many these are.
        image: `(height, width, channels)`, pixels from 0 to 255.
        pixel_error: distance from the given image, relative to that image's deviation from its
            mean.
        feature_error: distance from the feature maps of the given image, all channels, relative to
            their norm.
    """

    name: str
    channels: int
    image: np.ndarray
    pixel_error: float
    feature_error: float


def invert(model, image, layer, keep=None, steps=400, variation=0.1, learning_rate=0.02, seed=0):
    """Reconstruct an image from a layer's feature maps: from all, the kept and as many random ones.

    With `f` the feature maps of those channels, the loss to be least is
    `|f(x) - f(x0)|^2 / |f(x0)|^2 + variation * mean(dx^2 + dy^2)`, where `dx` and `dy` are the
    differences between neighbouring pixels in units of 255.

    Args:
        model: a functional or Sequential model that takes pixels from 0 to 255.
        image: `(height, width, channels)`, what the model takes.
        layer: name of a layer, or its path, e.g. `"vgg16/block3_conv3"`.
        keep: a `Plan` for the model. Defaults to `None`: only all channels.
        steps: steps of Adam.
        variation: weight of the total variation.
        learning_rate: of Adam, in units of 255.
        seed: draws the random channels and the noise that the search begins with.

    Returns:
        A list of `Reconstruction`.

    Raises:
        ValueError: if there is no such layer, or not exactly one.

    Example:

    >>> from prune_keras.models import vgg16
    >>> model = vgg16.build(image_size=32, width=0.125, units=8)
    >>> found = invert(model, np.zeros((32, 32, 3)), "block1_conv2", steps=2)
    >>> found[0].name, found[0].channels, found[0].image.shape
    ('all channels', 8, (32, 32, 3))
    """
    image = np.asarray(image, "float32")
    features, path = _features_of(model, layer)
    wanted = ops.convert_to_numpy(features(ops.convert_to_tensor(image[None]))).astype("float32")
    random = np.random.default_rng(seed)
    found = []
    for name, kept in _choices(wanted.shape[-1], path, keep, random).items():
        start = random.uniform(0.4, 0.6, image.shape).astype("float32")
        loss = _loss(features, wanted, kept, variation)
        pixels = 255 * _descend(loss, start, model, steps, learning_rate)
        maps = ops.convert_to_numpy(features(ops.convert_to_tensor(pixels[None])))
        errors = _distance(pixels, image, image.mean()), _distance(maps, wanted, 0)
        found.append(Reconstruction(name, len(kept), pixels, *errors))
    return found


def read_image(path, model):
    """Return the pixels of an image file, scaled to what a model takes.

    Raises:
        ValueError: if it is missing, or no image.
    """
    try:
        images.check_pixels(path)
        image = keras.utils.load_img(path, target_size=model.input_shape[1:3])
    except (OSError, ValueError) as error:
        raise ValueError(
            "The image must be a file such as a .jpg or .png. Received: "
            f"image='{path}' ({type(error).__name__}). Name such a file."
        ) from error
    return keras.utils.img_to_array(image)


def draw(image, found, path):
    """Draw an image beside what was reconstructed of it, with the errors."""
    titles = {
        f"{r.name} ({r.channels})\npixels {r.pixel_error:.2f}, features {r.feature_error:.2f}": r
        for r in found
    }
    return plots.images({"image": image} | {title: r.image for title, r in titles.items()}, path)


def errors(reconstruction):
    """Return a reconstruction as a row of a table, without its image."""
    return {name: value for name, value in vars(reconstruction).items() if name != "image"}


def _choices(width, path, keep, random):
    """Return name -> channels."""
    choices = {"all channels": np.arange(width)}
    if keep is not None:
        kept = keep.kept.get(path, np.arange(width))
        choices["kept channels"] = kept
        choices["random channels"] = np.sort(random.permutation(width)[: len(kept)])
    return choices


def _features_of(model, layer):
    """Return the function from images to a layer's outputs, and the layer's path."""
    paths = []

    def find(visited):
        paths.append(visited.path)
        return _keras.run(visited)

    inputs = ops.zeros((1, *model.input_shape[1:]))
    _keras.walk(model, [inputs], find)
    named = [path for path in paths if path == layer or path.endswith(f"/{layer}")]
    if len(named) != 1:
        raise ValueError(
            f"The layer must be one of the model's, once in it. Received: layer={layer!r}, which "
            f"is there {len(named)} times. Choose one of {', '.join(paths)}."
        )

    def features(images):
        outputs = []

        def call(visited):
            value = _keras.run(visited)
            if visited.path == named[0]:
                outputs.append(value)
            return value

        _keras.walk(model, [images], call)
        return ops.cast(outputs[0], "float32")

    return features, named[0]


def _loss(features, wanted, kept, variation):
    """Return the loss of an image in units of 255, to be given as `{"image": tensor}`."""
    chosen = np.zeros(wanted.shape[-1], "float32")
    chosen[kept] = 1
    scale = float(np.square(wanted * chosen).sum()) + 1e-12

    def loss(arguments):
        x = arguments["image"]
        far = ops.sum(ops.square((features(255 * x[None]) - wanted) * chosen)) / scale
        down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
        return far + variation * ops.mean(ops.square(down) + ops.square(right))

    return loss


def _descend(loss, start, model, steps, learning_rate):
    """Return the image at which Adam arrives, in units of 255."""
    image = keras.Variable(start)
    optimizer = keras.optimizers.Adam(learning_rate)
    gradient = _backend.compiled(lambda x: _backend.gradients(loss, {"image": x})["image"], model)
    for _ in range(steps):
        optimizer.apply([gradient(image.value)], [image])
        image.assign(ops.clip(image.value, 0.0, 1.0))
    return ops.convert_to_numpy(image.value)


def _distance(found, wanted, center):
    return float(np.linalg.norm(found - wanted) / (np.linalg.norm(wanted - center) + 1e-12))
