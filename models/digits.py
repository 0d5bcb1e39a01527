"""The demo: scikit-learn's 1,797 handwritten digits of 8x8 pixels, and a small network for them.

Everything is on the disk already, so the demo downloads nothing; it takes about two minutes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prune_keras.models import runs
from prune_keras.models.images import Data, Pair
from prune_keras.models.networks import batch_norm_stack

INPUT_SHAPE = (8, 8, 1)


def load_data(seed: int = 0) -> Data:
    """Return the digits as 997 training, 400 validation and 400 test images, pixels 0 to 255.

    Raises:
        ValueError: if scikit-learn, which brings the images, is not installed.

    Example:

    >>> [images.shape for images, labels in load_data()]
    [(997, 8, 8, 1), (400, 8, 8, 1), (400, 8, 8, 1)]
    """
    images, labels = _read()
    order = np.random.default_rng(seed).permutation(len(labels))
    parts = np.split(order, [len(order) - 800, len(order) - 400])
    return Data(*((images[part], labels[part]) for part in parts))


def network(precision: str = "float32") -> Any:
    """Four 3x3 convolutions with batch normalization, and two Dense layers.

    Example:

    >>> network().count_params()
    56866
    """
    return batch_norm_stack(
        (24, 24, 48, 48),
        96,
        dropout=(0.1, 0.3),
        padding="same",
        precision=precision,
        input_shape=INPUT_SHAPE,
        name="digits",
    )


def settings(
    seed: int = 0, epochs: int = 22, dense_epochs: int = 15, verbose: int = 1, **pruning: Any
) -> runs.Settings:
    """Return the demo's `Settings`: prune as long as at most one point of accuracy is lost.

    Args:
        seed: an integer.
        epochs: epochs with pruning and fine-tuning; the last fifth goes without a cut.
        dense_epochs: epochs before.
        verbose: see `Settings`.
        **pruning: arguments of `ProgressivePruning` that differ from the demo's.
    """
    return runs.Settings(
        model="digits",
        seed=seed,
        optimizer="sgd",
        batch_size=32,
        flip=False,
        shift=1,
        dense_epochs=dense_epochs,
        dense_learning_rate=0.05,
        epochs=epochs,
        fine_tune_epochs=epochs // 5,
        learning_rate=0.02,
        pruning={"max_drop": 0.01, "fraction": 0.2, "epochs_per_round": 2} | pruning,
        verbose=verbose,
    )


def run(output: str | Path, overwrite: bool = False, **arguments: Any) -> runs.Result:
    """Run the demo; every file goes to `output`.

    Args:
        output: a folder; made if it is not there.
        overwrite: see `prune_keras.models.runs.run`.
        **arguments: those of `settings`.

    Returns:
        A `prune_keras.models.runs.Result`.

    Raises:
        ValueError: if `output` holds the networks of another run.
    """
    return runs.run(network, load_data(), settings(**arguments), output, overwrite)


def _read() -> Pair:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "The demo's images come with scikit-learn. Received: no such package. "
            "Install it: pip install scikit-learn."
        ) from error
    digits = load_digits()
    return (digits.images[..., None] * (255 / 16)).astype("uint8"), digits.target
