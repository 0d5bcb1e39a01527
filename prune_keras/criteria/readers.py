"""Readers: which layers read neurons by a kernel, and how each kind of them lays out its reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _keras
from prune_keras._backend import take
from prune_keras.criteria.reads import CONVOLUTIONS, Drawn, Reader, Table
from prune_keras.graph import Graph, Weight

ATTENTION = tuple(
    getattr(layers, name)
    for name in ("MultiHeadAttention", "GroupQueryAttention")
    if hasattr(layers, name)
)


def readers_in(model: Any, graph: Graph, entries: int) -> list[Reader]:
    """Return the layers that read neurons, and whose responses can be told.

    Args:
        model: the model.
        graph: its graph.
        entries: where a response reads more than this many, one place is looked at after another.
    """
    weights = {id(weight.variable): weight for weight in graph.weights}
    found: dict[int, Reader] = {}
    for layer in _candidates(model):
        weight = weights.get(id(_keras.kernel_of(layer)))  # none, if it has no rule
        if weight is None or not weight.reads or id(layer) in found:
            continue
        make = _convolution if isinstance(layer, CONVOLUTIONS) else _product
        reader = make(layer, weight, entries)
        if reader is not None:
            found[id(layer)] = reader
    return list(found.values())


def _candidates(model: Any) -> Iterator[Any]:
    for operation in _keras.operations_in(model):
        inside = _keras.all_layers(operation)[1:] if isinstance(operation, ATTENTION) else ()
        for layer in (operation, *inside):
            if isinstance(layer, (layers.Dense, layers.EinsumDense, *CONVOLUTIONS)):
                yield layer


def _convolution(layer: Any, weight: Weight, entries: int) -> Reader | None:
    kernel = _numbers(layer.kernel)
    *window, channels, outputs = kernel.shape
    if weight.reads != (len(window),):
        return None
    taps, first = math.prod(window), layer.data_format == "channels_first"
    along = np.tile(weight.axes[len(window)], taps)
    tables = []
    for group, part in enumerate(np.split(kernel, layer.groups, axis=-1)):
        made = np.arange(outputs).reshape(layer.groups, -1)[group]
        matrix = part.reshape(-1, part.shape[-1])
        tables.append(_tables(f"{id(layer)}/{group}", (along,), matrix, made, entries))

    def rows(x: Any, drawn: Drawn) -> list[Any]:
        x = ops.moveaxis(x, 1, -1) if first else x
        patches = _patches(layer, x, drawn)
        count = patches.shape[-1] // layer.groups
        parts = [patches[..., g * count : (g + 1) * count] for g in range(layer.groups)]
        return [ops.reshape(part, (-1, taps * channels)) for part in parts]

    axes = (-1 - len(window),) if first else (-1,)
    channels_given = np.tile(weight.axes[len(window)], layer.groups)
    return Reader(layer, weight, weight.reads, rows, axes, axes, channels_given, tuple(tables))


def _patches(layer: Any, x: Any, drawn: Drawn) -> Any:
    """Return what some responses read, `(batch, *positions, *window, channels)`; zeros outside."""
    rank = len(layer.kernel_size)
    counts = []
    for place in range(rank):
        size = ops.shape(x)[1 + place]
        index = _read_along(layer, place, size, drawn)
        inside = ops.cast((index >= 0) & (index < size), x.dtype)
        counts += [index.shape[0], index.shape[1]]
        index = ops.reshape(ops.clip(index, 0, size - 1), (-1,))
        shape = [1] * (rank + 2)
        shape[1 + place] = -1
        x = take(x, index, axis=1 + place) * ops.reshape(inside, shape)
    x = ops.reshape(x, (-1, *counts, x.shape[-1]))
    positions = [1 + 2 * place for place in range(rank)]
    return ops.transpose(x, (0, *positions, *(p + 1 for p in positions), 2 * rank + 1))


def _read_along(layer: Any, place: int, size: Any, drawn: Drawn) -> Any:
    """Return which positions some responses read along an axis, `(responses, taps)`."""
    taps, stride = layer.kernel_size[place], layer.strides[place]
    dilation, reach = layer.dilation_rate[place], (taps - 1) * layer.dilation_rate[place]
    valid = layer.padding == "valid"
    count = (size - reach - 1) // stride + 1 if valid else (size - 1) // stride + 1
    before: Any = reach if layer.padding == "causal" else 0
    if layer.padding == "same":
        short = (count - 1) * stride + reach + 1 - size
        before = max(short, 0) // 2 if isinstance(short, int) else ops.maximum(short, 0) // 2
    shifts = ops.arange(taps, dtype="int32") * dilation - before
    return drawn.along(count, place)[:, None] * stride + shifts


def _product(layer: Any, weight: Weight, entries: int) -> Reader | None:
    """Return a Dense layer or EinsumDense whose contracted axes are the last ones of its input."""
    equation = layer.equation if isinstance(layer, layers.EinsumDense) else "...x,xy->...y"
    terms, made = equation.replace(" ", "").split("->")
    read, kernel = terms.split(",")
    contracted = [s for s in read if s in kernel and s not in made]
    free = [s for s in made if s in kernel and s not in read]
    plain = read.endswith("".join(contracted)) and made.endswith("".join(free))
    if not plain or len(contracted) + len(free) != len(kernel):
        return None
    order = [kernel.index(s) for s in (*contracted, *free)]
    values = _numbers(layer.kernel).transpose(order)
    shape, axes = values.shape[: len(contracted)], order[: len(contracted)]
    along = tuple(
        np.broadcast_to(np.expand_dims(weight.axes[axis], _others(place, len(axes))), shape).ravel()
        for place, axis in enumerate(axes)
        if axis in weight.axes
    )
    matrix, count = values.reshape(math.prod(shape), -1), len(shape)
    tables = _tables(f"{id(layer)}/0", along, matrix, np.arange(matrix.shape[1]), entries)

    def rows(x: Any, drawn: Drawn) -> list[Any]:
        for place in range(1, len(x.shape) - count):
            x = take(x, drawn.along(ops.shape(x)[place], place - 1), axis=place)
        return [ops.reshape(x, (-1, math.prod(x.shape[len(x.shape) - count :])))]

    ends = tuple(range(-count, 0)), tuple(range(-len(free), 0))
    return Reader(layer, weight, tuple(axes), rows, *ends, along[0], (tables,))


def _others(place: int, rank: int) -> tuple[int, ...]:
    return tuple(axis for axis in range(rank) if axis != place)


def _tables(
    key: str, along: tuple[np.ndarray, ...], matrix: np.ndarray, made: np.ndarray, entries: int
) -> tuple[Table, ...]:
    """Return one table of all entries, or those of each number of places that a neuron has."""
    if len(matrix) <= entries:
        return (Table(key, np.arange(len(matrix))[None], along, matrix, made),)
    found = []
    for number, neurons in enumerate(along):
        for places in _places(neurons):
            laid_out = matrix[places].transpose(1, 0, 2).reshape(places.shape[1], -1)
            name = f"{key}/{number}/{len(places)}"
            outputs = np.tile(made, len(places))
            found.append(Table(name, places, (neurons[places[0]],), laid_out, outputs))
    return tuple(found)


def _places(neurons: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the entries of each neuron, `(places, neurons)`, those together that have as many."""
    order = np.argsort(neurons, kind="stable")
    _, counts = np.unique(neurons, return_counts=True)
    entries = np.split(order, np.cumsum(counts)[:-1])
    for count in np.unique(counts):
        yield np.stack([each for each in entries if len(each) == count], axis=1)


def _numbers(value: Any) -> np.ndarray:
    numbers = np.asarray(ops.convert_to_numpy(value))
    return numbers if numbers.dtype == np.float64 else numbers.astype(np.float32)
