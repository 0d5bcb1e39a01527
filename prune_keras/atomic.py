"""Files that are written at once: a reader finds the old one or the new one, after a crash, too."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file.

    Args:
        path: the file; one that is there already stays until the new one is whole.
        content: what it will hold.
    """
    with written(path) as file:
        file.write(content)


@contextlib.contextmanager
def written(path: str | Path, named: Callable[[BinaryIO], str] | None = None) -> Iterator[BinaryIO]:
    """Give an open file that takes the place of another one once all is on the disk.

    Args:
        path: the file; one that is there already stays until the new one is whole, and for good
            where that fails.
        named: gives the name that the file gets, from what it holds. Defaults to None: its own.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with open(partial, "w+b") as file:
            yield file
            name = path.name if named is None else named(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path.with_name(name))
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


PARTIAL = ".partial"


_UNABLE = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP)  # of systems that cannot


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on the disk, too, where the system can."""
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise


def write_text(path: str | Path, text: str) -> None:
    """Write a text as UTF-8; line ends stay as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write a value as JSON; a number that JSON has no word for (NaN, infinity) becomes null.

    Args:
        path: the file.
        value: dictionaries, lists, strings and numbers.
        default: gives something of these for any other object. Defaults to None: there is none.
    """
    text = json.dumps(finite(value), indent=1, default=default, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        ValueError: if it is no JSON in UTF-8, or nested deeper than anything that is meant.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"A file must hold JSON. Received: '{path}', nested too deep.") from error


def finite(value: Any) -> Any:
    """Return a value in which numbers that JSON has no word for are None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
