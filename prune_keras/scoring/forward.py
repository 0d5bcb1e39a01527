"""Scores from forward passes: statistics of activations, reduced where they arise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras._backend import mean_over_positions
from prune_keras.criteria import Activations
from prune_keras.samples.subject import Subject, taps


def score_activations(criterion: Activations, subject: Subject) -> dict[str, np.ndarray]:
    """Average the criterion's statistic over all samples; calls of a shared layer add up."""

    def statistic(activations: Any, units: int) -> Any:
        return _over_copies(ops.sum(criterion(activations), axis=0), units)

    sums, samples, _ = subject.summed(_step(subject, statistic), criterion.__name__)
    return {path: criterion.finish(total / samples) for path, total in sums.items()}


def pooled(
    subject: Subject, name: str, targets: bool = True
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each layer's activations averaged over positions, `(samples, units)`, and targets."""

    def statistic(activations: Any, units: int) -> Any:
        values = mean_over_positions(activations)
        return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1, units)), axis=1)

    return subject.collected(_step(subject, statistic), name, targets)


def _step(subject: Subject, statistic: Callable[[Any, int], Any]) -> Callable[[list], dict]:
    """Return a forward pass that gives a statistic of each layer; calls of a shared one add up.

    Args:
        subject: the model and its layers.
        statistic: function of activations `(batch, positions, units)` and the number of units that
            are not copies of one another.
    """
    tapped = taps(subject.shown)
    units = {p.path: len(p.neurons) for p in subject.shown}

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            for path, axis in tapped.get(id(visited.node), ()):
                values = statistic(_by_units(_first(outputs), axis), units[path])
                found[path] = found[path] + values if path in found else values
            return outputs

        _keras.walk(subject.model, x, call)
        return found

    return step


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
