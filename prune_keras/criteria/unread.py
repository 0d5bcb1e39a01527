"""What the loss grows by where no response can be told: by slopes of the loss by weights.

With a gate on everything that some weights read of a neuron, the slope of a sample's loss by the
gate is `sum_i w_i dL_n/dw_i`, and closing it costs about `1/2 mean_n (sum_i w_i dL_n/dw_i)^2`.
Slopes are of batches; those of samples are taken to point anywhere, as they do where training came
to rest, so that the mean over samples is a batch's square times its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.criteria.reads import Reader
from prune_keras.samples.scale import unscaled
from prune_keras.samples.subject import Subject


def unread(subject: Subject, readers: Iterable[Reader], name: str) -> np.ndarray:
    """Return what each neuron counts beside what readers tell of it, by its number.

    Reads of other weights count, and of neurons that no weight reads, the kernels that make them.

    Args:
        subject: the model and samples.
        readers: layers whose reads are told.
        name: name of the criterion.
    """
    size = 1 + max((int(p.neurons.max()) for p in subject.graph.producers.values()), default=0)
    known = np.concatenate([np.zeros(0, int), *(f.neurons for f in subject.graph.families)])
    slots = [*_other_reads(subject, readers), *_unread_makers(subject)]
    slots = [slot for slot in slots if np.isin(slot[2], known).any()]
    if not slots:
        return np.zeros(size)
    variables = list({id(variable): variable for variable, _, _ in slots}.values())
    segments = np.concatenate([neurons for _, _, neurons in slots])
    segments = np.where(np.isin(segments, known), segments, size)  # the last one does not count

    def step(x: list, y: Any, weights: Any, scale: Any) -> dict[str, Any]:
        def loss() -> Any:
            total = subject.loss(x, y, weights)
            return total * ops.cast(scale, total.dtype)

        found = _backend.variable_gradients(loss, variables, subject.model.variables)
        slopes = {id(v): unscaled(g, scale) for v, g in zip(variables, found, strict=True)}
        parts = [_along(v.value, slopes[id(v)], axis) for v, axis, _ in slots]
        each = ops.segment_sum(ops.concatenate(parts), segments, num_segments=size + 1)
        return {"squares": ops.square(each)}  # of sums over samples

    sums, samples, _ = subject.summed(step, name, targets=True, scaled=True)
    return sums["squares"][:size] / samples / 2


def _along(value: Any, slope: Any, axis: int) -> Any:
    """Sum a weight times the slope of the loss by it over all but one axis."""
    products, rank = ops.cast(value, slope.dtype) * slope, len(value.shape)
    return ops.sum(products, axis=[a for a in range(rank) if a != axis % rank])


def _other_reads(subject: Subject, readers: Iterable[Reader]) -> Iterable[tuple]:
    """Yield variables, axes by which they read, and the neurons along these, that are not told."""
    told = set()
    for reader in readers:
        kernel = reader.weight.variable
        told |= {(id(kernel), axis) for axis in reader.axes}
        lora = _keras.lora_of(reader.layer, kernel)
        told |= set() if lora is None else {(id(lora[0]), axis) for axis in reader.axes}
    for weight in subject.graph.weights:
        for axis in weight.reads:
            if (id(weight.variable), axis) not in told:
                yield weight.variable, axis, weight.axes[axis]


def _unread_makers(subject: Subject) -> Iterable[tuple]:
    """Yield kernels, axes and neurons of layers that make units which no weight reads."""
    read = [weight.axes[axis] for weight in subject.graph.weights for axis in weight.reads]
    for producer in subject.producers:
        neurons = producer.neurons
        unread = ~np.isin(neurons, np.concatenate([np.zeros(0, int), *read])) & producer.prunable
        if unread.any():
            copies = producer.kernel.shape[producer.axis] // len(neurons)  # gates of a cell
            yield producer.kernel, producer.axis, np.tile(np.where(unread, neurons, -1), copies)
