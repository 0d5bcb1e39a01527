"""Products: a kernel and what Dense and EinsumDense layers read, multiplied over some axes.

A layer that is linear in its kernel responds, in each of its groups, `rows @ weights`: `(rows,
read) @ (read, units)`, one row a position of its output.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers, ops

from prune_keras.readers.entries import taken

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Axes:
    """The axes of a product by their letters, as of `keras.layers.EinsumDense`.

    Args:
        read: of the input.
        kernel: of the kernel.
        made: of the output.

    Example:

    >>> axes = Axes.of(layers.EinsumDense("abc,cde->abde", (None, 2, 3)))
    >>> axes.summed, axes.units, axes.groups
    ('c', 'de', '')
    """

    read: str
    kernel: str
    made: str

    @classmethod
    def of(cls, layer: Any) -> Axes:
        """Return those of a Dense layer or EinsumDense, an ellipsis among them."""
        equation = layer.equation if isinstance(layer, layers.EinsumDense) else "...c,cd->...d"
        left, made = equation.replace(" ", "").split("->")
        read, kernel = left.split(",")
        return cls(read, kernel, made)

    @property
    def is_of_matrices(self) -> bool:
        """Whether each sum is over axes of both the input and the kernel, and of no diagonal."""
        terms = (self.read, self.kernel, self.made)
        signs = {*"".join(terms)} - {"."}
        paired = all(sum(sign in term for term in terms) > 1 for sign in signs)
        return paired and not any(term.count(sign) > 1 for term in terms for sign in signs)

    @property
    def groups(self) -> str:
        """Axes along which each entry of the output reads its own part of the input."""
        return "".join(sign for sign in self.kernel if sign in self.read and sign in self.made)

    @property
    def summed(self) -> str:
        return "".join(s for s in self.read if s in self.kernel and s not in self.made)

    @property
    def units(self) -> str:
        return "".join(s for s in self.made if s in self.kernel and s not in self.read)

    @property
    def positions(self) -> str:
        return "".join(sign for sign in self.read if sign not in self.kernel)


@dataclass(frozen=True)
class Product:
    """A product of a kernel and what is read.

    Args:
        axes: their letters, one for each axis.
        bias: those of the bias.
        sizes: of the axes of the output, by their letters.
    """

    axes: Axes
    bias: str
    sizes: dict[str, int]

    @classmethod
    def of(cls, layer: Any, rank: int, shape: tuple[int, ...]) -> Product:
        """Return the product of a layer for an input of a rank and an output of a shape."""
        axes = Axes.of(layer)
        free = [sign for sign in _LETTERS if sign not in axes.read + axes.kernel + axes.made]
        dots = "".join(free[: rank - len(axes.read.replace("...", ""))])
        read, made = (each.replace("...", dots) for each in (axes.read, axes.made))
        bias = getattr(layer, "bias_axes", None) or made[-1]
        return cls(Axes(read, axes.kernel, made), bias, dict(zip(made, shape, strict=True)))

    def rows(self, x: Any, places: np.ndarray) -> np.ndarray:
        axes = self.axes
        return _at(x, axes.read, (axes.positions, axes.groups, axes.summed), places)

    def made_at(self, y: Any, places: np.ndarray) -> np.ndarray:
        axes = self.axes
        return _at(y, axes.made, (axes.positions, axes.groups, axes.units), places)

    def positions(self, shape: tuple[int, ...]) -> int:
        sizes = dict(zip(self.axes.made, shape, strict=True))
        return math.prod(sizes[sign] for sign in self.axes.positions)

    def staying(self, stays: dict[int, np.ndarray]) -> tuple[Any, Any]:
        """Return which groups stay, and which units in them."""
        by_sign = {self.axes.kernel[axis]: each for axis, each in stays.items()}
        found = []
        for part in (self.axes.groups, self.axes.units):
            each = np.ones(1, bool)
            for sign in part:
                along = by_sign.get(sign, np.ones(self.sizes[sign], bool))
                each = np.outer(each, along).reshape(-1)
            found.append(each)
        return found[0], found[1]

    @property
    def shifts(self) -> bool:
        """Whether a bias shifts each unit by itself."""
        return {*self.bias} == {*self.axes.groups, *self.axes.units}

    def folded_bias(self, shift: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        order = self.axes.groups + self.axes.units
        wide = shift.reshape([self.sizes[sign] for sign in order])
        return wide.transpose([order.index(s) for s in self.axes.made if s in order]).reshape(shape)

    def read_by_each(self, shape: tuple[int, ...]) -> int:
        sizes = dict(zip(self.axes.read, shape, strict=True))
        return math.prod(sizes[sign] for sign in self.axes.summed)

    def folded(self, weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        sizes = dict(zip(self.axes.kernel, shape, strict=True))
        order = self.axes.groups + self.axes.summed + self.axes.units
        wide = weights.reshape([sizes[sign] for sign in order])
        return wide.transpose([order.index(sign) for sign in self.axes.kernel])

    def unfolded(self, kernel: np.ndarray, read: int) -> np.ndarray:
        axes = self.axes
        return _laid_out(kernel, axes.kernel, axes.groups, axes.summed, axes.units)


def _at(x: Any, signs: str, parts: tuple[str, str, str], places: np.ndarray) -> np.ndarray:
    """Return what a tensor holds at some positions, `(groups, positions, numbers)`."""
    sizes, order = dict(zip(signs, x.shape, strict=True)), "".join(parts)
    x = x if order == signs else ops.transpose(x, [signs.index(sign) for sign in order])
    count, groups, each = (math.prod(sizes[sign] for sign in part) for part in parts)
    found = taken(ops.reshape(x, (count, groups * each)), places)
    return np.moveaxis(found.reshape(len(places), groups, each), 1, 0)


def _laid_out(x: np.ndarray, signs: str, *parts: str) -> np.ndarray:
    sizes = dict(zip(signs, x.shape, strict=True))
    moved = x.transpose([signs.index(sign) for part in parts for sign in part])
    return moved.reshape([math.prod(sizes[sign] for sign in part) for part in parts])
