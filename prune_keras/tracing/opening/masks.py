"""Masks: those of tensors in a graph in which nested models stand in place of layers.

Keras lets tensors carry masks, which nested models let go, and warns of it. What one of them makes
or reads is therefore a tensor of its own: handed on by name, and an input of the model that reads
it.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree

from prune_keras import _keras
from prune_keras.tracing.opening.recording import is_symbolic, tensors_in


class Masks:
    """Knows the masks that no tensor carries once the graph is run."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Any]] = {}  # id of a tensor -> it, and its mask

    def with_masks(self, operation: Any, args: tuple, kwargs: dict) -> dict:
        """Return keyword arguments with all masks that a layer would find by itself."""
        return _keras.with_masks(operation, args, kwargs, self.of)

    def are_handed(self, args: tuple, kwargs: dict) -> bool:
        """Tell whether a layer that stays as it is has to be given masks by name."""
        return any(id(each) in self._known for each in tensors_in(args, kwargs))

    def given_to(self, inner: Any, args: tuple, masked: dict) -> list:
        """Return what a nested model is called on, masks that it reads behind the other tensors."""
        given = tensors_in(args, masked)
        masks = [each for each in map(self.of, given) if each is not None]
        return [*map(_bare, given), *(masks if len(inner.inputs) > len(given) else [])]

    def hand(self, operation: Any, args: tuple, masked: dict, outputs: list) -> None:
        """Remember the masks that the outputs of a layer would carry."""
        made = _keras.masks_made(operation, args, masked, len(outputs), self.of)
        self.carry(outputs, made)

    def carry(self, tensors: list, masks: list) -> None:
        """Remember the mask of each tensor that has one, and carries none."""
        for tensor, mask in zip(tensors, masks, strict=True):
            if mask is not None and _keras.carried_mask(tensor) is None:
                self._known[id(tensor)] = tensor, mask

    def carrying(self, given: Any) -> Any:
        """Return what a call is given with tensors that carry their masks, to be recorded."""

        def carrying(value: Any) -> Any:
            if not is_symbolic(value) or id(value) not in self._known:
                return value
            made = keras.KerasTensor(value.shape, value.dtype)
            _keras.carry([made], [self.of(value)])
            return made

        return tree.map_structure(carrying, given)

    def of(self, tensor: Any) -> Any:
        """Return the mask of a tensor, or None."""
        known = self._known.get(id(tensor))
        return _keras.carried_mask(tensor) if known is None else known[1]


def _bare(tensor: Any) -> Any:
    return tensor if _keras.carried_mask(tensor) is None else ops.copy(tensor)
