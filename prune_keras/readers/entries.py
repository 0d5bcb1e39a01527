"""Entries: the numbers that a layer reads for one response, and the neurons that they are of."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend


def entries_of(neurons: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the entries of each neuron, those neurons together that have as many.

    Args:
        neurons: `(entries,)`, the neuron in each entry.

    Returns:
        `(entries, neurons)` arrays: entry `i` of each neuron of an array lies in row `i`.

    Example: a map of two places and three channels, that was flattened, and a fixed entry.

    >>> for places in entries_of(np.array([0, 1, 2, 0, 1, 2, 7])):
    ...     print(places.tolist())
    [[6]]
    [[0, 1, 2], [3, 4, 5]]
    """
    order = np.argsort(neurons, kind="stable")
    _, counts = np.unique(neurons, return_counts=True)
    entries = np.split(order, np.cumsum(counts)[:-1])
    return tuple(
        np.stack([each for each in entries if len(each) == count], axis=1)
        for count in np.unique(counts)
    )


def numbers(value: Any) -> np.ndarray:
    """Return a tensor as an array of float32, or of float64 where it has as many digits."""
    found = np.asarray(ops.convert_to_numpy(value))
    return found if found.dtype == np.float64 else found.astype(np.float32, copy=False)


def taken(rows: Any, places: np.ndarray) -> np.ndarray:
    """Return some rows of a tensor as an array; all of them are not made one."""
    return numbers(_backend.take(rows, places.astype("int32"), 0))
