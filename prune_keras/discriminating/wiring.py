"""Wiring: which weights read each neuron, what is compared behind them, and what judges it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.graph import Family, Graph, Tensor
from prune_keras.preparing.scores import Neurons
from prune_keras.readers.kinds import DEPTHWISE
from prune_keras.teaching.stages import calls_of, channel_axis, stage_ends


@dataclass(frozen=True, eq=False)
class Reader:
    """A weight that reads neurons, and hands on none of them as they are.

    Args:
        variable: the weight.
        places: axis -> `(size,)` place among all neurons of what is read along it.
        calls: numbers of the calls that use it.
    """

    variable: keras.Variable
    places: dict[int, np.ndarray]
    calls: tuple[int, ...]


@dataclass(frozen=True)
class Site:
    """What a call gives: its number, and along which axis which neurons lie; None where none do."""

    call: int
    shape: tuple[int | None, ...]
    axis: int | None
    places: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Wiring:
    """A model as its neurons are chosen.

    Args:
        neurons: all neurons that can be pruned, family after family.
        readers: weights that read them.
        sites: what the calls of readers give, which is compared.
        heads: what heads are put on, in the order of the calls.
    """

    neurons: Neurons
    readers: tuple[Reader, ...]
    sites: tuple[Site, ...]
    heads: tuple[Site, ...]

    def places_of(self, family: Family) -> np.ndarray:
        """Return the places of a family's neurons."""
        return self.neurons.places(family.neurons)

    def readers_of(self, family: Family) -> list[int]:
        """Return the numbers of the readers of a family."""
        mine = self.places_of(family)
        along = (np.concatenate([*reader.places.values()]) for reader in self.readers)
        return [number for number, places in enumerate(along) if np.isin(places, mine).any()]

    def sites_of(self, readers: Sequence[int]) -> list[int]:
        """Return the numbers of the sites behind readers."""
        calls = {call for number in readers for call in self.readers[number].calls}
        return [number for number, site in enumerate(self.sites) if site.call in calls]

    def judge_of(self, readers: Sequence[int]) -> int:
        """Return the number of the first head behind all readers; that of no head for the end."""
        last = max((call for n in readers for call in self.readers[n].calls), default=0)
        behind = (number for number, head in enumerate(self.heads) if head.call >= last)
        return next(behind, len(self.heads))


def wired(model: Any, graph: Graph, layers: Sequence[str] | None) -> Wiring:
    """Return the wiring of a model.

    Args:
        model: the model.
        graph: its graph.
        layers: paths of layers to put heads on. None for the ends of stages.

    Raises:
        ValueError: if there is no such layer, or what it gives has no channels.
    """
    neurons, calls = Neurons(graph, graph.families), calls_in(model)
    readers = _readers(neurons, calls)
    records = {id(record.tensor): record for record in graph.tensors}
    sites = {call for reader in readers for call in reader.calls}
    ends = stage_ends(model, graph) if layers is None else layers
    tensors = {place.path: place.tensor for place in calls_of(model, set(ends), "model")}
    numbers = {id(call.node.outputs[0]): number for number, call in enumerate(calls)}
    heads = sorted((numbers[id(tensor)], path) for path, tensor in tensors.items())
    made = {n: _site(n, calls, neurons, records) for n in sites | {n for n, _ in heads}}
    for number, path in heads:
        if made[number].axis is None:
            raise ValueError(
                "A head needs one axis of channels that can be pruned. Received: layers="
                f"[{path!r}], which gives {made[number].shape}. Name the layers of other maps."
            )
    return Wiring(
        neurons,
        tuple(readers),
        tuple(made[number] for number in sorted(sites)),
        tuple(made[number] for number, _ in heads),
    )


def calls_in(model: Any) -> list[_keras.Call]:
    """Return all calls of a model in the order in which they are run."""
    found: list[_keras.Call] = []

    def call(visited: _keras.Call) -> list:
        found.append(visited)
        return [_NOTHING] * len(visited.node.outputs)

    _keras.walk(model, [_NOTHING] * len(_keras.graph_of(model).inputs), call)
    return found


_NOTHING = object()


def _readers(neurons: Neurons, calls: Sequence[_keras.Call]) -> list[Reader]:
    users: dict[int, list[int]] = {}
    hands_on = set()
    for number, visited in enumerate(calls):
        operation = visited.operation
        for variable in getattr(operation, "variables", ()):
            users.setdefault(id(variable), []).append(number)
            if isinstance(operation, DEPTHWISE) or "depthwise" in variable.name:
                hands_on.add(id(variable))
    found = []
    for weight in neurons.graph.weights:
        along = {axis: neurons.places(weight.axes[axis]) for axis in weight.reads}
        along = {axis: places for axis, places in along.items() if (places < neurons.count).any()}
        held = id(weight.variable)
        if along and held in users and held not in hands_on:
            found.append(Reader(weight.variable, along, tuple(users[held])))
    return found


def _site(
    number: int, calls: Sequence[_keras.Call], neurons: Neurons, records: dict[int, Tensor]
) -> Site:
    tensor = calls[number].node.outputs[0]
    record = records.get(id(tensor))
    axis, shape = channel_axis(record), tuple(tensor.shape)
    if record is None or axis is None:
        return Site(number, shape, None, None)
    return Site(number, shape, axis, neurons.places(record.neurons.reshape(-1)))
