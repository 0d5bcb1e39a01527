"""Fusing: let the neurons that stay say, as far as they can, what the others said.

What a layer reads of the neurons that go is foretold from those that stay, by least squares over
samples, and its weights are changed by as much; so what it responds changes least. The channels of
a feature map are foretold position by position, the same way at each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.samples.subject import Subject

READERS = (layers.Dense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
WAYS = ("auto", "weights", "bias")
RIDGE = 1e-4  # of the mean variance


@dataclass(frozen=True)
class Reader:
    """A layer that reads neurons: a Dense layer or convolution.

    Args:
        layer: the layer.
        axis: the axis of its input along which channels lie.
        neurons: `(channels,)`, the neuron in each channel that it reads, fixed ones included.
        blocks: positions of channels, `(entries, neurons)` arrays: entry `i` of each neuron of a
            block lies in row `i`; more than one entry where a map was flattened.
    """

    layer: Any
    axis: int
    neurons: np.ndarray
    blocks: tuple[np.ndarray, ...]

    @property
    def key(self) -> str:
        return str(id(self.layer))


def check_fuse(fuse: Any, data: Any) -> None:
    """Raise a ValueError unless `fuse` is known, and there are samples for it."""
    if fuse is not None and fuse not in WAYS:
        raise ValueError(f"`fuse` must be a bool, None or one of {WAYS}. Received: fuse={fuse!r}.")
    if fuse in ("weights", "bias") and data is None:
        raise ValueError(
            f"Fusing looks at samples. Received: fuse={fuse!r}, data=None. "
            "Pass data=inputs, (inputs, targets), or a dataset of batches."
        )


def fused(
    model: Any, graph: Graph, kept: np.ndarray, data: Any, fuse: str
) -> list[tuple[int, np.ndarray]]:
    r"""Return what the weights of layers that lose inputs become, before anything is cut.

    With `x` what a layer reads of one position, `K` the channels that stay and `R` the others, the
    prediction `x_R = A x_K + b` has the least mean squared error over samples and positions, and
    `w_K` becomes `w_K + A^T w_R` at each place of the kernel; the layer's bias takes what `b` adds.
    A layer without a bias gets `b = 0`. With `fuse="bias"`, `A = 0` and `b = mean(x_R)`.

    Args:
        model: the model; it is not changed.
        graph: its graph.
        kept: `(neurons,)` booleans, which neurons stay.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        fuse: `"weights"` or `"bias"`.

    Returns:
        (position in `model.variables`, value of the thin variable) pairs.

    Reference:

    - Mariet and Sra, 2016, Diversity Networks, ICLR, https://arxiv.org/abs/1511.05077 (section 3)
    """
    readers = [r for r in _readers(model, graph) if not kept[r.neurons].all()]
    moments = _moments(Subject(model, graph, data), readers)
    places = {id(variable): place for place, variable in enumerate(model.variables)}
    units = {id(weight.variable): weight.axes for weight in graph.weights}
    values = []
    for reader in readers:
        if fuse == "bias" and reader.layer.bias is None:
            continue
        kernel, bias = _changed(reader, kept, moments, fuse)
        variable = _keras.kernel_of(reader.layer)
        made = kept[units[id(variable)][kernel.ndim - 1]]
        values.append((places[id(variable)], kernel[..., kept[reader.neurons], :][..., made]))
        if bias is not None:
            values.append((places[id(reader.layer.bias)], bias[made]))
    return values


def assign(model: Any, values: Sequence[tuple[int, np.ndarray]]) -> None:
    """Give a thin model's variables the values that `fused` returned."""
    variables = model.variables
    for place, value in values:
        variables[place].assign(value)


def _readers(model: Any, graph: Graph) -> list[Reader]:
    axes = {id(weight.variable): weight.axes for weight in graph.weights}
    found = []
    for layer in _keras.operations_in(model):
        if isinstance(layer, READERS) and getattr(layer, "groups", 1) == 1:
            # A layer without a rule, or one that reads positions, reads no neurons by its kernel.
            kernel = _keras.kernel_of(layer)
            neurons = axes.get(id(kernel), {}).get(len(kernel.shape) - 2)
            if neurons is None:
                continue
            axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
            found.append(Reader(layer, axis, neurons, _blocks(neurons)))
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


def _moments(subject: Subject, readers: list[Reader]) -> dict[str, np.ndarray]:
    """Return means of products of what is read, with a column of ones, by reader and block."""
    by_key = {reader.key: reader for reader in readers}

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        sums: dict[str, Any] = {}

        def call(visited: _keras.Call) -> Any:
            reader = by_key.get(str(id(visited.operation)))
            if reader is not None:
                for key, products in _products(_keras.first_input(visited), reader):
                    sums[key] = sums[key] + products if key in sums else products
            return _keras.run(visited)

        _keras.walk(subject.model, x, call)
        return sums

    sums, _, _ = subject.summed(step, "fuse") if readers else ({}, 0, 0)
    return {key: total / total[-1, -1] for key, total in sums.items()}


def _products(x: Any, reader: Reader) -> Iterator[tuple[str, Any]]:
    """Yield the sum over samples and positions of the products of each block's neurons."""
    x = ops.cast(ops.moveaxis(x, reader.axis, -1), "float32")
    for number, block in enumerate(reader.blocks):
        flat = ops.reshape(ops.take(x, block.reshape(-1), axis=-1), (-1, block.shape[1]))
        flat = ops.concatenate([flat, ops.ones_like(flat[:, :1])], axis=1)
        yield f"{reader.key}/{number}", ops.matmul(ops.transpose(flat), flat)


def _changed(
    reader: Reader, kept: np.ndarray, moments: dict[str, np.ndarray], fuse: str
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the kernel, at its full size, and the bias, with what is lost moved to what stays."""
    layer = reader.layer
    kernel = ops.convert_to_numpy(_keras.kernel_of(layer).value).astype(np.float64)
    bias = layer.bias
    if bias is not None:
        bias = ops.convert_to_numpy(bias.value).astype(np.float64)
    for number, block in enumerate(reader.blocks):
        stays = kept[reader.neurons[block[0]]]
        if stays.all():
            continue
        by, shift = _foretold(moments[f"{reader.key}/{number}"], stays, fuse, bias is not None)
        for entries in block:
            lost = kernel[..., entries[~stays], :]
            kernel[..., entries[stays], :] += np.einsum("rk,...ro->...ko", by, lost)
            if bias is not None:
                bias = bias + np.einsum("r,kro->o", shift, lost.reshape(-1, *lost.shape[-2:]))
    return kernel, bias


def _foretold(
    moments: np.ndarray, stays: np.ndarray, fuse: str, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return `A`, `(lost, kept)`, and `b`, `(lost,)`, of the best prediction of what is lost."""
    mean, second = moments[-1, :-1], moments[:-1, :-1]
    if fuse == "bias" or not stays.any():
        return np.zeros((int((~stays).sum()), int(stays.sum()))), mean[~stays] * intercept
    if intercept:
        second = second - np.outer(mean, mean)
    inner = second[np.ix_(stays, stays)]
    inner = inner + np.eye(len(inner)) * (RIDGE * np.trace(inner) / len(inner) + 1e-12)
    by = np.linalg.solve(inner, second[np.ix_(stays, ~stays)]).T
    return by, (mean[~stays] - by @ mean[stays]) * intercept
