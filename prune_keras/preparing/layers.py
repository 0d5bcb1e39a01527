"""Layers: which of a model's layers, or families of neurons, are prepared for a cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

import keras

from prune_keras.graph import IS_OUTPUT, Family, Graph, Producer

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def families_in(graph: Graph, layers: Sequence[str] | None) -> list[Family]:
    """Return the families of which all layers are chosen.

    Args:
        graph: the model's graph.
        layers: paths of layers, or patterns. None for all but the first convolution.

    Raises:
        ValueError: if a pattern names no layer, or there is no such family.
    """
    paths = _paths(graph, layers)
    found = [family for family in graph.families if paths.issuperset(family.paths)]
    if not found:
        raise ValueError(
            "There must be neurons that can be pruned, and of which all layers are chosen. "
            f"Received: layers={layers!r}, while families are "
            f"{[family.paths for family in graph.families]}. Name all layers of a family."
        )
    return found


def producers_in(graph: Graph, layers: Sequence[str] | None) -> list[Producer]:
    """Return the layers chosen, by default all but the first convolution and those of outputs.

    Args:
        graph: the model's graph.
        layers: paths of layers, or patterns.

    Raises:
        ValueError: if a pattern names no layer, or there is none.
    """
    paths = _paths(graph, layers)
    ends = set() if layers is not None else {f.path for f in graph.fixed if f.reason == IS_OUTPUT}
    found = [p for path, p in graph.producers.items() if path in paths - ends]
    if not found:
        raise ValueError(
            "There must be a layer with weights beside the first convolution and the outputs. "
            f"Received: layers={layers!r}, while layers are {[*graph.producers]}. Name layers."
        )
    return found


def check_layers(layers: Sequence[str] | None) -> None:
    """Raise a ValueError unless `layers` is None or a sequence of patterns."""
    listed = isinstance(layers, Sequence) and not isinstance(layers, str)
    if layers is not None and not (listed and all(isinstance(each, str) for each in layers)):
        raise ValueError(
            "`layers` must be a list of paths of layers, or of patterns. "
            f"Received: layers={layers!r}. Write ['block1*']."
        )


def _paths(graph: Graph, layers: Sequence[str] | None) -> set[str]:
    known = graph.producers
    if layers is None:
        kernels = ((path, p.layer) for path, p in known.items())
        first = next((path for path, layer in kernels if isinstance(layer, _CONVOLUTIONS)), None)
        return {*known} - {first}
    return set().union(*(_named(pattern, known) for pattern in layers))


def _named(pattern: str, known: Collection[str]) -> list[str]:
    found = [pattern] if pattern in known else [p for p in known if fnmatchcase(p, pattern)]
    if not found:
        raise ValueError(
            "Each of `layers` must name a layer with units. "
            f"Received: layers=[{pattern!r}], while layers are {[*known]}. Name one of these."
        )
    return found
