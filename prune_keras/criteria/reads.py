"""Reads: rows of what a layer's kernel is multiplied by, and the neurons in each entry of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras._backend import take
from prune_keras.graph import Weight
from prune_keras.readers.kinds import CONVOLUTIONS, learns_bias, learns_kernel
from prune_keras.samples.moments import Moments, exact, merged, moments_of
from prune_keras.samples.subject import Subject

MOST = 64  # positions along one axis


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
        return learns_kernel(self.layer)

    @property
    def learns_bias(self) -> bool:
        """Whether there is a bias that is not frozen."""
        return learns_bias(self.layer)

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

    def by_output(self, slopes: Any) -> Any:
        """Square slopes by responses, and sum over all but the outputs, to `(outputs,)`."""
        rank = len(slopes.shape)
        others = [axis for axis in range(rank) if axis - rank not in self.made]
        return ops.reshape(ops.sum(ops.square(slopes), axis=others), (-1,))


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
    mask = _keras.carried_mask(x)
    if mask is None or isinstance(reader.layer, CONVOLUTIONS):
        return None
    rank = len(x.shape) - len(mask.shape)
    return ops.ones_like(exact(x)) * ops.cast(mask[(..., *[None] * rank)], "float32")
