"""Where the batch lies in what an operation returns, and how much of it belongs to one sample.

Code that splits attention's one projection puts queries, keys and values in front of the batch;
windows of a picture are joined with it.
"""

from __future__ import annotations

from keras.src.ops import core
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import product
from prune_keras.tracing.rules.axes import PERMUTING, keeps_the_batch, permutation
from prune_keras.tracing.rules.elementwise import UNARY
from prune_keras.tracing.rules.slicing import parts_of
from prune_keras.tracing.visit import Visit

# Whatever else is called on a tensor whose batch is not in front would take another axis for it.
MOVING = (*PERMUTING, *UNARY, core.Unstack, raw.GetItem)


def stands_in_front(visit: Visit) -> bool:
    """Tell whether an operation finds the batch where it looks for it."""
    return isinstance(visit.operation, MOVING) or not any(each.batch for each in visit.inputs)


def batch_axis(visit: Visit) -> int:
    """Return the axis of a call's outputs along which the batch lies."""
    operation, inputs = visit.operation, visit.inputs
    if not inputs or not isinstance(operation, MOVING):
        return 0
    batch, rank = inputs[0].batch, inputs[0].rank + 1
    if isinstance(operation, PERMUTING):
        return permutation(operation, rank).index(batch)
    if isinstance(operation, core.Unstack):
        return batch - (operation.axis % rank < batch)
    if isinstance(operation, raw.GetItem):
        return _behind_key(parts_of(visit), batch)
    return batch


def _behind_key(parts: list, batch: int) -> int:
    """Return where an axis lies once parts of all axes have been taken."""
    places = [place for place, part in enumerate(parts) if part is not None]
    before = parts[: places[batch]] if parts else []
    return sum(not isinstance(part, int) for part in before)


def rows_read(visit: Visit) -> int | None:
    """Return how many entries along the batch of what a call reads belong to one sample."""
    given = [labels.rows for labels in visit.inputs]
    known = [each for each in given if each is not None]
    return None if len(known) < len(given) else max(known, default=1)


def rows_made(visit: Visit) -> int | None:
    """Return the same of what it returns."""
    read = rows_read(visit)
    if not isinstance(visit.operation, raw.Reshape) or keeps_the_batch(visit):
        return read
    before, behind = product((read, *visit.input.shape)), product(visit.shape)
    return None if before is None or not behind or before % behind else before // behind
