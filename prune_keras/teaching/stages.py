"""Stages: which outputs inside of a model are compared, and along which axis channels lie."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.graph import Graph, Tensor


def channel_axis(record: Tensor | None) -> int | None:
    """Return the axis along which a tensor's channels lie, the batch counted; None if none does."""
    if record is None or record.batch != 0:
        return None
    along = [axis for axis, size in enumerate(record.neurons.shape, start=1) if size > 1]
    return along[0] if len(along) == 1 else None


def stage_ends(model: Any, graph: Graph) -> list[str]:
    """Return the paths of the last layer of each size of maps, where layers with units give maps.

    Of a model without maps, that is the last hidden layer. What the model gives itself is left out.
    """
    records = {id(record.tensor): record for record in graph.tensors}
    ends: dict[tuple, str] = {}
    sizes = set()
    for place in _keras.places(model):
        axis = channel_axis(records.get(id(place.tensor)))
        if axis is None or place.is_output:
            continue
        size = tuple(np.delete(np.array(place.tensor.shape, object), [0, axis]))
        ends[size] = place.path
        if place.path in graph.producers:
            sizes.add(size)
    maps = {size for size in sizes if size and all(n is None or n > 1 for n in size)}
    chosen = maps or sizes
    return list(dict.fromkeys(path for size, path in ends.items() if size in chosen))


def calls_of(model: Any, paths: Collection[str], whose: str) -> list[_keras.Place]:
    """Return all calls of operations that stand under some paths, in the order they are run.

    An operation that also stands under other paths has its calls there among them.

    Raises:
        ValueError: if there is nothing under a path.
    """
    found = _keras.places(model)
    for path in paths:
        if path not in {place.path for place in found}:
            raise ValueError(
                f"Layers that are compared must be calls in the {whose}'s graph. Received: path "
                f"{path!r}, while {model.name!r} has {_few(place.path for place in found)}. Tell "
                "in `layers` which layer of the student is compared with which of the teacher."
            )
    chosen = {id(place.operation) for place in found if place.path in paths}
    return [place for place in found if id(place.operation) in chosen]


def _few(paths: Iterator[str]) -> str:
    known = list(dict.fromkeys(paths))
    return ", ".join(map(repr, known[:12])) + (" and more" if len(known) > 12 else "")
