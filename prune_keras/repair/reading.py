"""Reading: what layers read of neurons, how often, and what they respond to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _keras
from prune_keras.graph import Graph
from prune_keras.readers.entries import entries_of
from prune_keras.readers.kinds import kernel_of, learns_bias, learns_kernel, linear_layers
from prune_keras.readers.windows import reads
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
        return kernel_of(self.layer)

    @property
    def learns_kernel(self) -> bool:
        """Whether the kernel is not frozen."""
        return learns_kernel(self.layer)

    @property
    def learns_bias(self) -> bool:
        """Whether there is a bias that is not frozen."""
        return learns_bias(self.layer)

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
            weights, zeros = reads(self.layer, x, self.axis)
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
    for layer in linear_layers(model):
        if isinstance(layer, READERS) and getattr(layer, "groups", 1) == 1:
            # A layer without a rule, or one that reads positions, reads no neurons by its kernel.
            along = axes.get(id(kernel_of(layer)), {})
            neurons = along.get(len(layer.kernel.shape) - 2)
            if neurons is None:
                continue
            axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
            outputs = along[len(layer.kernel.shape) - 1]
            found.append(Reader(layer, axis, neurons, outputs, entries_of(neurons)))
    return found
