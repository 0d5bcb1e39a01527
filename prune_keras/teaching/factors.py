"""Factors: what factor transfer is told, and the networks that it trains beside a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from prune_keras.validation import check_count, check_positive, check_share, check_whole

SLOPE = 0.1  # of what is below zero


@dataclass(frozen=True)
class Factors:
    """How a student learns a teacher's factors, which small networks make of both's features.

    A paraphraser of three convolutions is trained, before the first batch, so that three transposed
    ones behind it give a teacher's features back by least absolute error. A translator of three
    convolutions makes as many maps of the student's features while that trains, by an optimizer of
    its own. The loss grows by `weight * mean |F_S / |F_S| - F_T / |F_T||`, of each sample's whole
    factor. Neither network is part of the student, nor left when `fit` ends.

    Args:
        data: inputs that the paraphraser learns on: arrays, of which 4,096 samples are taken,
            `(inputs, targets)` or a dataset of batches, whose features are held in memory.
        weight: of what is added to the loss, above 0. Defaults to 500.
        rate: maps of a factor for each channel of the teacher's features, in (0, 1]. Defaults to
            0.5.
        layers: path of the layer whose features are taken, or a student's and its teacher's path.
            Both must give maps of one size, of any widths. Defaults to None: the last layer of
            maps in each.
        epochs: how often the paraphraser sees the samples. Defaults to 10.
        optimizer: the translator's, as for `compile`; of an instance, a copy is used. Defaults to
            `"adam"`.
        seed: of both networks' first weights and the order of samples. Defaults to 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> import numpy as np
    >>> from prune_keras.callbacks import Factors, Teacher
    >>> Teacher("start", logits=0.0, factors=Factors(np.zeros((8, 8, 8, 3)))).factors.weight
    500.0

    Reference:
        Kim, Park, Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer,
        2018, https://arxiv.org/abs/1802.04977.
    """

    data: Any
    weight: float = 500.0
    rate: float = 0.5
    layers: str | Sequence[str] | None = None
    epochs: int = 10
    optimizer: Any = "adam"
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive("weight", self.weight)
        check_share("rate", self.rate, upto_one=True)
        check_count("epochs", self.epochs)
        check_whole("seed", self.seed)
        keras.optimizers.get(self.optimizer)  # which raises for an unknown one
        is_pair = isinstance(self.layers, list | tuple) and len(self.layers) == 2
        if not (self.layers is None or isinstance(self.layers, str) or is_pair):
            raise ValueError(
                "`layers` must be a path, or a student's and its teacher's path. Received: "
                f"layers={self.layers!r}. Write layers=('student_relu', 'teacher_relu')."
            )

    @property
    def pair(self) -> tuple[str | None, str | None]:
        """Paths of the student's and of the teacher's layer, None for the last one with maps."""
        if self.layers is None or isinstance(self.layers, str):
            return self.layers, self.layers
        mine, other = self.layers
        return mine, other

    def new_optimizer(self) -> Any:
        """Return an optimizer for a translator, as it begins."""
        given = keras.optimizers.get(self.optimizer)
        return type(given).from_config(given.get_config())


def encoder(shape: tuple, width: int, seed: int, name: str) -> Any:
    """Return three convolutions from maps of `shape`, channels last, to `width` maps."""
    kind = _KINDS[len(shape)][0]
    return _stack(kind, shape, (shape[-1], width, width), seed, name)


def decoder(shape: tuple, width: int, seed: int) -> Any:
    """Return three transposed convolutions from `width` maps back to maps of `shape`."""
    kind = _KINDS[len(shape)][1]
    return _stack(kind, (*shape[:-1], width), (width, shape[-1], shape[-1]), seed, "decoder")


def _stack(kind: type, shape: tuple, widths: Sequence[int], seed: int, name: str) -> Any:
    """Return layers in float32, whatever policy the models around them have."""
    x = given = keras.Input(shape, name=f"{name}_input", dtype="float32")
    for number, width in enumerate(widths):
        drawn = keras.initializers.GlorotUniform(1000 * seed + number)
        own = {"name": f"{name}_{number}", "dtype": "float32", "data_format": "channels_last"}
        x = kind(width, 3, padding="same", kernel_initializer=drawn, **own)(x)
        x = layers.LeakyReLU(SLOPE, dtype="float32", name=f"{name}_{number}_relu")(x)
    made = keras.Model(given, x, name=name)
    made.dtype_policy = "float32"
    return made


_KINDS = {
    2: (layers.Conv1D, layers.Conv1DTranspose),
    3: (layers.Conv2D, layers.Conv2DTranspose),
    4: (layers.Conv3D, layers.Conv3DTranspose),
}
"""Number of axes of a sample -> a convolution and a transposed one."""
