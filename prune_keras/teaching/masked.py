"""Masked: positions of maps that carry no meaning, by the mask that Keras hands on with them.

What is learnt is as if they were not there, however much a batch is padded.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from prune_keras import _keras
from prune_keras.validation import agree


def meaning(value: Any, axis: int | None) -> Any:
    """Return where maps carry meaning, as what broadcasts to them; None for everywhere.

    Args:
        value: the maps, as a layer gave them.
        axis: the axis of channels; None for the last one. A mask is of positions before it.
    """
    mask, shape = _keras.carried_mask(value), tuple(value.shape)
    if mask is None or axis not in (None, -1, len(shape) - 1):
        return None
    rank = len(mask.shape)
    if rank >= len(shape) or not agree(mask.shape, shape[:rank]):
        return None
    for _ in range(len(shape) - rank):
        mask = ops.expand_dims(mask, -1)
    return mask


def without(value: Any, meant: Any) -> Any:
    """Return maps that are zero where they carry no meaning, and have no mask any more."""
    if meant is not None:
        return value * ops.cast(meant, value.dtype)
    return value if _keras.carried_mask(value) is None else ops.copy(value)


def of_meant(means: Any, meant: Any) -> Any:
    """Return means over the positions that carry meaning, for `(batch,)` means over all of them.

    Args:
        means: of what is zero at all others.
        meant: what `meaning` returned.
    """
    if meant is None:
        return means
    share = ops.mean(ops.cast(ops.reshape(meant, (ops.shape(meant)[0], -1)), means.dtype), axis=-1)
    return ops.divide_no_nan(means, share)
