"""Images and labels as arrays: three splits, checked files, and shuffled, augmented batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from prune_keras import arrays
from prune_keras.models.settings import Settings

Pair = tuple[np.ndarray, np.ndarray]
"""Images and their labels."""

ARRAYS = ("x_train", "y_train", "x_test", "y_test")


class Data(NamedTuple):
    """Three pairs `(images, labels)`, images `(n, height, width, channels)`, labels `(n,)`.

    Every decision is made on `validation`; `test` is for the numbers of the final report.
    """

    train: Pair
    validation: Pair
    test: Pair


class Batches(keras.utils.PyDataset):
    """Shuffled batches of flipped and shifted images, the same on every backend.

    What a batch holds depends on the seed, the epoch and its place only.

    Args:
        images: array `(n, height, width, channels)`.
        labels: integer array `(n,)`.
        batch_size: images a batch. Defaults to `128`.
        flip: whether every second image, by chance, is mirrored left to right.
        shift: by how many pixels at most an image is moved along each axis; zeros fill the rest.
        seed: an integer.

    Example:

    >>> import numpy as np
    >>> batches = Batches(np.zeros((10, 8, 8, 1), "uint8"), np.arange(10), batch_size=4)
    >>> [len(labels) for _, labels in (batches[0], batches[1], batches[2])]
    [4, 4, 2]
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int = 128,
        flip: bool = True,
        shift: int = 4,
        seed: int = 0,
    ):
        super().__init__()
        self.images = np.pad(images, [(0, 0), (shift, shift), (shift, shift), (0, 0)])
        self.labels = labels
        self.batch_size, self.flip, self.shift, self.seed = batch_size, flip, shift, seed
        self.epoch = 0
        self._shuffle()

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __getitem__(self, place: int) -> Pair:
        chosen = self.order[place * self.batch_size : (place + 1) * self.batch_size]
        random = np.random.default_rng((self.seed, self.epoch, place))
        corners = random.integers(0, 2 * self.shift + 1, (len(chosen), 2))
        images = self._crop(chosen, corners)
        if self.flip:
            mirrored = random.random(len(chosen)) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        return images, self.labels[chosen]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.labels))

    def _crop(self, chosen: np.ndarray, corners: np.ndarray) -> np.ndarray:
        _, height, width, _ = self.images.shape
        height, width = height - 2 * self.shift, width - 2 * self.shift
        pairs = zip(chosen, corners, strict=True)
        return np.stack([self.images[i, y : y + height, x : x + width] for i, (y, x) in pairs])


class Augmented(Batches):
    """Batches of images that are also turned and zoomed, by Keras' layers.

    Args:
        rotate: by which share of a full turn at most; see `keras.layers.RandomRotation`.
        zoom: by which share at most, in or out; see `keras.layers.RandomZoom`.
        **arguments: those of `Batches`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        *,
        rotate: float,
        zoom: float,
        seed: int = 0,
        **arguments: Any,
    ):
        super().__init__(images, labels, seed=seed, **arguments)
        self._layers = [
            keras.layers.RandomRotation(rotate, seed=seed),
            keras.layers.RandomZoom(zoom, seed=seed),
        ]

    def __getitem__(self, place: int) -> Pair:
        images, labels = super().__getitem__(place)
        for layer in self._layers:
            images = layer(images, training=True)
        return keras.ops.convert_to_numpy(images), labels


def batches(data: Data, settings: Settings, seed: int) -> Batches:
    """Return the training images of `data`, augmented as `prune_keras.models.settings` says."""
    images, labels = data.train
    plain: dict[str, Any] = {
        "batch_size": settings.batch_size,
        "flip": settings.flip,
        "shift": settings.shift,
    }
    if not (settings.rotate or settings.zoom):
        return Batches(images, labels, **plain, seed=seed)
    turned = {"rotate": settings.rotate, "zoom": settings.zoom}
    return Augmented(images, labels, **plain, **turned, seed=seed)


def split(
    x_train: np.ndarray, y_train: np.ndarray, x_test: np.ndarray, y_test: np.ndarray, seed: int = 0
) -> Data:
    """Shuffle the training images and keep the last tenth of them for validation.

    Example:

    >>> import numpy as np
    >>> x, y = np.zeros((50, 8, 8, 1), "uint8"), np.zeros(50, int)
    >>> data = split(x, y, x[:7], y[:7])
    >>> len(data.train[1]), len(data.validation[1]), len(data.test[1])
    (45, 5, 7)

    Raises:
        ValueError: if there are fewer than ten training images.
    """
    if len(x_train) < 10:
        raise ValueError(
            "There must be ten training images or more, of which a tenth judges. Received: "
            f"{len(x_train)}. Take more images."
        )
    order = np.random.default_rng(seed).permutation(len(x_train))
    train, validation = np.split(order, [len(order) - len(order) // 10])
    return Data(
        (x_train[train], y_train[train]),
        (x_train[validation], y_train[validation]),
        (x_test, y_test),
    )


MOST_PIXELS = 10**8


def check_pixels(path: str | Path) -> None:
    """Raise an error if an image is none, or would unpack to more pixels than a photo has."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    if width * height > MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} pixels, while {MOST_PIXELS} are allowed")


