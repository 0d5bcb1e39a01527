"""The end of a dataset of batches: how many there are, and what is done if that is not told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from typing import Any

import keras

MOST = 10_000
"""Batches that are read of a dataset without a length, before it passes for endless."""


def number_of(data: Any) -> float | None:
    """Return the number of batches of a dataset, infinity where it has no end, None if unknown.

    Example:

    >>> number_of([1, 2, 3]), number_of(iter([1, 2, 3]))
    (3, None)
    """
    if isinstance(data, keras.utils.PyDataset):
        try:
            number = data.num_batches
        except NotImplementedError:  # Keras cannot fit on it either
            number = None
        return math.inf if number is None else number
    if hasattr(data, "cardinality"):
        number = int(data.cardinality())
        return {-1: math.inf, -2: None}.get(number, number)
    try:
        return len(data)
    except TypeError:
        return None


def read(data: Any) -> Iterator[Any]:
    """Yield the batches of a dataset.

    Raises:
        ValueError: if there are more than `MOST`, and it did not tell how many.
    """
    known = number_of(data) is not None
    for number, batch in enumerate(_indexed(data) if _is_indexed(data) else data):
        if number >= MOST and not known:
            raise ValueError(
                f"`data` must end, or tell its length. Received: more than {MOST} batches of a "
                f"{type(data).__name__} without a length. "
                "Pass a list or a PyDataset of them, or fewer and larger ones."
            )
        yield batch


def _is_indexed(data: Any) -> bool:
    return isinstance(data, keras.utils.PyDataset)


def _indexed(data: Any) -> Iterator[Any]:
    number = number_of(data)
    return (data[place] for place in (count() if number == math.inf else range(int(number or 0))))


def check_end_is_told(data: Any) -> None:
    """Raise a ValueError for a dataset that says that it has no end."""
    if number_of(data) != math.inf:
        return
    if _is_indexed(data):
        raise ValueError(
            "`data` must end. Received: a PyDataset without a number of batches, "
            f"{type(data).__name__}. Let its `num_batches` return how many there are."
        )
    raise ValueError(
        "`data` must end. Received: a dataset that repeats forever. "
        "Pass data.take(number_of_batches)."
    )
