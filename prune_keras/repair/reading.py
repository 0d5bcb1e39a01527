"""Reading: what layers read of neurons, how often, and what they respond to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _keras
from prune_keras.graph import Graph
from prune_keras.samples.moments import exact, mask_rows, moments_of, rows_of

READERS = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)


@dataclass(frozen=True)
class Reader:
    """A layer that reads neurons: a Dense layer or convolution.

    Args:
        layer: the layer.
        axis: the axis of its input along which channels lie.
        neurons: `(channels,)`, the neuron in each channel that it reads, fixed ones included.
        outputs: `(units,)`, the neuron that each of its units is.
        blocks: positions of channels, `(entries, neurons)` arrays: entry `i` of each neuron of a
            block lies in row `i`; more than one entry where a map was flattened.
    """

    layer: Any
    axis: int
    neurons: np.ndarray
    outputs: np.ndarray
    blocks: tuple[np.ndarray, ...]

    @property
    def key(self) -> str:
        return str(id(self.layer))

    @property
    def kernel(self) -> Any:
        """The variable; with LoRA, the layer's responses are of more than that."""
        return _keras.kernel_of(self.layer)

    @property
    def learns_kernel(self) -> bool:
        """Whether the kernel is not frozen."""
        return self.layer.trainable and self.kernel.trainable

    @property
    def learns_bias(self) -> bool:
        """Whether there is a bias that is not frozen."""
        bias = self.layer.bias
        return bias is not None and self.layer.trainable and bias.trainable

    def responses(self, visited: _keras.Call, kernel: Any) -> tuple[Any, ...]:
        """Return the moments of what another kernel of this layer responds to what a call gets."""
        x = exact(_keras.first_input(visited))
        kernel = ops.cast(kernel, x.dtype)
        if isinstance(self.layer, layers.Dense):
            return moments_of(rows_of(ops.matmul(x, kernel), -1), self._seen(visited, x))
        return moments_of(rows_of(convolved(self.layer, x, kernel), self.axis))

    def products(
        self, visited: _keras.Call, numbers: list[int]
    ) -> Iterator[tuple[str, list[tuple]]]:
        """Yield moments of all pairs of neurons of some blocks, over all that the kernel reads."""
        x = exact(_keras.first_input(visited))
        padded = []
        if isinstance(self.layer, layers.Dense):
            weights = self._seen(visited, x)
        elif all(number == 1 for number in (*self.layer.kernel_size, *self.layer.strides)):
            weights = None  # each position is read once
        else:
            weights, zeros = _reads(self.layer, x, self.axis)
            padded = [(ops.cast(zeros, x.dtype), ops.zeros((), x.dtype), ops.zeros((), x.dtype))]
        x = ops.moveaxis(x, self.axis, -1)
        for number in numbers:
            block = self.blocks[number]
            flat = ops.reshape(ops.take(x, block.reshape(-1), axis=-1), (-1, block.shape[1]))
            each = weights if weights is None else ops.repeat(weights, len(block), axis=0)
            zeros = [(count * len(block), *rest) for count, *rest in padded]
            yield f"{self.key}/{number}", [moments_of(flat, each, products=True), *zeros]

    def _seen(self, visited: _keras.Call, x: Any) -> Any:
        return mask_rows(_keras.mask_of(visited, _keras.first_input(visited)), x, -1)


def convolved(layer: Any, x: Any, kernel: Any) -> Any:
    """Return what a convolution would give with another kernel, without a bias."""
    x, padding = _keras.padded(layer, x)
    return ops.conv(
        x,
        kernel,
        strides=list(layer.strides),
        padding=padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )


def readers_in(model: Any, graph: Graph) -> list[Reader]:
    """Return the layers that read neurons."""
    axes = {id(weight.variable): weight.axes for weight in graph.weights}
    found = []
    for layer in _keras.operations_seen_in(model):
        if isinstance(layer, READERS) and getattr(layer, "groups", 1) == 1:
            # A layer without a rule, or one that reads positions, reads no neurons by its kernel.
            kernel = _keras.kernel_of(layer)
            along = axes.get(id(kernel), {})
            neurons = along.get(len(kernel.shape) - 2)
            if neurons is None:
                continue
            axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
            outputs = along[len(kernel.shape) - 1]
            found.append(Reader(layer, axis, neurons, outputs, _blocks(neurons)))
    return list({reader.key: reader for reader in found}.values())


def _blocks(neurons: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the channels of each neuron, those together that have as many."""
    order = np.argsort(neurons, kind="stable")
    _, counts = np.unique(neurons, return_counts=True)
    channels = np.split(order, np.cumsum(counts)[:-1])
    return tuple(
        np.stack([each for each in channels if len(each) == count], axis=1)
        for count in np.unique(counts)
    )


def _reads(layer: Any, x: Any, axis: int) -> tuple[Any, Any]:
    """Return how often each position is read, `(rows, 1)`, and how often a zero of the padding."""
    sizes = ops.shape(x)
    places = [i for i in range(1, len(sizes)) if i != axis % len(sizes)]
    # What is known when a graph is made is no part of it.
    by = np if all(isinstance(sizes[place], int) for place in places) else ops
    settings = zip(layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    weights, total = by.ones((1,), dtype="int32"), 1
    for place, (taps, stride, dilation) in zip(places, settings, strict=True):
        along, count = _reads_along(by, sizes[place], taps, stride, dilation, layer.padding)
        weights = by.reshape(weights[:, None] * along[None], (-1,))
        total = total * count
    zeros = sizes[0] * (total - by.sum(weights))
    weights = ops.reshape(ops.cast(weights, x.dtype), (1, -1))
    return ops.reshape(ops.tile(weights, (sizes[0], 1)), (-1, 1)), zeros


def _reads_along(
    by: Any, size: Any, taps: int, stride: int, dilation: int, padding: str
) -> tuple[Any, Any]:
    """Return how often each position along an axis is read, `(size,)`, and the number of reads.

    A tap at `t` of the kernel reads position `i` for response `(i + before - t * dilation) /
    stride`, if there is one.

    Args:
        by: `keras.ops`, or NumPy where the size is known.
        size: number of positions.
        taps, stride, dilation, padding: the convolution's.
    """
    reach = (taps - 1) * dilation
    count = (size - reach - 1) // stride + 1 if padding == "valid" else (size - 1) // stride + 1
    before: Any = reach if padding == "causal" else 0
    if padding == "same":
        before = by.maximum((count - 1) * stride + reach + 1 - size, 0) // 2
    shifts = np.arange(taps, dtype="int32")[:, None] * dilation
    first = by.arange(size, dtype="int32")[None] + before - shifts
    read = (first % stride == 0) & (first >= 0) & (first < count * stride)
    return by.sum(by.where(read, 1, 0), axis=0), count * taps
