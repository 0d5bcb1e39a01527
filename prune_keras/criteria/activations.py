"""Criteria from forward passes: statistics of activations, reduced where they arise.

Nothing larger than `(batch, units)` a layer is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras._backend import mean_over_positions
from prune_keras.criteria.criterion import Criterion
from prune_keras.samples.subject import Subject, taps


def _as_it_is(mean: np.ndarray) -> np.ndarray:
    return mean


@dataclass(frozen=True)
class Activations(Criterion):
    """A criterion from forward passes: the mean of a statistic over samples.

    Args:
        statistic: from activations `(batch, positions, units)` to `(batch, units)`, or to
            `(batch, units, moments)`.
        __name__: name of the criterion.
        finish: from the mean over samples, an array `(units,)` or `(units, moments)`, to scores
            `(units,)`. Defaults to the mean as it is.

    Example:

    >>> from keras import ops
    >>> peak = Activations(lambda a: ops.max(a, axis=1), "peak")
    >>> peak(ops.ones((2, 5, 3))).shape == (2, 3)
    True
    """

    statistic: Callable[[Any], Any]
    __name__: str
    finish: Callable[[np.ndarray], np.ndarray] = _as_it_is

    needs_samples = True

    def __call__(self, activations: Any) -> Any:
        return self.statistic(activations)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Average the statistic over all samples; calls of a shared layer add up."""

        def statistic(activations: Any, units: int) -> Any:
            return _over_copies(ops.sum(self(activations), axis=0), units)

        sums, samples, _ = subject.summed(_step(subject, statistic), self.__name__)
        return {path: self.finish(total / samples) for path, total in sums.items()}


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


def _share_of_nonzeros(activations: Any) -> Any:
    return mean_over_positions(activations > 0)


def _mean_magnitude(activations: Any) -> Any:
    return mean_over_positions(ops.abs(activations))


def _moments(activations: Any) -> Any:
    values = ops.cast(activations, "float32")
    squares = ops.mean(ops.square(values), axis=1)
    mean = ops.mean(values, axis=1)
    return ops.stack([ops.ones_like(mean), mean, squares], axis=-1)


def _deviation(moments: np.ndarray) -> np.ndarray:
    calls, mean, square = np.moveaxis(moments, -1, 0)
    return np.sqrt(np.maximum(square / calls - np.square(mean / calls), 0))


apoz = Activations(_share_of_nonzeros, "apoz")
"""One minus the average percentage of zeros: `s_j = mean(a_j > 0)` over samples and positions.

`a_j` is the activation where others read it: after batch normalization and activation. It tells
units apart only behind an activation that gives zeros, such as relu.

Reference:

- Hu et al., 2016, Network Trimming, https://arxiv.org/abs/1607.03250
"""


mean_activation = Activations(_mean_magnitude, "mean_activation")
"""Mean magnitude of the activation: `s_j = mean(|a_j|)` over samples and positions.

Reference:

- Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2; the same behind relu)
"""


activation_std = Activations(_moments, "activation_std", _deviation)
"""Standard deviation of the activation: `s_j = std(a_j)` over samples and positions.

A unit that always says the same can be replaced by a bias.

Reference:

- Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2)
"""
