"""Scores from forward passes: statistics of activations, reduced where they arise."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.criteria import Activations
from prune_keras.scoring.subject import Subject, taps


def score_activations(criterion: Activations, subject: Subject) -> dict[str, np.ndarray]:
    """Average the criterion's statistic over all samples; calls of a shared layer add up."""
    tapped = taps(subject.shown)
    units = {p.path: len(p.neurons) for p in subject.shown}

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        sums: dict[str, Any] = {}

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            for path, axis in tapped.get(id(visited.node), ()):
                values = ops.sum(criterion(_by_units(_first(outputs), axis)), axis=0)
                values = _over_copies(values, units[path])
                sums[path] = sums[path] + values if path in sums else values
            return outputs

        _keras.walk(subject.model, x, call)
        return sums

    sums, samples, _ = subject.summed(step, criterion.__name__)
    return {path: criterion.finish(total / samples) for path, total in sums.items()}


def pooled(
    subject: Subject, name: str, targets: bool = True
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each layer's activations averaged over positions, `(samples, units)`, and targets."""
    tapped = taps(subject.shown)
    units = {p.path: len(p.neurons) for p in subject.shown}

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            for path, axis in tapped.get(id(visited.node), ()):
                values = ops.mean(ops.cast(_by_units(_first(outputs), axis), "float32"), axis=1)
                values = ops.mean(ops.reshape(values, (values.shape[0], -1, units[path])), axis=1)
                found[path] = found[path] + values if path in found else values
            return outputs

        _keras.walk(subject.model, x, call)
        return found

    return subject.collected(step, name, targets)


def _first(outputs: Any) -> Any:
    return keras.tree.flatten(outputs)[0]


def _by_units(outputs: Any, axis: int) -> Any:
    """Lay activations out as `(batch, positions, units)`."""
    outputs = ops.moveaxis(outputs, axis if axis < 0 else axis + 1, -1)
    shape = ops.shape(outputs)
    return ops.reshape(outputs, (shape[0], -1, shape[-1]))


def _over_copies(values: Any, units: int) -> Any:
    """Average over the directions of a layer that shows its units more than once."""
    return ops.mean(ops.reshape(values, (-1, units, *values.shape[1:])), axis=0)
