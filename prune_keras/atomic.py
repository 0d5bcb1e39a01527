"""Files that are written at once: a reader finds the old one or the new one, after a crash, too."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file.

    Args:
        path: the file; one that is there already stays until the new one is whole.
        content: what it will hold.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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


def finite(value: Any) -> Any:
    """Return a value in which numbers that JSON has no word for are None."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