def read_npz(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return `x_train, y_train, x_test, y_test` of an `.npz` file, checked.

    Args:
        path: the file. Images are numbers from 0 to 255, `(n, height, width, channels)`; labels are
            integers `(n,)` or `(n, 1)`.

    Raises:
        ValueError: if the file is missing, is no `.npz`, or holds something else.
    """
    try:
        found = arrays.read(path, ARRAYS)
        read = {name: found[name] for name in ARRAYS}
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"The data must be an .npz file with {', '.join(ARRAYS)}. Received: path='{path}' "
            f"({type(error).__name__}: {error}). Name such a file, or leave the path out."
        ) from error
    for part in ("train", "test"):
        read[f"y_{part}"] = _check(read[f"x_{part}"], read[f"y_{part}"], part, path)
    return read["x_train"], read["y_train"], read["x_test"], read["y_test"]


def read_samples(path: str | Path, most: int = 2048) -> np.ndarray | Pair:
    """Return `x_train`, and `y_train` if it is there, of an `.npz` file, as data to score with.

    Args:
        path: the file.
        most: how many samples to return at most, spread over the file. Defaults to 2048.

    Returns:
        `inputs`, or `(inputs, targets)`.

    Raises:
        ValueError: if the file is missing, is no `.npz`, or has no `x_train`.
    """
    try:
        found = arrays.read(path, ("x_train", "y_train"))
        inputs, targets = found["x_train"], found.get("y_train")
    except (KeyError, ValueError) as error:
        raise ValueError(
            "The data must be an .npz file with x_train, and y_train if there are targets. "
            f"Received: path='{path}' ({type(error).__name__}: {error}). Name such a file."
        ) from error
    step = max(-(-len(inputs) // most), 1)
    return inputs[::step] if targets is None else (inputs[::step], targets[::step])


def _check(images: np.ndarray, labels: np.ndarray, part: str, path: str | Path) -> np.ndarray:
    """Return the labels as a vector, or raise what is wrong with a pair of arrays."""
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(
            f"Images must have shape (n, height, width, channels), n at least 1. "
            f"Received: x_{part} of shape {images.shape} in '{path}'. Store them so."
        )
    if labels.size != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"Every image needs one integer label. Received: y_{part} of shape {labels.shape} and "
            f"type {labels.dtype} for {len(images)} images in '{path}'. Store one for each."
        )
    if not np.isfinite(images).all():
        raise ValueError(
            f"Pixels must be finite numbers from 0 to 255. Received: x_{part} with NaN or infinite "
            f"values in '{path}'. Replace them, or leave those images out."
        )
    return labels.reshape(-1)
