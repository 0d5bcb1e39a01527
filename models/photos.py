"""Photos of cats and dogs: from folders of files to three checked splits.

Two layouts are read: `train/`, `validation/` and `test/` with `cats/` and `dogs/` in each, and the
flat one of Kaggle, `cat.0.jpg` and `dog.0.jpg` in one folder or in its `train/`, of which a tenth
each is kept for validation and test. Keras reads them with TensorFlow, on every backend.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np

from prune_keras.models.images import Data, Pair, check_pixels

PARTS = ("train", "validation", "test")
CLASSES = ("cats", "dogs")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
Files = dict[tuple[str, str], list[Path]]
"""Files by part and class."""

FLAT = re.compile(r"(cat|dog)\.\d+\.\w+")


def load_data(folder: str | Path | None = None, image_size: int = 128, seed: int = 0) -> Data:
    """Return photos and labels, 0 for a cat and 1 for a dog, shuffled.

    Files that are no images are named in a warning and left out.

    Args:
        folder: where the photos lie. Defaults to `cats_vs_dogs` in the folder that the environment
            variable `PRUNE_KERAS_DATA` names.
        image_size: height and width that photos are scaled to.
        seed: shuffles the photos, and splits those of the flat layout.

    Returns:
        A `Data`; images are uint8 `(n, image_size, image_size, 3)`, labels integers `(n,)`.

    Raises:
        ValueError: if there is no such folder, or a part of it lacks photos of a class.
    """
    folder = _folder(folder)
    files = _sound(_files(folder, seed))
    _check(files, folder)
    with tempfile.TemporaryDirectory() as links:
        _link(files, Path(links))
        return Data(*(_read(Path(links) / part, image_size, seed) for part in PARTS))


def _folder(folder: str | Path | None) -> Path:
    if folder is None and "PRUNE_KERAS_DATA" in os.environ:
        folder = Path(os.environ["PRUNE_KERAS_DATA"]) / "cats_vs_dogs"
    if folder is None or not Path(folder).is_dir():
        raise ValueError(
            "The photos must lie in a folder. Received: "
            f"{'none' if folder is None else f'{str(folder)!r}, which is not there'}. Get Kaggle's "
            "Dogs vs. Cats, unpack it, and name its folder with --data, or set PRUNE_KERAS_DATA "
            "to the folder that holds cats_vs_dogs/."
        )
    return Path(folder)


def _files(folder: Path, seed: int) -> Files:
    """Return `{(part, class): files}`."""
    for flat in (folder, folder / "train"):
        names = sorted(path for path in _images(flat) if FLAT.fullmatch(path.name))
        if names:
            return _split(names, seed)
    return {
        (part, name): sorted(_images(folder / part / name)) for part in PARTS for name in CLASSES
    }


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]


def _split(paths: list[Path], seed: int) -> Files:
    """Deal the files of the flat layout out to the three parts, class by class."""
    random = np.random.default_rng(seed)
    files: Files = {}
    for name in CLASSES:
        of_class = [path for path in paths if f"{path.name[:3]}s" == name]
        order = [of_class[i] for i in random.permutation(len(of_class))]
        tenth = len(order) // 10
        cuts = (order[2 * tenth :], order[:tenth], order[tenth : 2 * tenth])
        files |= {(part, name): cut for part, cut in zip(PARTS, cuts, strict=True)}
    return files


def _sound(files: Files) -> Files:
    """Return the files that hold an image; warn of the others by name."""
    paths = [path for group in files.values() for path in group]
    with ThreadPoolExecutor() as pool:
        broken = {
            path
            for path, good in zip(paths, pool.map(_holds_image, paths), strict=True)
            if not good
        }
    if broken:
        names = ", ".join(str(path) for path in sorted(broken))
        warnings.warn(f"{len(broken)} files hold no image and are left out: {names}", stacklevel=3)
    return {key: [path for path in group if path not in broken] for key, group in files.items()}


def _holds_image(path: Path) -> bool:
    import tensorflow as tf  # as keras.utils.image_dataset_from_directory does

    try:
        check_pixels(path)
        tf.io.decode_image(tf.io.read_file(str(path)), channels=3, expand_animations=False)
    except (tf.errors.InvalidArgumentError, OSError, ValueError):
        return False
    return True


def _check(files: Files, folder: Path) -> None:
    for (part, name), paths in files.items():
        if not paths:
            raise ValueError(
                f"Every part must hold photos of {' and '.join(CLASSES)}. Received: no photo of "
                f"{name} for {part} in '{folder}'. Put some into {part}/{name}/, or use Kaggle's "
                "names, cat.0.jpg and dog.0.jpg, with at least ten of each."
            )


def _link(files: Files, links: Path) -> None:
    """Lay out links to the files as Keras reads them, one folder a part and class."""
    for (part, name), paths in files.items():
        (links / part / name).mkdir(parents=True)
        for number, path in enumerate(paths):
            (links / part / name / f"{number:06}{path.suffix}").symlink_to(path.resolve())


def _read(folder: Path, image_size: int, seed: int) -> Pair:
    batches = keras.utils.image_dataset_from_directory(
        folder,
        class_names=CLASSES,
        image_size=(image_size, image_size),
        batch_size=100,
        seed=seed,
        verbose=False,
    )
    images, labels = zip(*((x.numpy(), y.numpy()) for x, y in batches), strict=True)
    return np.rint(np.concatenate(images)).astype("uint8"), np.concatenate(labels)
