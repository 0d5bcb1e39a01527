"""Rules of padding, which may bring channels of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import varies, varying_axes
from prune_keras.tracing.rule import Trace
from prune_keras.tracing.rules.axes import resized
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit


@register_rule(raw.Pad)
def pad(visit: Visit, trace: Trace) -> np.ndarray:
    """Zero padding on a channel axis brings channels of its own, which can be removed."""
    widths = _pad_widths(visit.operation.pad_width, visit.input.rank + 1)
    ids = visit.input.ids
    for axis, (before, after) in enumerate(widths[1:]):
        if before or after:
            ids = _padded(visit, trace, ids, axis, before, after)
    if widths[0] != (0, 0):
        trace.fix(ids, f"{visit.path} pads the batch")
    return ids


def _padded(
    visit: Visit, trace: Trace, ids: np.ndarray, axis: int, before: int, after: int
) -> np.ndarray:
    size = visit.input.shape[axis]
    if not varies(ids, axis) or size is None:
        return _padded_evenly(visit, trace, ids, axis)
    if visit.operation.mode != "constant" or len(varying_axes(ids)) > 1:
        return trace.fix(_padded_evenly(visit, trace, ids, axis), f"{visit.path} pads them")
    shape = resized(ids.shape, axis, -1)
    fresh = trace.fresh(before + after).reshape(shape)
    ids = np.concatenate(
        [fresh.take(range(before), axis), ids, fresh.take(range(before, before + after), axis)],
        axis=axis,
    )
    trace.setting(visit.operation, "pad_width", ids, _new_pad_width(visit, axis, before, after))
    return ids


def _padded_evenly(visit: Visit, trace: Trace, ids: np.ndarray, axis: int) -> np.ndarray:
    """Pad an axis that carries no channels, or tie the channels that it does carry."""
    if varies(ids, axis):
        trace.fix(ids, f"{visit.path} pads them")
    return ids.take([0], axis)


def _pad_widths(pad_width: Any, rank: int) -> list[tuple[int, int]]:
    widths = [(w[0], w[-1]) for w in pad_width]
    return widths * rank if len(widths) == 1 else widths


def _new_pad_width(
    visit: Visit, axis: int, before: int, after: int
) -> Callable[[np.ndarray], list[list[int]]]:
    widths = _pad_widths(visit.operation.pad_width, visit.input.rank + 1)

    def new_pad_width(mask: np.ndarray) -> list[list[int]]:
        kept = mask.reshape(-1)
        changed = [list(width) for width in widths]
        changed[axis + 1] = [int(kept[:before].sum()), int(kept[len(kept) - after :].sum())]
        return changed

    return new_pad_width
