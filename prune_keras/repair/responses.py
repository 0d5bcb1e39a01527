"""Responses: what a layer read and responded, as rows that weights are fitted by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from prune_keras import _backend
from prune_keras.readers.kinds import PRODUCTS, is_linear
from prune_keras.readers.patches import Patches, separated
from prune_keras.readers.products import Product
from prune_keras.samples.moments import exact, mask_rows, rows_of


@dataclass(frozen=True)
class Response:
    """What a layer was called on, and what it responded before its activation.

    Args:
        x: what its kernel was applied to.
        mask: booleans along the first axes of `x`, or None.
        y: the response.
        design: `Product` or `Patches`, how it is made; None where the layer is not linear.
    """

    x: Any
    mask: Any
    y: Any
    design: Any

    @classmethod
    def of(cls, layer: Any, x: Any, mask: Any, y: Any) -> Response:
        if not is_linear(layer):
            return cls(x, mask, y, None)
        x = separated(layer, x)
        if isinstance(layer, PRODUCTS):
            return cls(x, mask, y, Product.of(layer, len(x.shape), y.shape))
        return cls(x, None, y, Patches.of(layer, tuple(x.shape), tuple(y.shape)))

    @property
    def width(self) -> int:
        return self.design.read_by_each(tuple(self.x.shape))

    @cached_property
    def rows(self) -> int:
        return self.design.positions(tuple(self.y.shape))

    def places(self, count: int, draw: np.random.Generator) -> np.ndarray:
        """Draw positions that are not masked, as far apart as can be."""
        rows = self.rows
        found = np.arange(rows)
        if self.mask is not None:
            mask = np.asarray(ops.convert_to_numpy(self.mask)).astype(bool)
            each = rows // mask.size
            found = found[np.repeat(mask.reshape(-1), each)] if rows % mask.size == 0 else found
        return found[spread(len(found), count, draw)]

    def samples_of(self, places: np.ndarray, count: int) -> np.ndarray:
        """Return which of so many samples each position is of; those of one follow one another."""
        return places * count // self.rows

    def at(self, places: np.ndarray, stays: dict[int, np.ndarray] | None = None) -> np.ndarray:
        """Return responses at positions, `(groups, positions, units)`, those that stay."""
        return self.taken(self.y, places, stays)

    def taken(self, y: Any, places: np.ndarray, stays: Any = None) -> np.ndarray:
        """Return what lies at positions of a tensor that is shaped as responses are."""
        found = self.design.made_at(y, places)
        if stays is None:
            return found
        for axis, stay in zip((0, 2), self.design.staying(stays), strict=True):
            found = found if stay.all() else found.take(np.flatnonzero(stay), axis)
        return found

    def read(self, places: np.ndarray) -> np.ndarray:
        """Return what is read at positions, `(groups, positions, read)`."""
        return self.design.rows(self.x, places)

    def values_by(self, axis: int) -> int:
        """Return how many values each unit along an axis of what is read has."""
        return math.prod(self.x.shape) // self.x.shape[axis]

    def values(self, axis: int, places: np.ndarray) -> tuple[Any, Any]:
        """Return some of them, `(places, units)`, and ones and zeros of their mask, or None."""
        mask = mask_rows(self.mask, self.x, axis)
        found = exact(_backend.take(rows_of(self.x, axis), places, 0))
        return found, None if mask is None else _backend.take(mask, places, 0)


def spread(among: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """Draw so many places among others, at most, as far apart as can be."""
    count = min(count, among)
    return ((np.arange(count) + draw.random(count)) * (among / max(count, 1))).astype("int32")
