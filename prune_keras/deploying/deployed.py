"""Write a model for another runtime, run it there, and compare before reporting success."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

from keras import ops, tree

from prune_keras import _keras
from prune_keras.deploying.formats import Format, check_installed
from prune_keras.proof import Case, apart, in_one_line

# Runtimes add up in other orders than Keras does, and some fold weights of neighbours together.
_CLOSE = 1e-4


def deploy(model: Any, path: Path, form: Format, case: Case) -> None:
    """Write a model in a format, and put it in its place once it gives the model's outputs.

    Args:
        model: a built model; it is not changed.
        path: file or folder to write; what is there stays if anything fails.
        form: the format.
        case: inputs, and what the model gives for them.

    Raises:
        ValueError: if packages are missing, the model cannot be written, or what was written does
            not give the outputs of the model.
    """
    check_installed(form)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        written = Path(folder) / path.name
        _write(model, written, form)
        _compare(model, written, form, case)
        for suffix in form.beside:
            _move(written.with_suffix(suffix), path.with_suffix(suffix))
        _move(written, path)


def _write(model: Any, path: Path, form: Format) -> None:
    # What converters warn and log of is theirs; what counts is compared below.
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), _keras.unmoved(model):
            model.export(str(path), format=form.name, verbose=False)
    except Exception as error:
        raise ValueError(
            f"A model must be one that Keras can export as {form.name!r}. Received: "
            f"{model.name!r}, for which that fails: {in_one_line(error)}. "
            "Export to a .keras file, or convert the model's dtype policies to float32 first."
        ) from error
    finally:
        logging.disable(level)


def _compare(model: Any, path: Path, form: Format, case: Case) -> None:
    """Raise a ValueError unless a file gives the outputs of the model in its runtime."""
    arrays = tree.map_structure(ops.convert_to_numpy, case.inputs)
    try:
        found = form.load(path)(arrays)
    except Exception as error:
        raise ValueError(
            f"A file must run where it is meant for. Received: {model.name!r} as {form.name!r}, "
            f"which fails there: {in_one_line(error)}. Export to another format."
        ) from error
    away = max((apart(a, b) for a, b in zip(case.outputs, found, strict=True)), default=0.0)
    if away > max(_CLOSE, _keras.tolerance(model)):
        raise ValueError(
            f"A file must give the outputs of the model. Received: outputs of {model.name!r} as "
            f"{form.name!r} that differ by {away:.3g} of the largest. Export to another format."
        )


def _move(written: Path, path: Path) -> None:
    """Put a file, or a folder, which no rename replaces, where an older one may be."""
    if not written.is_dir():
        os.replace(written, path)
        return
    old = written.with_name(f"{written.name} before")
    if path.exists():
        os.replace(path, old)
    os.replace(written, path)
    if old.is_dir():
        shutil.rmtree(old)
