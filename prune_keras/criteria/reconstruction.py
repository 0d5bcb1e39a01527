"""How much the next layers' responses change when a neuron goes, exactly and in one pass.

What a neuron adds to a reading layer is linear in its entries of the layer's input: in one of them
for a Dense layer, in one for each position of the kernel for a convolution. The weights by which
they reach all outputs, a matrix `(entries, outputs)`, are brought to few outputs by a QR
decomposition, which keeps the sum of squares. So each direction costs as much as a depthwise
convolution.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _backend, _keras
from prune_keras._backend import mean_over_positions
from prune_keras.criteria.criterion import Criterion
from prune_keras.graph import Weight
from prune_keras.samples.subject import Subject

READERS = (layers.Dense, layers.Conv1D, layers.Conv2D)
# Directions in one depthwise convolution: a GPU's compiler takes as long for one as for three, and
# what it gives is as many times the layer's input.
TOGETHER = 3


@dataclass(frozen=True)
class Reconstruction(Criterion):
    r"""Change of the next layers' responses when the unit goes.

    `s_j = sqrt(sum_r mean_np |sum_i x_nip w_i|^2)` over the layers `r` that read the unit, where
    `i` runs over the unit's entries of what is read for one response (the window of a convolution),
    `w_i` are their weights to all outputs, `n` counts samples and `p` positions of the response.
    Dense layers and convolutions over one or two axes count as readers. Units that others read are
    scored by `"l2"`.

    Reference:

    - Luo et al., 2017, ThiNet, https://arxiv.org/abs/1707.06342
    """

    __name__ = "reconstruction"
    needs_samples = True

    def measure(self, subject: Subject) -> dict[str, np.ndarray]:
        """Score the units that Dense layers and convolutions read."""
        prunable = np.concatenate([np.zeros(0, int), *(f.neurons for f in subject.graph.families)])
        readers = _readers(subject, prunable)

        @_backend.without_gradients
        def step(x: list) -> dict[str, Any]:
            sums: dict[str, Any] = {}

            def call(visited: _keras.Call) -> Any:
                key = str(id(visited.operation))
                reader = readers.get(key)
                if reader is not None:
                    energy = reader.energy(_keras.first_input(visited), ops.shape(x[0])[0])
                    sums[key] = sums[key] + energy if key in sums else energy
                return _keras.run(visited)

            _keras.walk(subject.model, x, call)
            return sums

        sums, samples, _ = subject.summed(step, self.__name__) if readers else ({}, 1, 0)
        energies: dict[int, float] = dict.fromkeys(prunable.tolist(), 0.0)
        read = {n for reader in readers.values() for n in reader.neurons.tolist()}
        for key, total in sums.items():
            for neuron, energy in zip(readers[key].neurons.tolist(), total, strict=True):
                energies[neuron] += energy / samples
        return {
            p.path: np.sqrt([energies.get(neuron, 0.0) for neuron in p.neurons.tolist()])
            for p in subject.producers
            if read.issuperset(p.neurons[p.prunable].tolist())
        }


def _readers(subject: Subject, prunable: np.ndarray) -> dict[str, _Reader]:
    """Return the layers that read neurons, by their id."""
    weights = {id(weight.variable): weight for weight in subject.graph.weights}
    found = {
        str(id(layer)): _Reader(layer, weights[id(_keras.kernel_of(layer))], prunable)
        for layer in _keras.operations_seen_in(subject.model)
        if isinstance(layer, READERS)
        and id(_keras.kernel_of(layer)) in weights  # else it has no rule
    }
    return {key: reader for key, reader in found.items() if len(reader.neurons)}


class _Reader:
    """A layer that reads neurons: the directions in which each one adds to its outputs."""

    def __init__(self, layer: Any, weight: Weight, prunable: np.ndarray):
        kernel = ops.convert_to_numpy(_keras.kernel_of(layer).value).astype(np.float64)
        axis = kernel.ndim - 2
        self.layer = layer
        self.groups = getattr(layer, "groups", 1)
        along = weight.axes.get(axis, np.full(kernel.shape[axis], -1))
        self.neurons = np.unique(along[np.isin(along, prunable)])
        self.entries = list(_entries(along, self.neurons))
        parts = np.split(kernel, self.groups, axis=-1)
        found = [_directions(part, along, self.neurons) for part in parts]
        count = max(len(each) for each in found)
        padded = [np.pad(d, [(0, count - len(d))] + [(0, 0)] * (d.ndim - 1)) for d in found]
        self.directions = np.concatenate(padded, axis=-1)
        # Channel `j` of each group is read for outputs of its own; the rest goes to a last segment.
        place = np.searchsorted(self.neurons, along).clip(max=max(len(self.neurons) - 1, 0))
        known = np.isin(along, self.neurons)
        self.segments = np.concatenate(
            [np.where(known, place * self.groups + g, -1) for g in range(self.groups)]
        )

    def energy(self, x: Any, samples: Any) -> Any:
        """Return the sum over samples of the mean over positions of what each neuron adds,
        squared and summed over the outputs, `(neurons,)`; windows in the batch are positions."""
        if isinstance(self.layer, layers.Dense) and len(self.directions) > 1:
            return self._energy_of_entries(x, samples)
        begins = range(0, len(self.directions), TOGETHER)
        parts = (self.directions[begin : begin + TOGETHER] for begin in begins)
        return sum(self._energy_along(x, samples, directions) for directions in parts)

    def _energy_of_entries(self, x: Any, samples: Any) -> Any:
        """Return the same for a Dense layer in all directions at once, by a product a neuron."""
        rows = ops.cast(ops.reshape(x, (-1, x.shape[-1])), "float32")
        found = []
        for _, entries in self.entries:
            read = ops.take(rows, entries.reshape(-1), axis=-1)
            read = ops.reshape(read, (-1, *entries.shape))
            ways = self.directions[:, entries].transpose(1, 2, 0)
            ways = ops.convert_to_tensor(ways, dtype="float32")
            parts = ops.matmul(ops.transpose(read, (1, 0, 2)), ways)
            found.append(ops.sum(ops.square(parts), axis=(1, 2)))
        order = np.argsort(np.concatenate([places for places, _ in self.entries]))
        energy = ops.take(ops.concatenate(found), order)
        rows, samples = (ops.cast(size, "float32") for size in (ops.shape(rows)[0], samples))
        return energy * samples / rows

    def _energy_along(self, x: Any, samples: Any, directions: np.ndarray) -> Any:
        parts = ops.cast(self._products(x, directions), "float32")
        axis = 1 if getattr(self.layer, "data_format", "") == "channels_first" else -1
        parts = ops.moveaxis(parts, axis, -1)
        parts = ops.reshape(parts, (samples, -1, parts.shape[-1]))
        squares = mean_over_positions(ops.square(self._joined(parts, len(directions))))
        each = (-1, self.groups * len(directions))
        return ops.sum(ops.reshape(ops.sum(squares, axis=0), each), axis=1)

    def _joined(self, parts: Any, directions: int) -> Any:
        """Sum channels of the same segment and direction: `(batch, positions, channels)`, in which
        directions lie beside each other."""
        count = len(self.neurons) * self.groups
        if np.array_equal(self.segments, np.arange(count)):
            return parts
        known = np.flatnonzero(self.segments >= 0)
        order = known[np.argsort(self.segments[known], kind="stable")]
        each = np.arange(directions)
        parts = _backend.take(parts, (order[:, None] * directions + each).reshape(-1), -1)
        if len(order) == count:
            return parts
        segments = (self.segments[order][:, None] * directions + each).reshape(-1)
        whole = ops.segment_sum(
            ops.moveaxis(parts, -1, 0), segments, num_segments=count * directions, sorted=False
        )
        return ops.moveaxis(whole, 0, -1)

    def _products(self, x: Any, directions: np.ndarray) -> Any:
        """Return what each channel is in each direction, `(..., channels * directions)`."""
        kernel = np.moveaxis(directions, 0, -1)
        kernel = ops.cast(ops.convert_to_tensor(kernel, dtype="float32"), x.dtype)
        layer = self.layer
        if isinstance(layer, layers.Dense):
            return x * kernel[:, 0]
        x, padding = _keras.padded(layer, x)
        options = {"strides": layer.strides, "padding": padding, "data_format": layer.data_format}
        options |= {"dilation_rate": layer.dilation_rate}
        if len(set(layer.strides)) > 1:  # TensorFlow's depthwise kernels want equal ones
            flat = ops.reshape(kernel, (*kernel.shape[:-2], 1, -1))
            return ops.conv(x, flat, **options)
        return ops.depthwise_conv(x, kernel, **options)


def _directions(kernel: np.ndarray, along: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """Return what each entry counts in each direction, `(directions, *window, channels)`."""
    *window, channels, outputs = kernel.shape
    taps = int(np.prod(window))
    flat = kernel.reshape(taps, channels, outputs)
    parts = list(_entries(along, neurons))
    most = max((entries.shape[1] for _, entries in parts), default=1)
    found = np.zeros((min(taps * most, outputs), taps, channels))
    for _, entries in parts:
        matrices = np.moveaxis(flat[:, entries], 0, 1).reshape(len(entries), -1, outputs)
        triangles = np.asarray(np.linalg.qr(matrices.transpose(0, 2, 1), mode="r"))
        triangles = triangles.reshape(*triangles.shape[:2], taps, -1).transpose(1, 2, 0, 3)
        found[: len(triangles), :, entries] = triangles
    return found.reshape(len(found), *window, channels)


def _entries(along: np.ndarray, neurons: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places of neurons that have equally many entries, and these: `(neurons, entries)`.

    Args:
        along: `(channels,)`, the neuron in each channel.
        neurons: some of them, in order.
    """
    order = np.argsort(along, kind="stable")
    begins, ends = (np.searchsorted(along[order], neurons, side) for side in ("left", "right"))
    for count in np.unique(ends - begins):
        places = np.flatnonzero(ends - begins == count)
        yield places, order[begins[places, None] + np.arange(count)]
