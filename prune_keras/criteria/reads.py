"""Reads: rows of what a layer's kernel is multiplied by, and the neurons in each entry of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from prune_keras import _backend, _keras
from prune_keras._backend import take
from prune_keras.graph import Graph, Weight
from prune_keras.samples.moments import Moments, exact, merged, moments_of
from prune_keras.samples.subject import Subject

MOST = 64  # positions along one axis

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
ATTENTION = tuple(
    getattr(layers, name)
    for name in ("MultiHeadAttention", "GroupQueryAttention")
    if hasattr(layers, name)
)


@dataclass(frozen=True)
class Table:
    """Entries that are looked at together: all that a response reads, or one place after another.

    Args:
        key: name of the table.
        places: `(places, entries)`, where in a row the entries lie; rows of several places are
            cut up, and these are taken to tell nothing of each other, and to be alike.
        neurons: the neuron in each entry, `(entries,)` arrays: one, or one an axis of the kernel.
        weights: `(entries, responses)`, those of several places one after another.
        outputs: `(responses,)`, which of the layer's outputs each response is part of.
    """

    key: str
    places: np.ndarray
    neurons: tuple[np.ndarray, ...]
    weights: np.ndarray
    outputs: np.ndarray

    def laid_out(self, rows: Any) -> Any:
        """Return `(rows, entries)` from rows of all that a response reads."""
        chosen = take(rows, ops.convert_to_tensor(self.places.reshape(-1), "int32"), axis=1)
        return ops.reshape(chosen, (-1, self.places.shape[1]))


@dataclass(frozen=True)
class Reader:
    """A layer that reads neurons by its kernel.

    Args:
        layer: the layer.
        weight: its kernel, as the graph knows it.
        axes: the axes of the kernel by which it reads.
        rows: function of what the layer is given, and of `Drawn`, to the rows of each group of its
            outputs, `(rows, entries)`.
        given: the axes of what it is given along which channels lie, counted from the end.
        made: the axes of its response along which its outputs lie, counted from the end.
        channels: the neuron in each channel that it is given, laid out as along these axes.
        groups: the tables of each group of outputs.
    """

    layer: Any
    weight: Weight
    axes: tuple[int, ...]
    rows: Callable[[Any, Drawn], list[Any]]
    given: tuple[int, ...]
    made: tuple[int, ...]
    channels: np.ndarray
    groups: tuple[tuple[Table, ...], ...]

    @property
    def key(self) -> str:
        return str(id(self.layer))

    @property
    def tables(self) -> list[Table]:
        return [table for group in self.groups for table in group]

    @property
    def learns(self) -> bool:
        """Whether the kernel is not frozen."""
        return self.layer.trainable and _keras.kernel_of(self.layer).trainable

    @property
    def learns_bias(self) -> bool:
        """Whether there is a bias that is not frozen."""
        bias = self.layer.bias
        return bias is not None and self.layer.trainable and bias.trainable

    def gate_shape(self, x: Any) -> list[Any]:
        """Return the shape of a gate for each channel of each sample."""
        rank = len(x.shape)
        kept = (0, *(axis % rank for axis in self.given))
        return [size if axis in kept else 1 for axis, size in enumerate(ops.shape(x))]

    def by_neuron(self, slopes: Any) -> Any:
        """Square slopes by gates, those of a neuron's channels summed up; sum over all."""
        _, segments = np.unique(self.channels, return_inverse=True)
        columns = ops.transpose(ops.reshape(slopes, (ops.shape(slopes)[0], -1)))
        count = int(segments.max()) + 1
        joined = ops.segment_sum(columns, segments.reshape(-1), num_segments=count)
        return ops.sum(ops.square(joined))

    def by_output(self, squares: Any) -> Any:
        """Sum squares of slopes by responses over all but the outputs, to `(outputs,)`."""
        rank = len(squares.shape)
        others = [axis for axis in range(rank) if axis - rank not in self.made]
        return ops.reshape(ops.sum(squares, axis=others), (-1,))


@dataclass(frozen=True)
class Drawn:
    """Some positions along axes: one in each of a number of equal parts of an axis.

    Args:
        numbers: `(axes, 64)`, where in its part each of them lies, in [0, 1).
        most: how many along one axis.
    """

    numbers: Any
    most: int

    def along(self, size: Any, place: int) -> Any:
        """Return positions along an axis of a size, all of them if there are few."""
        if isinstance(size, int) and size <= self.most:
            return ops.arange(size, dtype="int32")
        starts = ops.arange(self.most, dtype="float32") + self.numbers[place][: self.most]
        shares = starts * ops.cast(size, "float32") / self.most
        return ops.minimum(ops.cast(shares, "int32"), ops.cast(size - 1, "int32"))


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
    return np.asarray(keras.ops.convert_to_numpy(value), np.float64)


def second_moments(subject: Subject, readers: list[Reader], positions: int) -> dict[str, Moments]:
    """Return the moments of all tables, over some positions of each sample, by key."""
    known = {id(reader.layer): reader for reader in readers}

    @_backend.without_gradients
    def step(given: list) -> dict[str, list]:
        *x, numbers = given
        found: dict[str, list] = {}

        def see(layer: Any, inputs: Any, response: Any) -> Any:
            for key, moments in _read(known[id(layer)], inputs, numbers, positions):
                found.setdefault(key, []).append(moments)
            return response

        with _keras.watched([reader.layer for reader in readers], see):
            _keras.walk(subject.model, x, _keras.run)
        return found

    rng = np.random.default_rng(0)
    draws = ([*x, ops.convert_to_tensor(rng.random((3, MOST)), "float32")] for x in subject.flat())
    return merged(step, subject.model, draws) if readers else {}


def _read(reader: Reader, x: Any, numbers: Any, positions: int) -> Iterator[tuple[str, tuple]]:
    """Yield the moments of each table of a reader."""
    axes = max(len(x.shape) - 1 - len(reader.given), 1)
    places = max(len(table.places) for table in reader.tables)
    most = max(1, min(MOST, int((positions / places) ** (1 / axes) + 1e-9)))
    drawn, mask = Drawn(numbers, most), _mask(reader, x)
    for tables, rows in zip(reader.groups, reader.rows(exact(x), drawn), strict=True):
        counts = None if mask is None else reader.rows(mask, drawn)[0][:, :1]
        for table in tables:
            each = counts if counts is None else ops.repeat(counts, len(table.places), axis=0)
            yield table.key, moments_of(table.laid_out(rows), each, products=True)


def _mask(reader: Reader, x: Any) -> Any:
    """Return ones and zeros of the shape of what a product reads, if that is masked, or None."""
    mask = getattr(x, "_keras_mask", None)
    if mask is None or isinstance(reader.layer, CONVOLUTIONS):
        return None
    rank = len(x.shape) - len(mask.shape)
    return ops.ones_like(exact(x)) * ops.cast(mask[(..., *[None] * rank)], "float32")
