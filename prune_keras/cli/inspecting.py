"""What `prune-keras inspect` tells of a traced model, as plain values."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from prune_keras import _keras
from prune_keras.graph import Graph

if TYPE_CHECKING:
    from prune_keras.models.records import Row


def overview(model: Any, graph: Graph) -> dict[str, Any]:
    """Return what a model consists of for pruning, as JSON holds it.

    `reached` is the share of the parameters in weights along which a prunable neuron lies.
    """
    return {
        "model": graph.name,
        "reached": reached(model, graph),
        "neurons": graph.neurons,
        "cost": dataclasses.asdict(graph.cost),
        "layers": layer_rows(model, graph),
        "families": [
            {"family": each.name, "neurons": each.size, "layers": list(each.paths)}
            for each in graph.families
        ],
        "fixed": [dataclasses.asdict(fixed) for fixed in graph.fixed],
        "notes": list(graph.notes),
    }


def reached(model: Any, graph: Graph) -> float:
    """Return the share of parameters in weights along which a prunable neuron lies."""
    free = np.concatenate([np.array([], int), *(each.neurons for each in graph.families)])
    thinned = {
        id(weight.variable)
        for weight in graph.weights
        if any(np.isin(neurons, free).any() for neurons in weight.axes.values())
    }
    sizes = {id(each): math.prod(each.shape) for each in model.weights}
    total = sum(sizes.values())
    return sum(sizes.get(each, 0) for each in thinned) / total if total else 0.0


def layer_rows(model: Any, graph: Graph) -> list[Row]:
    """Return a row for every layer that has weights of its own, in the order of the model."""
    return [_row(layer, owned, graph) for layer, owned in _owners(model) if owned]


def _owners(model: Any) -> list[tuple[Any, list[Any]]]:
    """Return each layer with the variables that no layer inside of it has."""
    owners = {id(each): model for each in model.weights}
    layers = _keras.all_layers(model)
    for layer in layers:  # what stands inside comes after what it stands in
        owners |= {id(each): layer for each in layer.weights}
    return [
        (layer, [each for each in layer.weights if owners[id(each)] is layer]) for layer in layers
    ]


def _row(layer: Any, owned: list[Any], graph: Graph) -> Row:
    path = _path(layer, owned, graph)
    producer = graph.producers.get(path)
    families = [each.name for each in graph.families if path in each.paths]
    return {
        "layer": path,
        "type": type(layer).__name__,
        "units": None if producer is None else len(producer.neurons),
        "prunable": None if producer is None else int(producer.prunable.sum()),
        "families": families,
        "parameters": sum(math.prod(each.shape) for each in owned),
        "FLOPs": _flops(owned, graph),
    }


def _path(layer: Any, owned: list[Any], graph: Graph) -> str:
    for path, producer in graph.producers.items():
        if producer.layer is layer:
            return path
    held = {id(each) for each in owned}
    known = [each.path for each in graph.weights if id(each.variable) in held]
    return known[0].rpartition("/")[0] if known else layer.path


def _flops(owned: list[Any], graph: Graph) -> int | None:
    """Return two for each multiply-add with variables, `None` where sizes are unknown."""
    held, flops = {id(each) for each in owned}, 0
    for weight in graph.weights:
        if id(weight.variable) in held:
            if weight.times is None:
                return None
            flops += 2 * weight.times * math.prod(weight.variable.shape)
    return flops
