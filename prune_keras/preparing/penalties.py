"""Penalties: what a step of training adds to the loss, so that groups of weights come to zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.preparing.scores import Neurons
from prune_keras.preparing.state import new_state

Penalty = Callable[[], Any]


class Paying:
    """A penalty whose strength is set from outside of the compiled step.

    Args:
        penalty: gives the penalty for a strength of 1.
    """

    def __init__(self, penalty: Penalty) -> None:
        self._penalty = penalty
        self._strength = new_state((), "float32", "strength")
        self.view = _keras.View(penalty=self._pays, state=(self._strength,))

    def set_strength(self, strength: float) -> None:
        self._strength.assign(strength)

    def _pays(self, x: Any, y: Any) -> Any:
        return self._strength.value * self._penalty()


def scales(model: Any, neurons: Neurons) -> list[tuple[keras.Variable, np.ndarray]]:
    """Return the scales of batch normalization of neurons, and which of their entries these are."""
    gammas = _keras.batch_scales(model)
    layers = [w.variable for w in neurons.graph.weights if id(w.variable) in gammas]
    axes = {id(w.variable): w.axes for w in neurons.graph.weights}
    found = []
    for variable in layers:
        inside = [neurons.places(each) < neurons.count for each in axes[id(variable)].values()]
        if len(inside) == 1 and inside[0].any():
            found.append((variable, inside[0].astype("float32")))
    return found


def on_scales(found: list[tuple[keras.Variable, np.ndarray]]) -> Penalty:
    """Return the sum of absolute scales (network slimming)."""

    def penalty() -> Any:
        sizes = [ops.abs(ops.cast(variable.value, "float32")) for variable, _ in found]
        masks = [ops.convert_to_tensor(mask, "float32") for _, mask in found]
        return sum(ops.sum(size * mask) for size, mask in zip(sizes, masks, strict=True))

    return penalty


def on_groups(neurons: Neurons, norm: str, chosen: np.ndarray) -> Penalty:
    """Return a penalty on all incoming weights of a neuron's members together.

    Args:
        neurons: the neurons.
        norm: `"lasso"` for the sum of lengths, `"l2"` for half the sum of their squares.
        chosen: `(count,)` ones for the neurons that pay, zeros for others.
    """

    def penalty() -> Any:
        pays = ops.convert_to_tensor(chosen, "float32")
        if norm == "lasso":
            return ops.sum(neurons.lengths() * pays)
        return ops.sum(neurons.summed(*neurons.squares()) * pays) / 2

    return penalty
