"""Files of strangers: what a model's file claims is checked before anything is made of it.

Keras' safe mode lets no code of a file run. What is left are sizes: a few kilobytes can name
layers, arrays or archives of gigabytes, and other files of this machine.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import h5py
import keras

from prune_keras import _keras, arrays

SPARE = 2**26
"""Bytes that a file may claim beside what it holds."""
TIMES = 8
"""How many times what a file holds a model of it may take: more precision, an optimizer's state."""
_WEIGHTS = "model.weights.h5"


def load_model(path: str | Path, compile: bool = False) -> Any:
    """Return the model of a file, whose code is not run and whose claims are checked first.

    Args:
        path: a `.keras` or `.h5` file.
        compile: whether it is compiled as it was when it was saved. Defaults to False.

    Raises:
        ValueError: if the file is no model, holds code, points to other files, or claims more than
            it can hold.
    """
    must = f"The model must be a .keras or .h5 file that Keras can read. Received: model='{path}'"
    if not Path(path).exists():
        raise ValueError(f"{must}, which is not there. Name such a file.")
    if not Path(path).is_file():
        raise ValueError(f"{must}, which is no file. Name such a file.")
    if Path(path).suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError(f"{must}, which is no .keras archive. {READABLE}")
    try:
        held = _held(path)
        with _keras.making_at_most(SPARE + TIMES * held):
            return keras.models.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:
        raise ValueError(f"{must} ({type(error).__name__}: {error}). {READABLE}") from error


READABLE = (
    "Name such a file; a model with a class of your own is read and pruned in Python, where that "
    "class is known, and one with code of its own, if you trust it: "
    "keras.models.load_model(file, safe_mode=False)."
)


def _held(path: str | Path) -> int:
    """Return the bytes of weights that a file holds; raise a ValueError if its claims are false."""
    size = Path(path).stat().st_size
    if not zipfile.is_zipfile(path):
        with open(path, "rb") as file:
            _check_arrays(file)
        return size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        arrays.check_sizes(members, size, SPARE)
        for each in members:
            check_name(each.filename)
        if _WEIGHTS in archive.namelist():
            with archive.open(_WEIGHTS) as file:
                _check_arrays(file)
    return sum(each.file_size for each in members)


def check_name(name: str) -> None:
    """Raise a ValueError if the name of a file in an archive, or beside one, leaves its folder."""
    for kind in (PurePosixPath, PureWindowsPath):
        path = kind(name)
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise ValueError(f"{name!r} leaves the folder")


def _check_arrays(file: Any) -> None:
    """Raise a ValueError if an HDF5 file points elsewhere, or claims more than it stores."""
    spare = SPARE
    with h5py.File(file, "r") as opened:
        for name, dataset in _datasets(opened):
            if dataset.external or dataset.is_virtual:
                raise ValueError(f"{name!r} is stored in another file")
            claimed = dataset.size * dataset.dtype.itemsize if dataset.shape is not None else 0
            stored = dataset.id.get_storage_size()
            spare -= max(claimed - TIMES * stored, 0)
            if spare < 0:
                raise ValueError(f"{name!r} claims {claimed} bytes and stores {stored}")


def _datasets(group: Any) -> Iterator[tuple[str, Any]]:
    """Yield name and dataset for all in a file, each once, whatever circles links make."""
    seen, waiting = set(), [group]
    while waiting:
        current = waiting.pop()
        place = h5py.h5o.get_info(current.id).addr
        if place in seen:
            continue
        seen.add(place)
        for name in current:
            link = current.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{name!r} is a link")
            member = current[name]
            if isinstance(member, h5py.Group):
                waiting.append(member)
            elif isinstance(member, h5py.Dataset):
                yield f"{current.name}/{name}", member
