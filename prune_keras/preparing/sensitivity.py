"""Sensitivity: how far outputs move with a weight, or a neuron, measured within a training step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Producer
from prune_keras.preparing.scores import spread
from prune_keras.preparing.state import masked, new_state


def means(predicted: Any, targets: Any, specific: bool) -> Any:
    """Return what is differentiated, averaged over samples.

    Args:
        predicted: `(batch, ..., outputs)`.
        targets: classes, or one-hot rows; read for the specific form alone.
        specific: whether the output of the true class is meant, `(1,)`, or each, `(outputs,)`,
            divided by their number.
    """
    outputs = predicted.shape[-1]
    rows = ops.reshape(ops.cast(predicted, "float32"), (-1, outputs))
    if not specific:
        return ops.mean(rows, axis=0) / outputs
    if outputs == 1:  # whether one class holds
        holds = ops.reshape(ops.cast(targets, "float32"), (-1, 1))
        true = 2.0 * holds - 1.0  # of y p + (1 - y) (1 - p), the part that has a slope
    elif tuple(targets.shape) == tuple(predicted.shape):
        true = ops.reshape(ops.cast(targets, "float32"), (-1, outputs))
    else:
        true = ops.one_hot(ops.cast(ops.reshape(targets, (-1,)), "int32"), outputs, dtype="float32")
    return ops.reshape(ops.mean(ops.sum(rows * true, axis=1)), (1,))


class Sensitivity:
    """A decay of weights that the outputs do not depend on, and zeros that stay.

    Args:
        model: the model.
        producers: layers whose kernels decay.
        strength: what `w max(0, 1 - S)` is multiplied by in the gradient of the loss.
        specific: whether `S` is that of the true class.
        by_unit: whether all incoming weights of a neuron have the `S` of its response.
        refresh_steps: number of steps from one measure of `S` to the next.
    """

    def __init__(
        self,
        model: Any,
        producers: Sequence[Producer],
        strength: float,
        specific: bool,
        by_unit: bool,
        refresh_steps: int,
    ) -> None:
        self._model, self._producers, self._strength = model, producers, strength
        self._specific, self._by_unit, self._every = specific, by_unit, refresh_steps
        self._since = new_state((), "int32", "steps")
        self._decays = [new_state(_shape(p, by_unit), "float32", "decay") for p in producers]
        self._stays = [new_state(tuple(p.kernel.shape), "float32", "stays") for p in producers]
        for stays in self._stays:
            stays.assign(ops.ones(stays.shape))
        state = (self._since, *self._decays, *self._stays)
        self.view = _keras.View(self._seen, self._pays, state)

    def hold(self) -> None:
        """Let weights that are zero now stay zero: what moved them goes from the optimizer too."""
        slots = _keras.optimizer_slots(self._model)
        for producer, stays in zip(self._producers, self._stays, strict=True):
            stays.assign(ops.cast(producer.kernel.value != 0, "float32"))
            for slot in slots.get(id(producer.kernel), []):
                if tuple(slot.variable.shape) == tuple(stays.shape):
                    slot.variable.assign(
                        slot.variable.value * ops.cast(stays.value, slot.variable.dtype)
                    )

    def settle(self, threshold: float) -> None:
        """Set weights that are held, or of a magnitude below the threshold, to zero."""
        for producer, stays in zip(self._producers, self._stays, strict=True):
            value = ops.cast(producer.kernel.value, "float32")
            large = ops.cast(ops.abs(value) >= threshold, "float32")
            producer.kernel.assign(masked(producer.kernel, stays.value * large))

    def _seen(self) -> Iterator[tuple[Any, Any]]:
        for producer, stays in zip(self._producers, self._stays, strict=True):
            yield producer.kernel, masked(producer.kernel, stays.value)

    def _pays(self, x: Any, y: Any) -> Any:
        """Return half the sum of `w^2 max(0, 1 - S)`, in which only `w` has a slope."""
        due = ops.equal(self._since.value % self._every, 0)
        kept = [ops.convert_to_tensor(each.value) for each in self._decays]
        decays = ops.cond(due, lambda: self._measure(x, y), lambda: kept)
        for each, value in zip(self._decays, decays, strict=True):
            each.assign(value)
        self._since.assign(self._since.value + 1)
        squares = [ops.square(ops.cast(p.kernel.value, "float32")) for p in self._producers]
        total = sum(ops.sum(s * d) for s, d in zip(squares, decays, strict=True))
        return self._strength * total / 2

    def _measure(self, x: Any, y: Any) -> list[Any]:
        moved = self._by_units(x, y) if self._by_unit else self._by_weights(x, y)
        found = [moved[str(number)] for number in range(len(self._producers))]
        return [ops.stop_gradient(ops.maximum(0.0, 1.0 - ops.cast(s, "float32"))) for s in found]

    def _by_weights(self, x: Any, y: Any) -> dict[str, Any]:
        kernels = [producer.kernel for producer in self._producers]

        def outputs(values: dict[str, Any]) -> Any:
            shown = [(kernel, values[str(number)]) for number, kernel in enumerate(kernels)]
            with _keras.showing(self._model, shown):
                return means(self._model(x, training=False), y, self._specific)

        held = [masked(v, s.value) for v, s in zip(kernels, self._stays, strict=True)]
        values = {str(n): ops.stop_gradient(value) for n, value in enumerate(held)}
        return _backend.absolute_gradients(outputs, values)

    def _by_units(self, x: Any, y: Any) -> dict[str, Any]:
        layers = [producer.layer for producer in self._producers]
        places = {id(layer): str(number) for number, layer in enumerate(layers)}

        def outputs(gates: dict[str, Any]) -> Any:
            def see(layer: Any, inputs: Any, response: Any) -> Any:
                axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
                gate = ops.cast(gates[places[id(layer)]], response.dtype)
                return response + spread(gate, axis, response)

            with _keras.watched(layers, see), _keras.showing(self._model, self._seen()):
                return means(self._model(x, training=False), y, self._specific)

        gates = {str(n): ops.zeros((len(p.neurons),)) for n, p in enumerate(self._producers)}
        moved = _backend.absolute_gradients(outputs, gates)
        return {
            str(n): spread(moved[str(n)], p.axis, p.kernel) for n, p in enumerate(self._producers)
        }


def _shape(producer: Producer, by_unit: bool) -> tuple[int, ...]:
    shape = tuple(producer.kernel.shape)
    axis = producer.axis % len(shape)
    return tuple(n if a == axis or not by_unit else 1 for a, n in enumerate(shape))


WATCHED = (
    keras.layers.Dense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
)
"""Layers whose responses are known before their activation."""
