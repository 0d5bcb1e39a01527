"""Windows: which positions along an axis a convolution reads, and how often.

A tap at `t` of the kernel reads position `i` for response `(i + before - t * dilation) / stride`,
if there is one. Sizes may be known only as a graph runs.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import ops

from prune_keras.readers.kinds import TRANSPOSED

Settings = tuple[int, int, int, str]
"""Taps, stride, dilation and padding along an axis."""


def settings_of(layer: Any, place: int) -> Settings:
    """Return the settings of a convolution along one of its axes."""
    settings = (layer.kernel_size, layer.strides, layer.dilation_rate)
    taps, stride, dilation = (s if isinstance(s, int) else s[place] for s in settings)
    return taps, stride, dilation, layer.padding


def extent(by: Any, size: Any, settings: Settings) -> tuple[Any, Any]:
    """Return the number of responses along an axis, and of zeros that are padded before it.

    Args:
        by: `keras.ops`, or NumPy where the size is known.
        size: number of positions.
        settings: the convolution's.
    """
    taps, stride, dilation, padding = settings
    reach = (taps - 1) * dilation
    count = (size - reach - 1) // stride + 1 if padding == "valid" else (size - 1) // stride + 1
    before: Any = reach if padding == "causal" else 0
    if padding == "same":
        before = by.maximum((count - 1) * stride + reach + 1 - size, 0) // 2
    return count, before


def read_by(by: Any, responses: Any, before: Any, settings: Settings) -> Any:
    """Return which positions some responses read, `(responses, taps)`; padding lies outside."""
    taps, stride, dilation, _ = settings
    return responses[:, None] * stride + by.arange(taps, dtype="int32") * dilation - before


def reads(layer: Any, x: Any, axis: int) -> tuple[Any, Any]:
    """Return how often each position is read, `(rows, 1)`, and how often a zero of the padding.

    Args:
        layer: a convolution.
        x: what it reads.
        axis: the axis of its channels.
    """
    sizes = ops.shape(x)
    places = [i for i in range(1, len(sizes)) if i != axis % len(sizes)]
    # What is known when a graph is made is no part of it.
    by = np if all(isinstance(sizes[place], int) for place in places) else ops
    weights, total = by.ones((1,), dtype="int32"), 1
    for number, place in enumerate(places):
        along, count = _reads_along(by, sizes[place], settings_of(layer, number))
        weights = by.reshape(weights[:, None] * along[None], (-1,))
        total = total * count
    zeros = sizes[0] * (total - by.sum(weights))
    weights = ops.reshape(ops.cast(weights, x.dtype), (1, -1))
    return ops.reshape(ops.tile(weights, (sizes[0], 1)), (-1, 1)), zeros


def _reads_along(by: Any, size: Any, settings: Settings) -> tuple[Any, Any]:
    """Return how often each position along an axis is read, `(size,)`, and the number of reads."""
    taps, stride, dilation, _ = settings
    count, before = extent(by, size, settings)
    shifts = np.arange(taps, dtype="int32")[:, None] * dilation
    first = by.arange(size, dtype="int32")[None] + before - shifts
    read = (first % stride == 0) & (first >= 0) & (first < count * stride)
    return by.sum(by.where(read, 1, 0), axis=0), count * taps


def table(layer: Any, place: int, size: int) -> np.ndarray:
    """Return the position that each response along an axis reads with each tap, -1 for a zero.

    Args:
        layer: a convolution of any kind.
        place: which of its axes.
        size: number of positions along it.
    """
    settings = settings_of(layer, place)
    if isinstance(layer, TRANSPOSED):
        after = layer.output_padding
        return _asked(size, settings, after if after is None else after[place])
    count, before = extent(np, size, settings)
    index = read_by(np, np.arange(count), before, settings)
    return np.where((index >= 0) & (index < size), index, -1)


@functools.lru_cache(maxsize=256)
def _asked(size: int, settings: Settings, after: int | None) -> np.ndarray:
    """Ask the backend of a transposed one, with numbers of positions as values, digit by digit."""
    taps, stride, dilation, padding = settings
    places = np.arange(1, size + 1)
    digits = np.stack([places // _BASE**power % _BASE for power in range(4)])
    x, each = digits[..., None].astype("float32"), np.eye(taps, dtype="float32")
    found = ops.conv_transpose(
        x,
        each[:, :, None],
        strides=stride,
        padding=padding,
        output_padding=after,
        data_format="channels_last",
        dilation_rate=dilation,
    )
    found = np.rint(np.asarray(ops.convert_to_numpy(found))).astype(int)
    return sum(found[power] * _BASE**power for power in range(4)) - 1


_BASE = 128  # which even the coarsest products of numbers keep
