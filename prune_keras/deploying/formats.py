"""Formats of other runtimes: how their files end, what they need, and what runs them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_keras.deploying import runtimes


@dataclass(frozen=True)
class Format:
    """A format that `keras.Model.export` writes.

    Args:
        name: what Keras calls it.
        suffix: how its files end; `""` for a folder.
        packages: what must be importable to write and to run it, beside Keras' backend: the name
            of the module -> the name under which it is installed.
        load: what opens a file in its runtime, see `runtimes`.
        beside: suffixes of files that belong to the one named. Defaults to none.
    """

    name: str
    suffix: str
    packages: dict[str, str]
    load: Callable[[Path], Callable[[Any], list]]
    beside: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """Names under which what is not there is installed."""
        return [installed for name, installed in self.packages.items() if not _is_there(name)]


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # of a module that stands for none
        return False


FORMATS = {
    each.name: each
    for each in (
        Format("tf_saved_model", "", {"tensorflow": "tensorflow"}, runtimes.saved_model),
        Format(
            *("onnx", ".onnx"),
            {"onnx": "onnx", "tf2onnx": "tf2onnx", "onnxruntime": "onnxruntime"},
            runtimes.onnx,
        ),
        Format("litert", ".tflite", {"tensorflow": "tensorflow"}, runtimes.litert),
        Format("openvino", ".xml", {"openvino": "openvino"}, runtimes.openvino, (".bin",)),
    )
}


def format_of(path: Path, name: str | None = None) -> Format | None:
    """Return the format that a name or the end of a path asks for; None for a file of Keras.

    Raises:
        ValueError: if there is none, or name and path do not fit.

    Example:

    >>> format_of(Path("thin.onnx")).name, format_of(Path("thin.keras"))
    ('onnx', None)
    """
    suffixes = {"h5": ".h5", "keras": ".keras"}
    suffixes |= {each.name: each.suffix for each in FORMATS.values()}
    if name is None:
        named = {suffix: name for name, suffix in suffixes.items() if suffix}
        name = named.get(path.suffix)
    if name is None or suffixes.get(name, path.suffix) not in ("", path.suffix):
        raise ValueError(
            f"`path` must end as its format does: {_listed(suffixes)}. Received: "
            f"path={str(path)!r}, format={name!r}. Name such a file, or format='tf_saved_model' "
            "for a folder."
        )
    if name not in suffixes:
        raise ValueError(f"`format` must be one of {[*suffixes]}. Received: format={name!r}.")
    return FORMATS.get(name)


def _listed(suffixes: dict[str, str]) -> str:
    return ", ".join(f"{suffix} for {name}" for name, suffix in suffixes.items() if suffix)


def check_installed(form: Format) -> None:
    """Raise a ValueError unless all that writes and runs a format is there."""
    if form.missing:
        raise ValueError(
            f"The format {form.name!r} is written and tried with packages of its own. Received: "
            f"an environment without {', '.join(form.missing)}. "
            f"Install them: pip install {' '.join(form.missing)}."
        )
