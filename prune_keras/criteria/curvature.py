"""Curvature: how fast the loss grows with what the responses of layers miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.criteria.reads import Reader
from prune_keras.samples.scale import unscaled
from prune_keras.samples.subject import Subject


@dataclass(frozen=True)
class Curvature:
    """Slopes of the losses of samples, squared and averaged over samples.

    Args:
        responses: `(outputs,)`, by each output of a layer; summed over positions and calls.
        neurons: by a gate on each neuron that it reads, summed over the neurons.
    """

    responses: np.ndarray
    neurons: float


def curvatures(subject: Subject, readers: Sequence[Reader], name: str) -> dict[str, Curvature]:
    """Return what the losses of samples say of the responses of readers, by key of the reader.

    Args:
        subject: the model and samples.
        readers: the layers, whose responses are looked at before their activation.
        name: name of the criterion.
    """
    if not readers:
        return {}
    known = {reader.key: reader for reader in readers}
    watched = [reader.layer for reader in readers]

    def step(x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
        def loss(gates: dict[str, Any]) -> Any:
            with _keras.watched(watched, *_through(gates)):
                total = subject.loss(x, y, weights)
            return total * ops.cast(scale, total.dtype)

        found: dict[str, Any] = {}
        for gate, slope in _backend.gradients(loss, _gates(subject, known, x)).items():
            key, kind, _ = gate.split("/")
            square = known[key].by_output if kind == "response" else known[key].by_neuron
            squares, place = square(unscaled(slope, scale)), f"{key}/{kind}"
            found[place] = found[place] + squares if place in found else squares
        return found

    sums, samples, _ = subject.summed(step, name, targets=True, scaled=True)
    means = {place: total / samples for place, total in sums.items()}
    return {key: Curvature(means[f"{key}/response"], float(means[f"{key}/read"])) for key in known}


def _gates(subject: Subject, readers: dict[str, Reader], x: list) -> dict[str, Any]:
    """Return zeros to add to each response, and ones to multiply channels by, for each call."""
    gates: dict[str, Any] = {}
    calls: Counter = Counter()

    def see(layer: Any, inputs: Any, response: Any) -> Any:
        reader = readers[str(id(layer))]
        number = calls[reader.key]
        calls[reader.key] += 1
        gates[f"{reader.key}/response/{number}"] = ops.zeros(ops.shape(response), "float32")
        gates[f"{reader.key}/read/{number}"] = ops.ones(reader.gate_shape(inputs), "float32")
        return response

    with _keras.watched([reader.layer for reader in readers.values()], see):
        _keras.walk(subject.model, x, _keras.run)
    return gates


def _through(gates: dict[str, Any]) -> tuple[Callable, Callable]:
    """Return functions that let calls of layers go through their gates, in turn."""
    calls: Counter = Counter()

    def see(layer: Any, inputs: Any, response: Any) -> Any:
        gate = gates[f"{id(layer)}/response/{calls[id(layer)]}"]
        calls[id(layer)] += 1
        return response + ops.cast(gate, response.dtype)

    def give(layer: Any, inputs: Any) -> Any:
        gate = gates[f"{id(layer)}/read/{calls[id(layer)]}"]
        return inputs * ops.cast(gate, inputs.dtype)

    return see, give
