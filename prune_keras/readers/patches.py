"""Patches: what each response of a convolution reads, tap by tap.

Of each of its groups, `rows @ weights` are the responses: `(rows, read) @ (read, units)`, one row a
position of the output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.readers.entries import taken
from prune_keras.readers.kinds import DEPTHWISE, SEPARABLE, TRANSPOSED
from prune_keras.readers.windows import table


@dataclass(frozen=True)
class Patches:
    """A convolution: what each of its responses reads, tap by tap.

    Args:
        tables: along each spatial axis, `(responses, taps)`: the position that is read, -1 for a
            zero of the padding.
        groups: how many groups of channels are apart.
        units: how many units each group has.
        transposed: whether the kernel holds its units in front of the channels.
        first: whether channels lie in front.
    """

    tables: tuple[np.ndarray, ...]
    groups: int
    units: int
    transposed: bool
    first: bool

    shifts = True

    @classmethod
    def of(cls, layer: Any, x: tuple[int, ...], y: tuple[int, ...]) -> Patches:
        first = layer.data_format == "channels_first"
        sizes = x[2:] if first else x[1:-1]
        channels, made = (shape[1 if first else -1] for shape in (x, y))
        groups = channels if isinstance(layer, DEPTHWISE) else getattr(layer, "groups", 1)
        if isinstance(layer, SEPARABLE):  # its input is what its own channels were convolved to
            tables = tuple(np.arange(size)[:, None] for size in sizes)
        else:
            tables = tuple(table(layer, place, size) for place, size in enumerate(sizes))
        return cls(tables, groups, made // groups, isinstance(layer, TRANSPOSED), first)

    def rows(self, x: Any, places: np.ndarray) -> np.ndarray:
        x = self._channels_last(x)
        sizes, channels = x.shape[1:-1], x.shape[-1]
        samples, *at = np.unravel_index(places, (len(x), *[len(t) for t in self.tables]))
        index = samples[:, None]
        inside = np.ones_like(index, bool)
        for each, place, size in zip(self.tables, at, sizes, strict=True):
            along = each[place]
            index = (index[:, :, None] * size + along[:, None]).reshape(len(places), -1)
            inside = (inside[:, :, None] & (along[:, None] >= 0)).reshape(len(places), -1)
        found = taken(ops.reshape(x, (-1, channels)), np.where(inside, index, 0).reshape(-1))
        found = found.reshape(*inside.shape, self.groups, channels // self.groups)
        if not inside.all():
            found = np.where(inside[..., None, None], found, found.dtype.type(0))
        return np.moveaxis(found, 2, 0).reshape(self.groups, len(places), -1)

    def _channels_last(self, x: Any) -> Any:
        return ops.moveaxis(x, 1, -1) if self.first else x

    def read_by_each(self, shape: tuple[int, ...]) -> int:
        channels = shape[1 if self.first else -1]
        return math.prod(table.shape[1] for table in self.tables) * channels // self.groups

    def staying(self, stays: dict[int, np.ndarray]) -> tuple[Any, Any]:
        """Return which groups stay, and which units in them."""
        rank = len(self.tables)
        last = stays.get(rank if self.transposed else rank + 1)
        if last is None or len(last) != self.groups * self.units:  # each channel by itself
            return stays.get(rank, np.ones(self.groups, bool)), np.ones(self.units, bool)
        each = last.reshape(self.groups, self.units)
        return each.any(axis=1), each.any(axis=0)

    def folded_bias(self, shift: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return shift.reshape(shape)

    def positions(self, shape: tuple[int, ...]) -> int:
        return shape[0] * math.prod(shape[2:] if self.first else shape[1:-1])

    def made_at(self, y: Any, places: np.ndarray) -> np.ndarray:
        y = self._channels_last(y)
        found = taken(ops.reshape(y, (-1, y.shape[-1])), places)
        return np.moveaxis(found.reshape(len(places), self.groups, -1), 1, 0)

    def folded(self, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        taps = shape[: len(self.tables)]
        parts = weights.reshape(self.groups, math.prod(taps), -1, weights.shape[-1])
        if self.transposed:
            return parts[0].swapaxes(1, 2).reshape(shape)
        return parts.transpose(1, 2, 0, 3).reshape(shape)

    def unfolded(self, kernel: np.ndarray, read: int) -> np.ndarray:
        taps = math.prod(kernel.shape[: len(self.tables)])
        if self.transposed:
            return kernel.reshape(taps, *kernel.shape[-2:]).swapaxes(1, 2).reshape(1, read, -1)
        parts = kernel.reshape(taps, read // taps, self.groups, -1)
        return parts.transpose(2, 0, 1, 3).reshape(self.groups, read, -1)


def separated(layer: Any, x: Any) -> Any:
    """Return what the kernel that is fitted is applied to, where a layer has another one before."""
    if not isinstance(layer, SEPARABLE):
        return x
    x, padding = _keras.padded(layer, x)
    return ops.depthwise_conv(
        x,
        layer.depthwise_kernel,
        strides=layer.strides,
        padding=padding,
        dilation_rate=layer.dilation_rate,
        data_format=layer.data_format,
    )
