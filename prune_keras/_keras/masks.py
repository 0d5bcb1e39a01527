"""Private Keras, masks: those that symbolic tensors carry, and what layers make of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
from keras import tree
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

MaskOf = Callable[[Any], Any]


def carried_mask(tensor: Any) -> Any:
    """Return the mask that a tensor carries, or None; on JAX it lies in no attribute."""
    return get_keras_mask(tensor)


def carry(tensors: list, masks: list) -> None:
    """Let each tensor carry a mask, where there is one."""
    for tensor, mask in zip(tensors, masks, strict=True):
        if mask is not None:
            set_keras_mask(tensor, mask)


def with_masks(layer: Any, args: tuple, kwargs: dict, mask_of: MaskOf) -> dict:
    """Return keyword arguments with the masks that Keras would give a layer's call by itself.

    Args:
        mask_of: returns the mask of a tensor, or None.
    """
    if not isinstance(layer, keras.layers.Layer):
        return kwargs
    signature = inspect.signature(layer.call)
    try:
        given = signature.bind_partial(*args, **kwargs).arguments
    except TypeError:
        return kwargs
    tensors = {name: value for name, value in given.items() if _is_symbolic(value)}
    names = {name: "mask" if len(tensors) == 1 else f"{name}_mask" for name in tensors}
    found = {
        mask: tree.map_structure(mask_of, tensors[name])
        for name, mask in names.items()
        if mask in signature.parameters and given.get(mask) is None
    }
    masks = {n: v for n, v in found.items() if any(m is not None for m in tree.flatten(v))}
    return {**kwargs, **masks}


def masks_made(layer: Any, args: tuple, kwargs: dict, count: int, mask_of: MaskOf) -> list:
    """Return the masks that the outputs of a layer's call would carry, None where they do not."""
    first = next((value for value in (*args, *kwargs.values()) if _is_symbolic(value)), None)
    if not getattr(layer, "supports_masking", False) or first is None:
        return [None] * count
    before = kwargs.get("mask")
    before = tree.map_structure(mask_of, first) if before is None else before
    made = layer.compute_mask(first, before)
    masks = [None] * count if made is None else tree.flatten(made)
    return masks if len(masks) == count else [None] * count


def _is_symbolic(value: Any) -> bool:
    flat = tree.flatten(value)
    return bool(flat) and all(isinstance(each, keras.KerasTensor) for each in flat)
