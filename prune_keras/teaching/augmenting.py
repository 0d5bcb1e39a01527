"""Augmenting: layers that move images at random, and only those that a student sees."""

from __future__ import annotations

from typing import Any

from prune_keras import _keras
from prune_keras.teaching.teacher import Teacher

_MOVING = (
    *("RandomFlip", "RandomTranslation", "RandomRotation", "RandomZoom", "RandomCrop"),
    *("RandomShear", "RandomPerspective", "RandomElasticTransform", "CutMix", "MixUp"),
)


def moving_layers(model: Any) -> list[str]:
    """Return the names of a model's layers that move images at random while it trains."""
    return [each.name for each in _keras.all_layers(model) if type(each).__name__ in _MOVING]


def check_images(model: Any, asked: Teacher) -> None:
    """Raise a ValueError if maps would be compared that are of images that only a student sees."""
    moved = moving_layers(model)
    if moved and asked.compares:
        raise ValueError(
            "Features, attention and factors must be of the same images in both models. Received: "
            f"{model.name!r} with {moved[0]!r}, which moves those of the student alone. Augment "
            "images in the dataset, or learn by logits."
        )
