"""Export: write a model for plain Keras, read it back, and compare before reporting success."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.deploying import Format, deploy, format_of
from prune_keras.proof import (
    Case,
    case_of,
    check_configs,
    check_outputs,
    check_weights,
    in_one_line,
)
from prune_keras.quantizing import writing
from prune_keras.tracing import rule_for, trace
from prune_keras.tracing.opening.opened import may_be_opened
from prune_keras.unfolding import unfolded


def export(
    model: Any,
    path: str | Path,
    samples: Any = None,
    format: str | None = None,
    int8: Any = None,
) -> Path:
    """Save a model without optimizer state, and prove that what was written is the model.

    The file is loaded again, and must have equal weights and give equal outputs, before it takes
    its place under `path`; an older file stays if anything fails. Models of a class of your own are
    written as the plain graphs that they are, which need no class to be read; so are layers of
    your own, where their class or config cannot bring back what they are. Where this machine
    has no kernel for a layer, outputs cannot be compared: weights and configs are, and a warning
    tells so. Other formats are written by `keras.Model.export`, and run in their own runtime to
    compare outputs.

    In eight bits, a `.tflite` file is for one sample at a time; kernels are held with a scale for
    each output channel, activations with one for each tensor, inputs and outputs included.

    Args:
        model: a built model; it is not changed.
        path: file to write; ends in `.h5` or `.keras`, or as `format` says: `.onnx` for ONNX,
            `.tflite` for LiteRT, `.xml` for OpenVINO, and anything else for the folder of a
            TensorFlow SavedModel.
        samples: inputs to compare the outputs on, as `predict` takes them. Defaults to None: two
            samples, or as many as the model asks for, are drawn; axes that are open get a size that
            the model can run at.
        format: one of `"h5"`, `"keras"`, `"tf_saved_model"`, `"onnx"`, `"litert"`, `"openvino"`.
            Defaults to None: as `path` ends; a SavedModel must be asked for.
        int8: for a `.tflite` file in eight bits: the `prune_keras.Quantization` that the model was
            trained for, or `prune_keras.calibrate` gave, with which the file gives what training
            saw; or samples, on which LiteRT finds scales of its own, for any model that it has
            kernels for. Defaults to None: floating point.

    Returns:
        The path.

    Raises:
        ValueError: if the ending is unknown, the format cannot hold a layer of the model or needs
            packages that are missing, or the model cannot run on the samples, or has no finite
            outputs there.

    Example:

    >>> import keras, prune_keras, tempfile
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     prune_keras.export(model, f"{folder}/model.h5").name
    'model.h5'
    """
    path = Path(path)
    _keras.check_model(model)
    form = format_of(path, format)
    if int8 is not None:
        _check_holds_int8(path, form)
        writing.write(model, path, samples, int8)
        return path
    if _keras.graph_of(model) is None:
        trace(model)  # which looks into a `call` of its own
    if form is not None:
        _keras.check_runs(model)
        deploy(model, path, form, case_of(model, samples))
        return path
    missing = _keras.missing_kernel(model)
    case = case_of(model, samples) if missing is None else None
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        _write(model, written, case)
        os.replace(written, path)
    if missing is not None:
        _warn(path, missing)
    return path


def _check_holds_int8(path: Path, form: Format | None) -> None:
    if form is None or form.name != "litert":
        raise ValueError(
            f"Eight bits are held by .tflite files. Received: path={str(path)!r}, with int8. "
            "Export to a path that ends in .tflite."
        )


def _write(model: Any, path: Path, case: Case | None) -> None:
    """Write a model, or what it is made of where a file of that could not be read."""
    if _keras.function_of(model) is None:
        _prove(model, _unfolded(model, path), path, case)
        return
    try:
        _prove(model, _keras.plain(model), path, case)
    except ValueError:
        if not _has_layers_to_open(model) or not _is_proved_unfolded(model, path, case):
            raise


def _is_proved_unfolded(model: Any, path: Path, case: Case | None) -> bool:
    try:
        _prove(model, _unfolded(model, path), path, case)
    except ValueError:
        return False
    return True


def _unfolded(model: Any, path: Path) -> Any:
    """Return the plain model of one, and warn of what it does in training only, which is lost."""
    lost: list[str] = []

    def loses(layer: Any) -> bool:
        lost.append(layer.name)
        return True

    plain = unfolded(model, loses=loses)
    if lost:
        warnings.warn(
            f"{path.name} holds what {', '.join(dict.fromkeys(lost))} does in inference, and "
            "nothing of what it does in training only. To train what is read back as it was, "
            "save the model with its classes.",
            stacklevel=5,
        )
    return plain


def _prove(model: Any, plain: Any, path: Path, case: Case | None) -> None:
    """Write a plain model, and compare what is read back with the one that it is a copy of."""
    _save(plain, path)
    _compare(model, plain, _load(plain, path), case, path.suffix)


def _has_layers_to_open(model: Any) -> bool:
    layers = _keras.operations_in(model)
    return any(may_be_opened(each) and rule_for(each) is None for each in layers)


def _save(model: Any, path: Path) -> None:
    try:
        with _keras.uncompiled(model), _keras.without_optimizer(model), _keras.quiet():
            if path.suffix == ".h5":
                model.save(path, include_optimizer=False)
            else:
                model.save(path)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(_not_held(model, path.suffix, "writing", error)) from error


def _load(model: Any, path: Path) -> Any:
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as error:
        raise ValueError(_not_held(model, path.suffix, "reading", error)) from error


def _not_held(model: Any, suffix: str, doing: str, error: Exception) -> str:
    suspects = [op.name for op in _keras.operations_in(model) if not _keras.is_layer(op)]
    if suffix == ".h5" and suspects:
        return (
            f"A .h5 file holds layers only. Received: {model.name!r} with the raw operation "
            f"{suspects[0]!r} ({len(suspects)} in all), with which Keras cannot read the file "
            "back. Export to a path that ends in .keras."
        )
    blamed = _keras.unreadable_layer(model, suffix)
    layer, reason = ("", error) if blamed is None else (f"layer {blamed[0].name!r} of ", blamed[1])
    other = "Export to a path that ends in .keras. " if suffix == ".h5" else ""
    return (
        f"A {suffix} file must be readable by plain Keras. Received: {layer}{model.name!r}, with "
        f"which {doing} fails: {in_one_line(reason)}. {other}"
        "Look for arguments that get_config lacks, and for classes that are not registered."
    )


def _compare(model: Any, plain: Any, read: Any, case: Case | None, suffix: str) -> None:
    """Raise a ValueError unless what was read of a plain model is the same model."""
    try:
        if not _keras.has_lora(model):  # what LoRA adds to a weight is a part of it in the file
            check_weights(plain, read)
        if case is None:
            check_configs(plain, read)
        else:
            check_outputs(plain, read, case)
    except ValueError as error:
        if suffix == ".h5":
            error.args = (f"{error} Export to a path that ends in .keras.",)
        raise


def _warn(path: Path, missing: _keras.Missing) -> None:
    warnings.warn(
        f"{path.name} was compared by weights and configs only: outputs cannot be computed here, "
        f"as {keras.backend.backend()} has no kernel for {missing} on this machine. Read it where "
        "there is one, or set TF_ENABLE_ONEDNN_OPTS=1, to compare outputs, too.",
        stacklevel=3,
    )
