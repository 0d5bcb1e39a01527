"""Private Keras, sharing: which other living models have layers of a model, or show its graph."""

from __future__ import annotations

import gc
import itertools
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.models.functional import Functional

from prune_keras._keras.graphs import (
    all_layers,
    function_of,
    is_layer,
    models_in,
    nodes_of,
    operations_in,
    recorded_graphs,
)
from prune_keras._keras.recording import Recorded

FEW = 16
"""Classes up to which it is quicker to ask for what refers to them."""


@dataclass(frozen=True)
class Neighbours:
    """Living models outside of a model that have something of it.

    Args:
        views: those that show a part of its graph and add no call to it. They follow a change of
            shapes, as they share their layers and their symbolic tensors.
        users: name of a layer -> name of another model that has it as well.
    """

    views: tuple[Any, ...]
    users: dict[str, str]


def neighbours_of(model: Any) -> Neighbours:
    """Return the living models outside of a model that have something of it."""
    found = _neighbours_of(model)
    if found.users:
        del found
        gc.collect()  # a deleted model is a cycle, which lives on until it is collected
        found = _neighbours_of(model)
    return found


def _neighbours_of(model: Any) -> Neighbours:
    living, calls = _living_models(), _calls(model)
    parts = [part for layer in _leaves(model) for part in all_layers(layer)]
    graphs = [*_graphs_of_sequential(living), *recorded_graphs()]
    inside = {id(x) for x in [*models_in(model), *parts, *graphs]}
    outside = [x for x in living if id(x) not in inside]
    views = [x for x in outside if _is_view(x, calls)]
    seen = {id(view) for view in views}
    users = _users(parts, [x for x in outside if id(x) not in seen])
    return Neighbours(tuple(views), users)


def _leaves(model: Any) -> list:
    """Return the layers of the graph that are no graphs; what they hold is theirs alone to call.

    An input is none of them: it holds nothing that a cut changes.
    """
    layers = [operation for operation in operations_in(model) if is_layer(operation)]
    return [
        layer
        for layer in layers
        if function_of(layer) is None and not isinstance(layer, keras.layers.InputLayer)
    ]


def _users(parts: list, others: list) -> dict[str, str]:
    names = {id(layer): layer.name for layer in parts}
    return {
        names[id(layer)]: other.name
        for other in others
        for layer in all_layers(other)
        if id(layer) in names
    }


def _is_view(other: Any, calls: set[int]) -> bool:
    return (
        isinstance(other, Functional)
        and hasattr(other, "_nodes_by_depth")
        and function_of(other) is other
        and _calls(other) <= calls
        and not getattr(getattr(other, "optimizer", None), "built", False)
    )


def _calls(model: Any) -> set[int]:
    """Return the calls, by id, of layers in a functional or Sequential model."""
    functions = [nested for nested in models_in(model) if isinstance(nested, Functional)]
    return {id(node) for function in functions for node in nodes_of(function)}


def _living_models() -> list:
    kinds = _with_subclasses(keras.Model)
    # There are a million objects or so: nothing here but C looks at each of them. An object refers
    # to its class; but who asks for many classes pays for each of them at every reference.
    objects = gc.get_referrers(*kinds) if len(kinds) <= FEW else gc.get_objects()
    living = itertools.compress(objects, map(kinds.__contains__, map(type, objects)))
    return [m for m in living if hasattr(m, "_layers") and not isinstance(m, Recorded)]


def _with_subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(_with_subclasses, kind.__subclasses__()))


def _graphs_of_sequential(models: list) -> list:
    """Return the graph of each Sequential model, and the older ones that it never lets go."""
    sequential = [model for model in models if isinstance(model, keras.Sequential)]
    tracked = [held for model in sequential for held in model._tracker.config["layers"][1]]
    return [held for held in tracked if isinstance(held, Functional)]
