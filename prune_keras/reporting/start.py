"""Start: what is told of a model's layers and families once some of its neurons are gone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree

from prune_keras import _keras
from prune_keras.graph import Family, Graph, Producer
from prune_keras.plan import Plan
from prune_keras.reporting.parts import Coupled, Layer


@dataclass(frozen=True)
class Start:
    """A model as pruning met it; no part of the model is held.

    Args:
        layers: its layers in the order of the graph.
        families: each with the places of its neurons among the units of its first layer.
    """

    layers: tuple[Layer, ...]
    families: tuple[tuple[Coupled, np.ndarray], ...]

    @classmethod
    def of(cls, model: Any, graph: Graph) -> Start:
        """Read a model and its trace."""
        families = ((_coupled(each), _places(each, graph)) for each in graph.families)
        return cls(_Reader(graph).read(model), tuple(families))

    def after(self, plan: Plan) -> dict[str, Any]:
        """Return `layers` and `families` of a report on a plan for this model."""
        widths = plan.new_widths
        layers = (replace(each, left=widths.get(each.path, each.units)) for each in self.layers)
        families = (
            replace(each, left=len(np.intersect1d(places, plan.kept[each.paths[0]])))
            for each, places in self.families
        )
        return {"layers": tuple(layers), "families": tuple(families)}


def _coupled(family: Family) -> Coupled:
    return Coupled(family.name, family.paths, family.size, family.size)


def _places(family: Family, graph: Graph) -> np.ndarray:
    """Return one unit of the family's first layer for each of its neurons."""
    neurons = graph.producers[family.paths[0]].neurons
    found, places = np.unique(neurons, return_index=True)
    return places[np.isin(found, family.neurons)]


@dataclass(frozen=True)
class _From:
    """What stands for a tensor: the places of the layers that it comes from."""

    places: frozenset[int]


class _Reader:
    """Goes over a graph and notes which layer reads which."""

    def __init__(self, graph: Graph) -> None:
        self._producers = graph.producers
        self._layers: list[Layer] = []
        self._known: dict[str, int] = {}

    def read(self, model: Any) -> tuple[Layer, ...]:
        inputs = [each.name for each in _keras.graph_of(model).inputs]
        given = [_From(self._place(name, "InputLayer", None, frozenset())) for name in inputs]
        _keras.walk(model, given, self._call)
        return tuple(self._layers)

    def _call(self, call: Any) -> Any:
        given = [each for each in tree.flatten((call.args, call.kwargs)) if isinstance(each, _From)]
        places = frozenset[int]().union(*(each.places for each in given))
        made = [*self._made_by(call.path)]
        if made:
            for path, producer in made:
                places = self._place(path, type(producer.layer).__name__, producer, places)
        elif len(places) > 1 and len({each.places for each in given}) > 1:
            places = self._place(call.path, type(call.operation).__name__, None, places)
        return [_From(places) for _ in call.node.outputs]

    def _made_by(self, path: str) -> Iterator[tuple[str, Producer]]:
        for each, producer in self._producers.items():
            if each == path or each.startswith((f"{path}:", f"{path}/")):
                yield each, producer

    def _place(
        self, path: str, kind: str, producer: Producer | None, inputs: frozenset[int]
    ) -> frozenset[int]:
        units = 0 if producer is None else len(producer.neurons)
        layer = Layer(path, kind, units, units, tuple(sorted(inputs)))
        if path in self._known:  # a layer that is called again
            place = self._known[path]
            before = self._layers[place]
            inputs = inputs | {*before.inputs}
            self._layers[place] = replace(before, inputs=tuple(sorted(inputs)))
        else:
            place = self._known[path] = len(self._layers)
            self._layers.append(layer)
        return frozenset({place})
