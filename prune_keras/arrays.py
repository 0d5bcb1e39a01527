"""Arrays in files: `.npz` without pickle, and read no further than what their bytes can be.

A few kilobytes can claim to hold gigabytes: in the header of an array, in the table of a zip file,
or by zeros that were packed. All claims are compared with each other, and with the size of the
file, before anything is allocated.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MOST_PACKED = 1100
"""What deflate makes of a byte at most is 1032 bytes; files that pack more are not deflated."""
MOST = 2**30
"""Bytes that packed arrays may take all together."""
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, NotImplementedError)


def write(file: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write arrays to an open file as `.npz`, as they are: nothing is packed or pickled."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as opened:
                np.lib.format.write_array(opened, np.asanyarray(value), allow_pickle=False)


def read(path: str | Path, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Return the arrays of an `.npz` file.

    Args:
        path: the file.
        names: which of them to read, if they are there. Defaults to None: all.

    Returns:
        Name -> array.

    Raises:
        ValueError: if the file is missing or no `.npz`, holds objects, or claims to hold more than
            it can.

    Example:

    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=np.arange(3), y=np.zeros(2))
    ...     read(f"{folder}/a.npz", ("x", "z"))
    {'x': array([0, 1, 2])}
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}
            chosen = members if names is None else {n: members[n] for n in names if n in members}
            check_sizes(chosen.values(), Path(path).stat().st_size)
            for each in chosen.values():
                _check_header(archive, each)
        with np.load(path, allow_pickle=False) as loaded:
            return {name: loaded[name] for name in chosen}
    except _DAMAGED as error:
        raise ValueError(
            "A file of arrays must be a whole .npz, as np.savez writes it. Received: "
            f"'{path}' ({type(error).__name__}: {error}). Write it anew, or name another one."
        ) from error
    except MemoryError as error:
        raise ValueError(
            f"The arrays of a file must fit into memory. Received: '{path}'. Store fewer samples."
        ) from error


def check_sizes(members: Any, held: int, spare: int = MOST) -> None:
    """Raise a ValueError if the table of a zip file claims more than the file can hold.

    Args:
        members: entries of the table.
        held: bytes of the file.
        spare: bytes that what is packed may take. Defaults to `MOST`; twenty times the file where
            that is more.
    """
    for each in members:
        if each.compress_type not in _PACKINGS:
            raise ValueError(f"{each.filename!r} is packed by another method than deflate")
        if each.file_size > MOST_PACKED * (each.compress_size + 1):
            raise ValueError(f"{each.filename!r} claims {each.file_size} bytes")
    if sum(each.compress_size for each in members) > held:
        raise ValueError("its members overlap")
    packed = sum(each.file_size for each in members if each.compress_type != zipfile.ZIP_STORED)
    if packed > max(spare, 20 * held):
        raise ValueError(f"{held} bytes would become {packed}")


def _check_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Raise a ValueError if the header of an array claims other sizes than its bytes have."""
    with archive.open(member) as opened:
        version = np.lib.format.read_magic(opened)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename!r} has a header of version {version}")
        shape, _, dtype = _HEADERS[version](opened, max_header_size=10_000)
        if dtype.hasobject:
            raise ValueError(f"{member.filename!r} holds objects, which could run code")
        left = member.file_size - opened.tell()
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{member.filename!r} claims shape {shape} for {left} bytes")
