"""Readers: which layers read neurons by a kernel, and how each kind of them lays out its reads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from keras import ops

from prune_keras._backend import take
from prune_keras.criteria.reads import Drawn, Reader, Table
from prune_keras.graph import Graph, Weight
from prune_keras.readers.entries import entries_of, numbers
from prune_keras.readers.kinds import CONVOLUTIONS, PRODUCTS, kernel_of, linear_layers
from prune_keras.readers.products import Axes
from prune_keras.readers.windows import extent, read_by, settings_of


def readers_in(model: Any, graph: Graph, entries: int) -> list[Reader]:
    """Return the layers that read neurons, and whose responses can be told.

    Args:
        model: the model.
        graph: its graph.
        entries: where a response reads more than this many, one place is looked at after another.
    """
    weights = {id(weight.variable): weight for weight in graph.weights}
    found: list[Reader] = []
    for layer in linear_layers(model):
        weight = weights.get(id(kernel_of(layer)))  # none, if it has no rule
        if weight is None or not weight.reads or not isinstance(layer, (*PRODUCTS, *CONVOLUTIONS)):
            continue
        make = _convolution if isinstance(layer, CONVOLUTIONS) else _product
        reader = make(layer, weight, entries)
        if reader is not None:
            found.append(reader)
    return found


def _convolution(layer: Any, weight: Weight, entries: int) -> Reader | None:
    kernel = numbers(layer.kernel)
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
    settings = settings_of(layer, place)
    count, before = extent(np if isinstance(size, int) else ops, size, settings)
    return read_by(ops, drawn.along(count, place), before, settings)


def _product(layer: Any, weight: Weight, entries: int) -> Reader | None:
    """Return a Dense layer or EinsumDense whose contracted axes are the last ones of its input."""
    signs = Axes.of(layer)
    summed, units = signs.summed, signs.units
    plain = signs.read.endswith(summed) and signs.made.endswith(units)
    if signs.groups or not summed or not plain:
        return None
    count, order = len(summed), [signs.kernel.index(sign) for sign in summed + units]
    values = numbers(layer.kernel).transpose(order)
    shape, axes = values.shape[:count], tuple(order[:count])
    along = tuple(
        np.broadcast_to(np.expand_dims(weight.axes[axis], _others(place, count)), shape).ravel()
        for place, axis in enumerate(axes)
        if axis in weight.axes
    )
    matrix = values.reshape(math.prod(shape), -1)
    tables = _tables(f"{id(layer)}/0", along, matrix, np.arange(matrix.shape[1]), entries)

    def rows(x: Any, drawn: Drawn) -> list[Any]:
        for place in range(1, len(x.shape) - count):
            x = take(x, drawn.along(ops.shape(x)[place], place - 1), axis=place)
        return [ops.reshape(x, (-1, math.prod(shape)))]

    ends = tuple(range(-count, 0)), tuple(range(-len(units), 0))
    return Reader(layer, weight, axes, rows, *ends, along[0], (tables,))


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
        for places in entries_of(neurons):
            laid_out = matrix[places].transpose(1, 0, 2).reshape(places.shape[1], -1)
            name = f"{key}/{number}/{len(places)}"
            outputs = np.tile(made, len(places))
            found.append(Table(name, places, (neurons[places[0]],), laid_out, outputs))
    return tuple(found)
