"""Processes: what several of them that train one model tell each other.

Each function is called by all processes at once, with what it is in its own one, and returns the
same everywhere. Where there is one process, nothing is exchanged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops, tree

from prune_keras import _backend


def count() -> int:
    """Return the number of processes."""
    return _backend.processes()[0]


def is_first() -> bool:
    """Tell whether this process is the one that writes files."""
    return _backend.processes()[1] == 0


def digest(told: Any) -> str:
    """Return a text that is the same wherever what was told is the same.

    Args:
        told: lists, texts, numbers and dicts of them, such as `plan.to_dict()`.

    Example:

    >>> digest({"kept": [0, 2], "width": 4}) == digest({"width": 4, "kept": [0, 2]})
    True
    >>> digest({"kept": [0, 2]})[:8], len(digest([]))
    ('eb1bcca7', 64)
    """
    text = json.dumps(told, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differing(digests: list[str]) -> list[int]:
    """Return the places of digests that are not the first one.

    Example:

    >>> differing(["a", "a", "b"])
    [2]
    """
    return [place for place, each in enumerate(digests) if each != digests[0]]


def check_same(told: Any, rule: str, way_out: str) -> None:
    """Raise a ValueError in all processes unless each of them tells the same.

    Args:
        told: what `digest` takes.
        rule: what must hold, as a sentence.
        way_out: what to do if it does not, as a sentence.
    """
    if count() == 1:
        return
    mine = np.frombuffer(bytes.fromhex(digest(told)), np.uint8)
    digests = [each.tobytes().hex() for each in _backend.gathered(mine)]
    others = differing(digests)
    if others:
        raise ValueError(
            f"{rule} Received: {digests[0][:12]} in process 0, "
            f"{digests[others[0]][:12]} in process {others[0]}. {way_out}"
        )


def check_plan(told: Any) -> None:
    """Raise a ValueError in all processes unless all of them are about to cut the same.

    Args:
        told: `plan.to_dict()` of this process.
    """
    check_same(
        told,
        "All processes must choose the same plan, and nothing was cut.",
        "Give a `seed` to what is drawn, and the same arguments to the callbacks of all processes.",
    )


def mean(value: float | None) -> float | None:
    """Return the mean of a number; None if a process has none."""
    if count() == 1:
        return value
    found = _numbers(value)
    if np.isnan(found).any():
        return None if value is None else float("nan")
    return float(found[0]) if (found == found[0]).all() else float(found.mean())


def most(value: float | None) -> float | None:
    """Return the largest of a number in all processes; None stays None."""
    return value if value is None or count() == 1 else float(_numbers(value).max())


def _numbers(value: float | None) -> np.ndarray:
    return np.array([*_gathered(np.array(np.nan if value is None else value, np.float64))])


def joined(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield each batch of all processes as one, those of the first process first.

    Raises:
        ValueError: if batches are not as many or not of the same shapes in all processes.
    """
    if count() == 1:
        yield from batches
        return
    while True:
        batch = next(batches, None)
        arrays = tree.map_structure(_array, batch)
        check_same(
            [f"{each.dtype} {each.shape}" for each in tree.flatten(arrays) if each is not None],
            "Each process must hold as many samples of `data`, of the same shapes.",
            "Share the samples out equally, and leave out those that are over.",
        )
        if batch is None:
            return
        yield tree.map_structure(_joined, arrays)


def _array(tensor: Any) -> np.ndarray | None:
    return None if tensor is None else np.asarray(ops.convert_to_numpy(tensor))


def _joined(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else np.concatenate([*_gathered(array)])


def _gathered(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an array of each process, bit for bit, where a backend would round wide types."""
    raw = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
    for each in _backend.gathered(raw):
        yield np.frombuffer(each.tobytes(), array.dtype).reshape(array.shape)
