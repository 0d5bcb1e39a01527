"""Export: write a model for plain Keras, read it back, and compare before reporting success."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras

SUFFIXES = (".h5", ".keras")


def export(model: Any, path: str | Path) -> Path:
    """Save a model without optimizer state, and prove that plain Keras reads it back.

    The file is loaded again, and must have equal weights and give equal outputs, before it takes
    its place under `path`; an older file stays if anything fails. Models of a class of your own are
    written as the plain graphs that they are, which need no class to be read.

    Args:
        model: a built functional or Sequential model; it is not changed.
        path: file to write; ends in `.h5` or `.keras`.

    Returns:
        The path.

    Raises:
        ValueError: if the ending is unknown, or the format cannot hold a layer of the model.

    Example:

    >>> import keras, prune_keras, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prune_keras.export(model, f"{folder}/model.h5").name
    'model.h5'
    """
    path = Path(path)
    _keras.check_model(model)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"`path` must end in one of {SUFFIXES}. Received: path={str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        plain = _keras.plain(model)
        _save(plain, written)
        _compare(model, plain.weights, _load(plain, written))
        os.replace(written, path)
    return path


def _save(model: Any, path: Path) -> None:
    with _keras.uncompiled(model), _keras.without_optimizer(model), _keras.quiet():
        if path.suffix == ".h5":
            model.save(path, include_optimizer=False)
        else:
            model.save(path)


def _load(model: Any, path: Path) -> Any:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(_unreadable(model, path.suffix, error)) from error


def _unreadable(model: Any, suffix: str, error: Exception) -> str:
    suspects = [op.name for op in _keras.operations_in(model) if not _keras.is_layer(op)]
    if suffix == ".h5" and suspects:
        return (
            f"A .h5 file holds layers only. Received: {model.name!r} with the raw operation "
            f"{suspects[0]!r} ({len(suspects)} in all), with which Keras cannot read the file "
            "back. Export to a path that ends in .keras."
        )
    reason = str(error).strip().splitlines()[0]
    named = [op.name for op in _keras.operations_in(model) if _is_blamed(op, str(error))]
    layer = f"layer {named[0]!r} of " if named else ""
    other = " Export to a path that ends in .keras." if suffix == ".h5" else ""
    return (
        f"A {suffix} file must be readable by plain Keras. Received: {layer}{model.name!r}, with "
        f"which reading fails: {reason}{other}"
    )


def _is_blamed(operation: Any, text: str) -> bool:
    """Tell whether an error of Keras names an operation, or its class, which a file may lack."""
    return any(f"'{name}'" in text for name in (operation.name, type(operation).__name__))


def _compare(model: Any, weights: list, read: Any) -> None:
    # What LoRA adds to a weight is a part of it in the file.
    pairs = () if _keras.has_lora(model) else zip(weights, read.weights, strict=True)
    for old, new in pairs:
        if not np.array_equal(_array(old), _array(new), equal_nan=True):
            raise ValueError(
                f"A file must give back the weights it was written from. Received: {old.path} "
                "differs after reading. Export to the other format."
            )
    inputs, close = _keras.sample_inputs(model), _keras.tolerance(model)
    for old, new in zip(_outputs(model, inputs), _outputs(read, inputs), strict=True):
        if not np.allclose(old, new, rtol=0, atol=close * np.abs(old).max(), equal_nan=True):
            raise ValueError(
                "A file must give back the outputs of the model. Received: outputs of "
                f"{model.name!r} that differ by {np.abs(old - new).max():.3g} after reading. "
                "Look for layers whose get_config is incomplete."
            )


def _outputs(model: Any, inputs: Any) -> list[np.ndarray]:
    return [_array(t) for t in keras.tree.flatten(model(inputs, training=False))]


def _array(tensor: Any) -> np.ndarray:
    value = ops.convert_to_numpy(ops.convert_to_tensor(tensor))
    return value.astype(np.float64) if value.dtype.kind not in "iub" else value
