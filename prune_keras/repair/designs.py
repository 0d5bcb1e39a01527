"""Designs: what each number that a layer responds is a sum of, as rows of numbers.

A layer that is linear in its kernel responds, in each of its groups, `rows @ weights`: `(rows,
read) @ (read, units)`, one row a position of its output.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras import _keras
from prune_keras.samples.moments import exact

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
READERS = (layers.Dense, layers.EinsumDense, *CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)


def numbers(x: Any) -> np.ndarray:
    """Return a tensor as an array of float32 or float64."""
    return np.asarray(ops.convert_to_numpy(exact(ops.convert_to_tensor(x))))


def kernel_of(layer: Any) -> Any:
    """Return the variable that is fitted."""
    if isinstance(layer, SEPARABLE):
        return layer.pointwise_kernel
    return layer.kernel if isinstance(layer, TRANSPOSED + DEPTHWISE) else _keras.kernel_of(layer)


def read_by_each(layer: Any, kernel: tuple[int, ...]) -> int:
    """Return how many numbers each response is a sum of, with a kernel of this shape."""
    if isinstance(layer, layers.EinsumDense):
        left, made = layer.equation.replace(" ", "").split("->")
        pairs = zip(left.split(",")[1], kernel, strict=True)
        return math.prod(size for sign, size in pairs if sign not in made)
    if isinstance(layer, DEPTHWISE):
        return math.prod(kernel[:-2])
    return math.prod(kernel[:-2]) * kernel[-1 if isinstance(layer, TRANSPOSED) else -2]


@dataclass(frozen=True)
class Contraction:
    """A product over some axes, as of Dense and EinsumDense; each letter is an axis.

    Args:
        read: of the input.
        kernel: of the kernel.
        made: of the output.
        bias: of the bias.
        sizes: of the axes, by their letters.
    """

    read: str
    kernel: str
    made: str
    bias: str
    sizes: dict[str, int]

    @classmethod
    def of(cls, layer: Any, rank: int, shape: tuple[int, ...]) -> Contraction:
        if isinstance(layer, layers.Dense):
            left, right = "...c,cd", "...d"
        else:
            left, right = layer.equation.replace(" ", "").split("->")
        read, kernel = left.split(",")
        free = [sign for sign in _LETTERS if sign not in read + kernel + right]
        dots = "".join(free[: rank - len(read.replace("...", ""))])
        right = right.replace("...", dots)
        bias = getattr(layer, "bias_axes", None) or right[-1]
        sizes = dict(zip(right, shape, strict=True))
        return cls(read.replace("...", dots), kernel, right, bias, sizes)

    @property
    def groups(self) -> str:
        return "".join(sign for sign in self.kernel if sign in self.read and sign in self.made)

    @property
    def summed(self) -> str:
        return "".join(sign for sign in self.kernel if sign not in self.made)

    @property
    def units(self) -> str:
        return "".join(sign for sign in self.kernel if sign not in self.read)

    @property
    def positions(self) -> str:
        return "".join(sign for sign in self.read if sign not in self.kernel)

    def rows(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        return _laid_out(x, self.read, self.groups, self.positions, self.summed)[:, places]

    def laid_out(self, y: Any) -> np.ndarray:
        return _laid_out(numbers(y), self.made, self.groups, self.positions, self.units)

    def staying(self, stays: dict[int, np.ndarray]) -> tuple[Any, Any]:
        """Return which groups stay, and which units in them."""
        by_sign = {self.kernel[axis]: each for axis, each in stays.items()}
        found = []
        for part in (self.groups, self.units):
            each = np.ones(1, bool)
            for sign in part:
                along = by_sign.get(sign, np.ones(self.sizes[sign], bool))
                each = np.outer(each, along).reshape(-1)
            found.append(each)
        return found[0], found[1]

    @property
    def shifts(self) -> bool:
        """Whether a bias shifts each unit by itself."""
        return {*self.bias} == {*self.groups, *self.units}

    def folded_bias(self, shift: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        order = self.groups + self.units
        wide = shift.reshape([self.sizes[sign] for sign in order])
        return wide.transpose([order.index(s) for s in self.made if s in order]).reshape(shape)

    def read_by_each(self, shape: tuple[int, ...]) -> int:
        sizes = dict(zip(self.read, shape, strict=True))
        return math.prod(sizes[sign] for sign in self.summed)

    def folded(self, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        sizes = dict(zip(self.kernel, shape, strict=True))
        order = self.groups + self.summed + self.units
        wide = weights.reshape([sizes[sign] for sign in order])
        return wide.transpose([order.index(sign) for sign in self.kernel])

    def unfolded(self, kernel: np.ndarray, read: int) -> np.ndarray:
        return _laid_out(kernel, self.kernel, self.groups, self.summed, self.units)


_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _laid_out(x: np.ndarray, signs: str, *parts: str) -> np.ndarray:
    sizes = dict(zip(signs, x.shape, strict=True))
    moved = x.transpose([signs.index(sign) for part in parts for sign in part])
    return moved.reshape([math.prod(sizes[sign] for sign in part) for part in parts])


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
            tables = tuple(_table(layer, axis, size) for axis, size in enumerate(sizes))
        return cls(tables, groups, made // groups, isinstance(layer, TRANSPOSED), first)

    def rows(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        x = np.moveaxis(x, 1, -1) if self.first else x
        sizes, channels = x.shape[1:-1], x.shape[-1]
        samples, *at = np.unravel_index(places, (len(x), *[len(t) for t in self.tables]))
        index = samples[:, None]
        inside = np.ones_like(index, bool)
        for table, place, size in zip(self.tables, at, sizes, strict=True):
            along = table[place]
            index = (index[:, :, None] * size + along[:, None]).reshape(len(places), -1)
            inside = (inside[:, :, None] & (along[:, None] >= 0)).reshape(len(places), -1)
        found = x.reshape(-1, channels)[np.where(inside, index, 0)]
        found = np.where(inside[..., None], found, 0)
        found = found.reshape(*inside.shape, self.groups, channels // self.groups)
        return np.moveaxis(found, 2, 0).reshape(self.groups, len(places), -1)

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

    def laid_out(self, y: Any) -> np.ndarray:
        y = numbers(y)
        y = np.moveaxis(y, 1, -1) if self.first else y
        return np.moveaxis(y.reshape(-1, self.groups, y.shape[-1] // self.groups), 1, 0)

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


def _table(layer: Any, axis: int, size: int) -> np.ndarray:
    """Return what position each response along an axis reads with each tap, -1 for none."""
    padding = getattr(layer, "output_padding", None)
    settings = (layer.kernel_size, layer.strides, layer.dilation_rate, padding)
    taps, stride, dilation, after = (
        each if isinstance(each, int | None) else each[axis] for each in settings
    )
    kind = isinstance(layer, TRANSPOSED)
    return _read(kind, size, taps, stride, dilation, layer.padding, after)


@functools.lru_cache(maxsize=256)
def _read(
    transposed: bool, size: int, taps: int, stride: int, dilation: int, padding: str, after: Any
) -> np.ndarray:
    """Ask the backend, with the numbers of positions as values, digit by digit."""
    places = np.arange(1, size + 1)
    digits = np.stack([places // _BASE**power % _BASE for power in range(4)])
    x, each = digits[..., None].astype("float32"), np.eye(taps, dtype="float32")
    if padding == "causal":
        x, padding = np.pad(x, [(0, 0), (dilation * (taps - 1), 0), (0, 0)]), "valid"
    options = {"strides": stride, "padding": padding, "data_format": "channels_last"}
    options["dilation_rate"] = dilation
    if transposed:
        found = ops.conv_transpose(x, each[:, :, None], output_padding=after, **options)
    else:
        found = ops.conv(x, each[:, None], **options)
    found = np.rint(np.asarray(ops.convert_to_numpy(found))).astype(int)
    return sum(found[power] * _BASE**power for power in range(4)) - 1


_BASE = 128  # which even the coarsest products of numbers keep


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


@dataclass(frozen=True)
class Response:
    """What a layer was called on, and what it responded before its activation.

    Args:
        x: what its kernel was applied to.
        mask: booleans along the first axes of `x`, or None.
        y: the response.
        design: how it is made; None where the layer is none of `READERS`.
    """

    x: Any
    mask: Any
    y: Any
    design: Any

    @classmethod
    def of(cls, layer: Any, x: Any, mask: Any, y: Any) -> Response:
        if not isinstance(layer, READERS):
            return cls(x, mask, y, None)
        x = separated(layer, x)
        if isinstance(layer, layers.Dense | layers.EinsumDense):
            return cls(x, mask, y, Contraction.of(layer, len(x.shape), y.shape))
        return cls(x, None, y, Patches.of(layer, tuple(x.shape), tuple(y.shape)))

    @property
    def width(self) -> int:
        return self.design.read_by_each(tuple(self.x.shape))

    def places(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """Draw positions that are not masked, as far apart as can be."""
        rows = self.rows
        found = np.arange(rows)
        if self.mask is not None:
            mask = np.asarray(ops.convert_to_numpy(self.mask)).astype(bool)
            each = rows // mask.size
            found = found[np.repeat(mask.reshape(-1), each)] if rows % mask.size == 0 else found
        count = min(count, len(found))
        at = (np.arange(count) + draw.random(count)) * (len(found) / max(count, 1))
        return found[at.astype(int)]

    @property
    def rows(self) -> int:
        return self.design.laid_out(self.y).shape[1]

    def samples_of(self, places: np.ndarray) -> np.ndarray:
        """Return the number of the sample that each position is of."""
        return places * len(self.x) // self.rows

    def at(self, places: np.ndarray, stays: dict[int, np.ndarray] | None = None) -> np.ndarray:
        """Return responses at positions, `(groups, positions, units)`, those that stay."""
        return self.taken(self.y, places, stays)

    def taken(self, y: Any, places: np.ndarray, stays: Any = None) -> np.ndarray:
        """Return what lies at positions of a tensor that is shaped as responses are."""
        found = self.design.laid_out(y)[:, places]
        if stays is None:
            return found
        groups, units = self.design.staying(stays)
        return found[groups][:, :, units]

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return what is read at positions, `(groups, positions, read)`, in float64."""
        return self.design.rows(numbers(self.x), places).astype("float64")
