"""Private Keras, sharing: which other living models have layers of a model."""

from __future__ import annotations

import gc
import itertools
from typing import Any

import keras
from keras.src.models.functional import Functional

from prune_keras._keras.graphs import all_layers, function_of, models_in, nodes_of


def views_of(model: Any) -> list:
    """Return living models that show a part of this one's graph and add no call to it.

    They follow a change of shapes, as they share their layers and their symbolic tensors.
    """
    inside = {id(each) for each in models_in(model)}
    calls = _calls(model)
    return [x for x in _living_models() if id(x) not in inside and _is_view(x, calls)]


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


def outside_users(model: Any) -> dict[str, str]:
    """Return layers of the model that a living model outside of it has as well, views aside.

    Returns:
        Name of the layer -> name of the other model.
    """
    users = _outside_users(model)
    if users:
        gc.collect()  # a deleted model is a cycle, which lives on until it is collected
        users = _outside_users(model)
    return users


def _outside_users(model: Any) -> dict[str, str]:
    # An input may be shared: it holds nothing that a cut changes.
    owned = [x for x in all_layers(model) if not isinstance(x, keras.layers.InputLayer)]
    names = {id(layer): layer.name for layer in owned if layer is not model}
    living, calls = _living_models(), _calls(model)
    inside = {id(x) for x in [*models_in(model), *_graphs_of_sequential(living)]}
    return {
        names[id(layer)]: other.name
        for other in living
        if id(other) not in inside and not _is_view(other, calls)
        for layer in all_layers(other)
        if id(layer) in names
    }


def _living_models() -> list:
    kinds = _with_subclasses(keras.Model)
    # There are a million objects or so: nothing here but C looks at each of them.
    objects = gc.get_objects()
    living = itertools.compress(objects, map(kinds.__contains__, map(type, objects)))
    return [model for model in living if hasattr(model, "_layers")]


def _with_subclasses(kind: type) -> set[type]:
    return {kind}.union(*map(_with_subclasses, kind.__subclasses__()))


def _graphs_of_sequential(models: list) -> list:
    """Return the graph of each Sequential model, and the older ones that it never lets go."""
    sequential = [model for model in models if isinstance(model, keras.Sequential)]
    tracked = [held for model in sequential for held in model._tracker.config["layers"][1]]
    return [held for held in tracked if isinstance(held, Functional)]
