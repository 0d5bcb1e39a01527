"""Folders of photos that a network can tell apart, as the runs take them."""

import keras
import numpy as np

from prune_keras.models import photos

RANDOM = np.random.default_rng(0)


def photo(dog, size=40):
    """Return noise that is brighter above for a cat, below for a dog."""
    pixels = RANDOM.integers(0, 120, (size, size, 3))
    pixels[size // 2 :] += 100 * dog
    pixels[: size // 2] += 100 * (1 - dog)
    return pixels.astype("uint8")


def write_photos(folder, counts=None):
    for part, count in (counts or {"train": 32, "validation": 16, "test": 16}).items():
        for dog, name in enumerate(photos.CLASSES):
            (folder / part / name).mkdir(parents=True)
            for i in range(count // 2):
                keras.utils.save_img(folder / part / name / f"{name[:3]}.{i}.png", photo(dog))
    return folder
