"""Preimages: images that a function maps to what it maps a given one to, found by descent.

What is sought is no grid of pixels: it is a sum of images of several scales in colours that vary
alone in photos, bounded by a sigmoid. A step then moves what is coarse and what is fine alike, and
all colours of a place at once, so that the search ends at images and not at noise.

References:
    Mahendran, Vedaldi: Visualizing Deep Convolutional Neural Networks Using Natural Pre-Images,
    2016, https://arxiv.org/abs/1512.02017
    Olah, Mordvintsev, Schubert: Feature Visualization, 2017, https://distill.pub/2017/feature-visualization
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend

# Columns are colours that vary independently of each other in photos; see Olah et al.
_COLOURS = np.array([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]], "float32")
_COLOURS /= np.linalg.norm(_COLOURS, axis=0).max()
_START = 0.01  # deviation of what the search begins with, from grey


@dataclass(frozen=True)
class Search:
    """How an image is sought.

    The loss to be least is `|f(x) - f(x0)|^2 / |f(x0)|^2 + variation * TV(x)`, with
    `TV(x) = mean((dx^2 + dy^2)^(exponent / 2))` and `dx`, `dy` the differences between
    neighbouring pixels in units of 255.

    Args:
        steps: steps of Adam, whose rate falls to zero along a cosine. Defaults to 300.
        learning_rate: of Adam, where it begins. Defaults to 0.05.
        variation: weight of the total variation. Defaults to 0.1.
        exponent: of the total variation; below 2 edges cost less. Defaults to 2.0.
        jitter: pixels by which both images are shifted in a step, at most; what is seen from
            several places leaves no grid of the strides behind. Defaults to 4.
        scales: how many images, each of half the size of the one before, are summed. Defaults to 5.

    Raises:
        ValueError: if one of them is out of its range.

    Example:

    >>> Search(steps=10).scales
    5
    """

    steps: int = 300
    learning_rate: float = 0.05
    variation: float = 0.1
    exponent: float = 2.0
    jitter: int = 4
    scales: int = 5

    def __post_init__(self) -> None:
        least = {"steps": 1, "jitter": 0, "scales": 1, "variation": 0.0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(
                    f"`{name}` must be {value} at least. Received: {name}={getattr(self, name)}. "
                    f"Leave it out for {type(self).__dataclass_fields__[name].default}."
                )
        for name in ("learning_rate", "exponent"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"`{name}` must be above 0. Received: {name}={getattr(self, name)}. "
                    f"Leave it out for {type(self).__dataclass_fields__[name].default}."
                )


def preimage(
    features: Callable[[Any], Any],
    image: np.ndarray,
    chosen: np.ndarray,
    search: Search,
    random: np.random.Generator,
    model: Any,
) -> np.ndarray:
    """Return an image whose features are those of a given one.

    Args:
        features: a function from `(1, height, width, channels)` pixels to feature maps.
        image: `(height, width, channels)` pixels from 0 to 255.
        chosen: `(maps,)`, 1 for feature maps that count and 0 for others.
        search: how it is sought.
        random: draws what the search begins with, and the jitter.
        model: whose layers `features` runs; it is not changed.
    """
    shapes = _shapes(image.shape, search.scales)
    starts = [_START * random.standard_normal(shape) for shape in shapes]
    parts = [keras.Variable(start, dtype="float32") for start in starts]
    rate = keras.optimizers.schedules.CosineDecay(search.learning_rate, search.steps)
    optimizer = keras.optimizers.Adam(rate)
    loss = _loss(features, image / 255, chosen.astype("float32"), search)
    gradient = _backend.compiled(
        lambda values, *places: _backend.gradients(lambda given: loss(given, *places), values),
        model,
    )
    for _ in range(search.steps):
        values = {str(number): part.value for number, part in enumerate(parts)}
        found = gradient(values, *_jittered(image.shape, search.jitter, random))
        optimizer.apply([found[name] for name in values], parts)
    return 255 * ops.convert_to_numpy(_painted([part.value for part in parts], image.shape))


def _shapes(shape: tuple, scales: int) -> list[tuple[int, int, int]]:
    height, width, channels = shape
    sizes = [(-(-height // 2**scale), -(-width // 2**scale)) for scale in range(scales)]
    return [(*size, channels) for size in dict.fromkeys(sizes)]


def _painted(parts: list, shape: tuple) -> Any:
    """Return the image that is the sum of its scales, `(height, width, channels)` in 0 to 1."""
    whole = sum(ops.image.resize(part, shape[:2], data_format="channels_last") for part in parts)
    if shape[2] == len(_COLOURS):
        whole = ops.matmul(whole, _COLOURS.T)
    return ops.sigmoid(whole)


def _loss(features: Callable, image: np.ndarray, chosen: np.ndarray, search: Search) -> Callable:
    """Return the loss of the scales of an image, seen from rows and columns in some order."""
    whole = ops.convert_to_numpy(features(ops.convert_to_tensor(255 * image[None])))
    norm = float(np.square(whole * chosen).sum()) + 1e-12
    counted = ops.convert_to_tensor(chosen)

    def seen(x: Any, rows: Any, columns: Any) -> Any:
        return features(255 * ops.take(ops.take(x, rows, axis=0), columns, axis=1)[None])

    def loss(parts: dict, rows: Any, columns: Any) -> Any:
        x = _painted([parts[name] for name in parts], image.shape)
        wanted = ops.stop_gradient(seen(ops.convert_to_tensor(image), rows, columns))
        far = ops.sum(ops.square((seen(x, rows, columns) - wanted) * counted)) / norm
        return far + search.variation * _variation(x, search.exponent)

    return loss


def _variation(x: Any, exponent: float) -> Any:
    down, right = x[1:, :-1] - x[:-1, :-1], x[:-1, 1:] - x[:-1, :-1]
    squares = ops.square(down) + ops.square(right)
    # What does not vary at all has no slope for exponents below 2.
    return ops.mean(squares if exponent == 2 else ops.power(squares + 1e-8, exponent / 2))


def _jittered(shape: tuple, most: int, random: np.random.Generator) -> list:
    """Return the rows and the columns in the order in which a shifted image has them."""
    shifts = random.integers(-most, most + 1, 2)
    orders = [(np.arange(size) + by) % size for size, by in zip(shape, shifts, strict=False)]
    return [ops.convert_to_tensor(order.astype("int32")) for order in orders]
