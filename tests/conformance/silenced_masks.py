"""Masks of the reference: entries that go together, and those of which that is not known yet."""

import numpy as np


class Masks:
    """What is known of masks: 1 kept, 0 removed, and from 2 on entries that are open.

    Entries that were united are the same one from then on.
    """

    def __init__(self):
        self._same: dict[int, int] = {}
        self._free = 2
        self._along: dict[tuple[int, int], np.ndarray] = {}

    def is_even(self, mask, axis: int) -> bool:
        return not varies(self._resolved(mask), axis)

    def keep(self, mask) -> None:
        self.unite(mask, np.ones_like(mask))

    def vector(self, mask, axis: int) -> np.ndarray:
        return self._vector(mask, axis)

    def unite(self, first, second) -> None:
        self._unite(first, second)

    def open(self, shape) -> np.ndarray:
        """Return a mask of which each entry along the last axis is yet to be known."""
        self._free += shape[-1]
        return np.broadcast_to(np.arange(self._free - shape[-1], self._free), shape)

    def _group(self, mask, groups: int):
        """Return the mask of a group's channels; it must be the same in all groups."""
        rows = mask.reshape(groups, -1)
        self._unite(rows, np.broadcast_to(rows[:1], rows.shape))
        return rows[0]

    def _lies_along(self, variable, axis: int, mask) -> None:
        self._unite(self._along.setdefault((id(variable), axis), mask), mask)

    def _vector(self, mask, axis: int) -> np.ndarray:
        """Return a mask along one axis; it must be the same at all other positions."""
        flat = np.moveaxis(mask, axis, -1).reshape(-1, mask.shape[axis])
        self._unite(flat, np.broadcast_to(flat[:1], flat.shape))
        return flat[0]

    def _padded(self, operation, mask):
        """Padded positions of an axis of channels are open; those in space belong to channels."""
        widths = [tuple(width) for width in operation.pad_width]
        known = self._resolved(mask)
        for axis, (before, after) in enumerate(widths):
            if not (before or after):
                continue
            others = [i for i in range(mask.ndim) if i != axis and varies(known, i)]
            width = [(0, 0)] * mask.ndim
            width[axis] = (before, after)
            if others and not varies(known, axis):
                mask = np.pad(mask, width, mode="edge")
                continue
            mask = np.pad(mask, width)
            for position in [*range(before), *range(mask.shape[axis] - after, mask.shape[axis])]:
                mask[(slice(None),) * axis + (position,)] = self._free
                self._free += 1
        return mask

    def _merged(self, masks, shape):
        masks = [m.reshape((1,) * (len(shape) - m.ndim) + m.shape) for m in masks]
        whole = [m for m in masks if m.shape == shape]
        if not whole:
            for mask in masks:
                self._unite(mask, np.ones_like(mask))
            return np.ones(shape)
        for mask in masks:
            self._join(whole[0], mask)
        return whole[0]

    def _join(self, whole, mask) -> None:
        """Unite a mask with one of full shape, unless it is broadcast over channels."""
        known = self._resolved(whole)
        over = [a for a in range(mask.ndim) if mask.shape[a] == 1 and whole.shape[a] > 1]
        if any(varies(known, axis) for axis in over):
            self._unite(mask, np.ones_like(mask))
            return
        for axis in over:
            whole = whole.take([0], axis)
        self._unite(whole, mask)

    def _unite(self, first, second) -> None:
        """Require that masks are equal; open entries take the other one's value."""
        for a, b in {*zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)}:
            a, b = self._root(a), self._root(b)
            assert a == b or max(a, b) >= 2, "entries that go together are not kept together"
            if a != b:
                self._same[max(a, b)] = min(a, b)

    def _root(self, value):
        while value in self._same:
            value = self._same[value]
        return value

    def _resolved(self, mask) -> np.ndarray:
        values, places = np.unique(mask, return_inverse=True)
        return np.array([self._root(v) for v in values.tolist()])[places].reshape(mask.shape)

    def _final(self, mask) -> np.ndarray:
        """Return booleans; what stayed open is kept."""
        return self._resolved(mask) > 0


def spread(vector, axis: int, shape) -> np.ndarray:
    laid = [1] * len(shape)
    laid[axis] = -1
    return np.broadcast_to(vector.reshape(laid), shape).copy()


def varies(mask, axis: int) -> bool:
    return bool((mask != mask.take([0], axis)).any())
