"""Criteria from backward passes: gradients by gates on activations, or by kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.criteria.criterion import Criterion
from prune_keras.samples.scale import unscaled
from prune_keras.samples.subject import Subject, by_units, taps


@dataclass(frozen=True)
class Gradients(Criterion):
    """A criterion from one backward pass: the mean of a statistic over samples.

    Args:
        statistic: from `(batch, units)`, the sum over positions of activation times gradient of
            the sample's loss, divided by the number of positions, to `(batch, units)`.
        __name__: name of the criterion.
    """

    statistic: Callable[[Any], Any]
    __name__: str

    loses = "each"
    needs_samples = True
    needs_loss = True

    def __call__(self, products: Any) -> Any:
        return self.statistic(products)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Differentiate by a gate of ones on every unit of every sample.

        The gradient by the gate is the mean over positions of activation times gradient; of several
        calls, the sum of their means.
        """
        tapped = taps(subject.shown)
        units = {p.path: len(p.neurons) for p in subject.shown}

        def step(x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
            def loss(gates: dict[str, Any]) -> Any:
                def call(visited: _keras.Call) -> Any:
                    outputs = _keras.run(visited)
                    for path, axis in tapped.get(id(visited.node), ()):
                        first, *others = keras.tree.flatten(outputs)
                        gated = _gated(first, gates[path], units[path], axis)
                        gated = _keras.with_mask_of(first, gated)
                        outputs = keras.tree.pack_sequence_as(outputs, [gated, *others])
                    return outputs

                return _scaled(subject.loss(x, y, weights, call), scale)

            gates = {path: ops.ones((ops.shape(x[0])[0], count)) for path, count in units.items()}
            found = _backend.gradients(loss, gates)
            means = {path: unscaled(slope, scale) for path, slope in found.items()}
            return {path: ops.sum(self(mean), axis=0) for path, mean in means.items()}

        sums, samples, _ = subject.summed(step, self.__name__, targets=True, scaled=True)
        return {path: total / samples for path, total in sums.items()}


def _scaled(loss: Any, scale: Any) -> Any:
    return loss * ops.cast(scale, loss.dtype)


def _gated(outputs: Any, gate: Any, units: int, axis: int) -> Any:
    """Return activations, as they are, whose slope by a gate of ones is a mean over positions.

    Entries along the batch that belong to one sample get an axis of their own meanwhile: to repeat
    the gate for them would take far more operations, which deep models take long to differentiate.

    Args:
        outputs: `(samples times windows, ...)`, with the units along `axis` of a sample.
        gate: `(samples, units)`.
        units: how many; they may lie there several times, one after another.
        axis: of a sample; negative ones count from the end.
    """
    sizes, axis = ops.shape(outputs), axis if axis < 0 else axis + 1
    positions = math.prod(sizes[1:]) // units * (sizes[0] // ops.shape(gate)[0])
    gate = 1.0 + (gate - 1.0) / ops.cast(positions, gate.dtype)
    times = outputs.shape[axis] // units
    gate = ops.tile(gate, (1, times)) if times > 1 else gate  # both directions
    shape = [1] * len(sizes)
    shape[axis] = gate.shape[1]
    gate = ops.cast(ops.reshape(gate, (-1, *shape)), outputs.dtype)
    apart = ops.reshape(outputs, (ops.shape(gate)[0], -1, *sizes[1:]))
    return ops.reshape(apart * gate, sizes)


@dataclass(frozen=True)
class WeightGradients(Criterion):
    """A criterion from gradients by the kernels that make the units: its mean over batches.

    Args:
        statistic: from a kernel and a gradient by it, both `(inputs, units)`, to `(units,)`.
        __name__: name of the criterion.
        of: `"loss"`, or `"outputs"` for the mean over outputs, one backward pass each.
        outputs: how many outputs to differentiate at most; drawn by the seed where there are more.
            Defaults to 16.
    """

    statistic: Callable[[Any, Any], Any]
    __name__: str
    of: str = "loss"
    outputs: int = 16

    arguments = ("outputs",)
    needs_samples = True

    @property
    def needs_loss(self) -> bool:
        return self.of == "loss"

    @property
    def loses(self) -> str | None:
        return "each" if self.of == "loss" else None

    def __call__(self, kernel: Any, gradient: Any) -> Any:
        kernel, gradient = (ops.cast(each, "float32") for each in (kernel, gradient))
        return self.statistic(kernel, gradient)

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Average the statistic of kernels and their gradients over batches, and outputs.

        Each output has a pass of its own, so that no more is held than for one.
        """

        def by_loss(x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
            return _statistics(self, subject, scale, lambda: _mean_loss(subject, x, y, weights))

        def by_output(x: list, column: Any, scale: Any) -> dict[str, Any]:
            return _statistics(self, subject, scale, lambda: _mean_output(subject, x, column))

        targets, name = self.of == "loss", self.__name__
        turns = [()] if targets else [(column,) for column in _columns(self, subject)]
        step = by_loss if targets else by_output
        sums, _, count = subject.summed(step, name, targets, turns, scaled=True)
        return {path: total / (count * len(turns)) for path, total in sums.items()}


def _mean_loss(subject: Subject, x: list, y: Any, weights: Any) -> Any:
    total = subject.loss(x, y, weights)
    return total / ops.cast(ops.shape(x[0])[0], total.dtype)


def _columns(criterion: WeightGradients, subject: Subject) -> list[Any]:
    """Return which outputs are differentiated: all, or some that are drawn; integer tensors."""
    count = sum(math.prod(_known(t)) for t in _keras.graph_of(subject.model).outputs)
    drawn = subject.rng(0).permutation(count)[: criterion.outputs]
    return [ops.convert_to_tensor(column, "int32") for column in sorted(drawn.tolist())]


def _mean_output(subject: Subject, x: list, column: Any) -> Any:
    """Return one output, averaged over the batch and over axes of open size."""
    outputs = _keras.walk(subject.model, x, _keras.run)
    tensors = _keras.graph_of(subject.model).outputs
    flat = [_by_column(*pair) for pair in zip(outputs, tensors, strict=True)]
    chosen = ops.take(ops.concatenate(flat, axis=1), column, axis=1)
    return ops.mean(ops.cast(chosen, "float32"))


def _by_column(output: Any, tensor: keras.KerasTensor) -> Any:
    """Lay an output out as `(batch, columns)`."""
    unknown = [axis for axis, size in enumerate(tensor.shape) if axis and size is None]
    means = ops.mean(output, axis=unknown) if unknown else output
    return ops.reshape(means, (-1, math.prod(_known(tensor))))


def _known(tensor: keras.KerasTensor) -> list[int]:
    return [size for size in tensor.shape[1:] if size is not None]


def _statistics(
    criterion: WeightGradients, subject: Subject, scale: Any, function: Callable[[], Any]
) -> dict[str, Any]:
    """Return the criterion's statistic of the gradients of a scalar by all kernels."""
    kernels = [producer.kernel for producer in subject.producers]
    found = _backend.variable_gradients(
        lambda: _scaled(function(), scale), kernels, subject.model.variables
    )
    found = [unscaled(gradient, scale) for gradient in found]
    return {
        p.path: criterion(
            by_units(p.kernel.value, p.axis, len(p.neurons)), by_units(g, p.axis, len(p.neurons))
        )
        for p, g in zip(subject.producers, found, strict=True)
    }


def _magnitude(products: Any) -> Any:
    return ops.abs(products)


def _squared_sum(kernel: Any, gradient: Any) -> Any:
    return ops.square(ops.sum(kernel * gradient, axis=0))


def _summed_magnitude(kernel: Any, gradient: Any) -> Any:
    return ops.sum(ops.abs(gradient), axis=0)


taylor = Gradients(_magnitude, "taylor")
"""First-order change of the loss when the unit goes: `s_j = mean_n |1/P sum_p a_njp dL_n/da_njp|`.

`n` counts samples, `p` the `P` positions of a feature map, `L_n` is the compiled loss of a sample.

Reference:

- Molchanov et al., 2017, Pruning Convolutional Neural Networks for Resource Efficient Inference,
  https://arxiv.org/abs/1611.06440
"""


taylor_weights = WeightGradients(_squared_sum, "taylor_weights")
"""First-order change of the loss when the unit's weights go: `s_j = mean_b (sum_i w_ij g_bij)^2`.

`g_b` is the gradient of the mean loss of batch `b` by the kernel.

Reference:

- Molchanov et al., 2019, Importance Estimation for Neural Network Pruning,
  https://arxiv.org/abs/1906.10771
"""


sensitivity = WeightGradients(_summed_magnitude, "sensitivity", of="outputs")
"""How much outputs move with the unit's weights: `s_j = mean_bk sum_i |dy_bk / dw_ij|`.

`y_bk` is output `k`, averaged over batch `b` and over axes of open size. One backward pass an
output; of more than 16, 16 are drawn.

Reference:

- Tartaglione et al., 2018, Learning Sparse Neural Networks via Sensitivity-Driven Regularization,
  NeurIPS, https://arxiv.org/abs/1810.11764
"""
