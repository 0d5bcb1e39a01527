"""CIFAR-10: the networks by name, the data, and the run that trains one and makes it thinner."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import keras

from prune_keras.models import precision as precision_
from prune_keras.models import runs
from prune_keras.models.images import Data, read_npz, split
from prune_keras.models.networks import batch_norm_stack, read_model, resnet, stack

__all__ = ["batch_norm_stack", "build", "load_data", "resnet", "run", "settings", "stack"]

STACKS = {"stack": stack, "batch-norm-stack": batch_norm_stack}
RESNET = r"resnet(\d+)(-[ab])?"
FILE_SUFFIXES = (".keras", ".h5")


def load_data(path: str | Path | None = None) -> Data:
    """Return the 45,000 training, 5,000 validation and 10,000 test images of CIFAR-10.

    The training images are shuffled, always in the same way, and the last tenth of them is kept for
    validation.

    Args:
        path: an `.npz` file with `x_train`, `y_train`, `x_test`, `y_test`. Defaults to
            `cifar10.npz` in the folder that the environment variable `PRUNE_KERAS_DATA` names,
            else to `keras.datasets.cifar10`, which downloads it.

    Returns:
        A `Data` of three pairs `(images, labels)`: `train`, `validation`, `test`. Images are uint8
        `(n, 32, 32, 3)`, labels integers `(n,)`.

    Raises:
        ValueError: if the file is missing or does not hold these arrays.
    """
    folder = os.environ.get("PRUNE_KERAS_DATA")
    if path is None and folder:
        path = Path(folder) / "cifar10.npz"
    if path is None:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
        return split(x_train, y_train.reshape(-1), x_test, y_test.reshape(-1))
    return split(*read_npz(path))


def build(model: str | Path = "stack", precision: str = "float32") -> Any:
    """Return a dense network by name, untrained, or the one that a file holds.

    Args:
        model: `"stack"`, `"batch-norm-stack"`, `"resnet20"` (of any depth `6n + 2`, shortcuts of
            option A; `"resnet20-b"` has option B), or a `.keras` or `.h5` file.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.

    Returns:
        A built `keras.Model`.

    Raises:
        ValueError: if there is no such name, no such file, or nothing that Keras can read in it.

    Example:

    >>> build("resnet32-b").name
    'resnet32_b'
    """
    if is_file(model):
        return precision_.convert(read_model(model), precision)
    if model in STACKS:
        return STACKS[model](precision=precision)
    found = re.fullmatch(RESNET, str(model))
    if found is None:
        raise ValueError(
            f"The model must be one of {', '.join(STACKS)}, resnet20, resnet20-b (or another depth "
            f"6n + 2), or a .keras or .h5 file. Received: model={model!r}. Choose one of these."
        )
    return resnet(int(found[1]), (found[2] or "-a")[1:].upper(), precision=precision)


def is_file(model: str | Path) -> bool:
    """Tell whether a model is meant as a file rather than a name."""
    return Path(model).suffix in FILE_SUFFIXES


def settings(model: str | Path = "stack", **changes: Any) -> runs.Settings:
    """Return the `Settings` that suit a network, with what the caller changes.

    The stacks learn with Adam; residual networks, and networks from a file, which are not trained
    before they are pruned, with SGD. A sixth of the epochs goes without a cut.

    Args:
        model: as in `build`.
        **changes: fields of `Settings`; `None` means no change.

    Example:

    >>> suited = settings("resnet20", epochs=12)
    >>> suited.optimizer, suited.fine_tune_epochs
    ('sgd', 2)
    """
    suited: dict[str, Any] = {"optimizer": "adam", "dense_epochs": 40}
    if model not in STACKS:
        suited = {"optimizer": "sgd", "dense_epochs": 0 if is_file(model) else 80}
    suited |= {name: value for name, value in changes.items() if value is not None}
    suited.setdefault("fine_tune_epochs", suited.get("epochs", runs.Settings.epochs) // 6)
    rates = {"adam": (1e-3, 3e-4), "sgd": (0.1, 0.02)}.get(suited["optimizer"], (0.0, 0.0))
    suited = dict(zip(("dense_learning_rate", "learning_rate"), rates, strict=True)) | suited
    return runs.Settings(model=str(model), **suited)


def run(
    output: str | Path,
    model: str | Path = "stack",
    path: str | Path | None = None,
    overwrite: bool = False,
    **changes: Any,
) -> runs.Result:
    """Train or load a dense network, prune it while it trains on, and write everything down.

    Args:
        output: folder for the networks, tables and pictures; made if it is not there. Networks that
            an earlier run with the same data and settings left there are not made again.
        model: as in `build`.
        path: as in `load_data`.
        overwrite: see `prune_keras.models.runs.run`.
        **changes: fields of `Settings`.

    Returns:
        A `prune_keras.models.runs.Result`.

    Raises:
        ValueError: if `output` holds the networks of another run.
    """
    chosen = settings(model, **changes)
    data = load_data(path)
    return runs.run(lambda: build(model, chosen.precision), data, chosen, output, overwrite)
