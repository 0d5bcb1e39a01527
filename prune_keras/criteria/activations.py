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
from prune_keras.samples.moments import exact, merged, moments_of
from prune_keras.samples.subject import Subject, taps


@dataclass(frozen=True)
class Activations(Criterion):
    """A criterion from forward passes: the mean of a statistic over samples.

    Args:
        statistic: from activations `(batch, positions, units)` to `(batch, units)`.
        __name__: name of the criterion.

    Example:

    >>> from keras import ops
    >>> peak = Activations(lambda a: ops.max(a, axis=1), "peak")
    >>> peak(ops.ones((2, 5, 3))).shape == (2, 3)
    True
    """

    statistic: Callable[[Any], Any]
    __name__: str

    needs_samples = True

    def __call__(self, activations: Any) -> Any:
        return self.statistic(activations)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Average the statistic over all samples; calls of a shared layer add up."""

        def statistic(activations: Any, units: int) -> Any:
            return _over_copies(ops.sum(exact(self(activations)), axis=0), units)

        sums, samples, _ = subject.summed(_step(subject, statistic), self.__name__)
        return {path: total / samples for path, total in sums.items()}


@dataclass(frozen=True)
class Deviation(Criterion):
    """Standard deviation of the activation over samples and positions; see `activation_std`."""

    __name__ = "activation_std"
    needs_samples = True

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Merge the moments of all batches, and of all calls of a shared layer."""

        def statistic(activations: Any, units: int) -> Any:
            # Both directions of a layer that shows its units twice are two values of each.
            return moments_of(ops.reshape(exact(activations), (-1, units)))

        step = _backend.without_gradients(_calls(subject, statistic))
        found = merged(step, subject.model, subject.flat(), calls=subject.calls)
        return {path: np.sqrt(moments.variance.clip(0)) for path, moments in found.items()}


def pooled(
    subject: Subject, name: str, targets: bool = True
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each layer's activations averaged over positions, `(samples, units)`, and targets."""

    def statistic(activations: Any, units: int) -> Any:
        values = ops.mean(exact(activations), axis=1)  # differences of averages matter
        return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1, units)), axis=1)

    return subject.collected(_step(subject, statistic), name, targets)


def _step(subject: Subject, statistic: Callable[[Any, int], Any]) -> Callable[[list], dict]:
    """Return a forward pass that gives a statistic of each layer; calls of a shared one add up.

    Args:
        subject: the model and its layers.
        statistic: function of activations `(batch, positions, units)` and the number of units that
            are not copies of one another.
    """
    calls = _calls(subject, statistic)

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        return {path: sum(values[1:], values[0]) for path, values in calls(x).items()}

    return step


def _calls(subject: Subject, statistic: Callable[[Any, int], Any]) -> Callable[[list], dict]:
    """Return a forward pass that gives a statistic of each call of each layer, in lists."""
    tapped = taps(subject.shown)
    units = {p.path: len(p.neurons) for p in subject.shown}

    def step(x: list) -> dict[str, list]:
        found: dict[str, list] = {}

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            for path, axis in tapped.get(id(visited.node), ()):
                shown = _by_units(_first(outputs), axis, ops.shape(x[0])[0])
                values = statistic(shown, units[path])
                found.setdefault(path, []).append(values)
            return outputs

        _keras.walk(subject.model, x, call)
        return found

    return step


def _first(outputs: Any) -> Any:
    return keras.tree.flatten(outputs)[0]


def _by_units(outputs: Any, axis: int, samples: Any) -> Any:
    """Lay activations out as `(batch, positions, units)`; windows in the batch are positions."""
    outputs = ops.moveaxis(outputs, axis if axis < 0 else axis + 1, -1)
    return ops.reshape(outputs, (samples, -1, ops.shape(outputs)[-1]))


def _over_copies(values: Any, units: int) -> Any:
    """Average over the directions of a layer that shows its units more than once."""
    return ops.mean(ops.reshape(values, (-1, units, *values.shape[1:])), axis=0)


def _share_of_nonzeros(activations: Any) -> Any:
    return mean_over_positions(activations > 0)


def _mean_magnitude(activations: Any) -> Any:
    return mean_over_positions(ops.abs(activations))


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


activation_std = Deviation()
"""Standard deviation of the activation: `s_j = std(a_j)` over samples and positions.

A unit that always says the same can be replaced by a bias.

Reference:

- Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2)
"""
