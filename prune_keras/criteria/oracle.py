"""The measured change of the loss when a neuron is silenced: slow, and what others estimate.

A neuron is silenced in all weights that read it. What lies before the first of its readers does not
change, so that it is computed once a batch; each neuron costs one pass from there on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.criteria.criterion import Criterion
from prune_keras.graph import Family, Graph, Weight
from prune_keras.samples.batches import size_of
from prune_keras.samples.inputs import flat_inputs
from prune_keras.samples.subject import Subject, as_tensors


@dataclass(frozen=True)
class Oracle(Criterion):
    """Measured change of the mean loss when the neuron is silenced: exact, and slow.

    `s = L(without the neuron) - L`, with zeros in all weights that read it; all members of a
    neuron have its score. What lies before the first of these weights is computed once a batch,
    and each neuron costs a forward pass from there on. What divides by a statistic over channels
    (layer normalization, say) sees zeros, while a cut leaves them out.

    Reference:

    - Molchanov et al., 2017, https://arxiv.org/abs/1611.06440 (section 2.2, "oracle")
    """

    __name__ = "oracle"
    loses = "each"
    needs_samples = True
    needs_loss = True

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Return the change of the mean loss over all samples, the same for all members."""
        everything = [family.neurons.tolist() for family in subject.graph.families]
        changes = loss_changes(subject, everything)
        return {
            p.path: np.array([changes.get(neuron, 0.0) for neuron in p.neurons.tolist()])
            for p in subject.producers
        }


def loss_changes(subject: Subject, neurons: list[list[int]]) -> dict[int, float]:
    """Return by how much the mean loss grows without each of some neurons.

    Args:
        subject: the model and samples.
        neurons: numbers of neurons of each family.
    """
    changes = {neuron: 0.0 for chosen in neurons for neuron in chosen}
    samples = 0
    with contextlib.ExitStack() as passes:
        whole = passes.enter_context(_keras.passing(_recorder(subject), subject.model))
        tails = [_Tail(subject, family, passes) for family in subject.graph.families]
        for x, y, weights in subject.batches_with_targets("oracle"):
            x, y, weights = flat_inputs(subject.inputs, x), as_tensors(y), as_tensors(weights)
            values, base = whole(x, y, weights)
            for tail, chosen in zip(tails, neurons, strict=True):
                for neuron in chosen:
                    lost = tail.loss_without(neuron, values, x, y, weights)
                    changes[neuron] += lost - float(base)
            samples += size_of(x)
    return {neuron: change / samples for neuron, change in changes.items()}


def _recorder(subject: Subject) -> Callable:
    """Return a step that gives what every call returns and adds to the loss, and the loss."""

    @_backend.without_gradients
    def step(x: list, y: Any, weights: Any) -> tuple[list, Any]:
        values: list = []

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            losses = _keras.losses_of(visited.operation)
            values.append((keras.tree.flatten(outputs), losses))
            return outputs

        return values, subject.loss(x, y, weights, call)

    return step


class _Tail:
    """The part of a model from the first layer that reads a family on."""

    def __init__(self, subject: Subject, family: Family, passes: contextlib.ExitStack):
        self.subject = subject
        self.readers = readers_of(subject.graph, family.neurons)
        self.behind = _behind(subject, self.readers)
        self.function = passes.enter_context(_keras.passing(self._step(), subject.model))

    def _step(self) -> Callable:
        @_backend.without_gradients
        def step(values: list, x: list, y: Any, weights: Any) -> Any:
            recorded = iter(zip(values, self.behind, strict=True))

            def call(visited: _keras.Call) -> Any:
                (value, losses), behind = next(recorded)
                if behind:
                    return _keras.run(visited)
                _keras.give_losses(visited.operation, losses)
                return value

            return self.subject.loss(x, y, weights, call)

        return step

    def loss_without(self, neuron: int, values: list, x: list, y: Any, weights: Any) -> float:
        """Return the loss with a neuron silenced; the weights are as before afterwards."""
        with silenced(self.readers, [neuron]):
            return float(self.function(values, x, y, weights))


def readers_of(graph: Graph, neurons: Sequence[int] | np.ndarray) -> list[Weight]:
    """Return the weights that read at least one of some neurons."""
    return [w for w in graph.weights if any(np.isin(w.axes[a], neurons).any() for a in w.reads)]


@contextlib.contextmanager
def silenced(readers: Sequence[Weight], neurons: Sequence[int] | np.ndarray) -> Iterator[None]:
    """Let weights read zeros of some neurons; they are as before afterwards, whatever happens."""
    before = [(weight.variable, ops.copy(weight.variable.value)) for weight in readers]
    try:
        for weight in readers:
            weight.variable.assign(_without(weight, neurons))
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _without(weight: Weight, neurons: Sequence[int] | np.ndarray) -> Any:
    """Return the weight with zeros where it reads one of some neurons."""
    value = ops.convert_to_tensor(weight.variable.value)
    for axis in weight.reads:
        shape = [1] * len(value.shape)
        shape[axis] = -1
        kept = ~np.isin(weight.axes[axis], neurons).reshape(shape)
        value = value * ops.cast(ops.convert_to_tensor(kept), value.dtype)
    return value


def _behind(subject: Subject, readers: list[Weight]) -> list[bool]:
    """Tell of each call, in the order of a walk, whether a reader's values come into it."""
    reading = {id(weight.variable) for weight in readers}
    order: list[bool] = []

    def call(visited: _keras.Call) -> list[np.bool_]:
        given = keras.tree.flatten((visited.args, visited.kwargs))
        own = {id(v) for v in getattr(visited.operation, "weights", ())}
        # Of NumPy's type, lest an argument of the call, such as training=True, pass for one.
        behind = bool(reading & own) or any(v for v in given if isinstance(v, np.bool_))
        order.append(bool(behind))
        return [np.bool_(behind)] * len(visited.node.outputs)

    _keras.walk(subject.model, [np.bool_(False)] * len(subject.inputs), call)
    return order
