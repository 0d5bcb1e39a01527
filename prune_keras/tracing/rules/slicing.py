"""Rules of what takes a part of a tensor, or cuts it into parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops
from keras.src.ops import core, nn
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.labels import varies, varying_axes, vector
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import BATCH, moves_the_batch, tied_parts, without_batch
from prune_keras.tracing.rules.registry import named, register_rule
from prune_keras.tracing.visit import Visit


@register_rule(raw.GetItem)
def get_item(visit: Visit, trace: Trace) -> Found:
    """Slices follow numpy; a step over channels ties each period, so that the step stays true."""
    parts, ids = parts_of(visit), visit.input.ids
    places = [place for place, part in enumerate(parts) if part is not None]
    batch = places.pop(visit.input.batch) if parts else None
    if batch is None or parts[batch] != slice(None):
        return trace.refuse(visit, f"{visit.path} picks single entries of them")
    cuts = {
        axis: place
        for axis, place in enumerate(places)
        if parts[place] != slice(None) and varies(ids, axis)
    }
    if cuts:
        trace.rectangle(ids)
        trace.setting(visit.node, "arguments", ids, _new_arguments(visit, cuts))
    for axis, place in cuts.items():
        change = _sliced if isinstance(parts[place], slice) else _picked
        ids = change(visit, trace, ids, axis, parts[place])
    del parts[batch]
    # NumPy makes a scalar of what has no axis left.
    return np.asarray(ids[tuple(part if part is None else _rest(part) for part in parts)])


def _rest(part: slice | int) -> slice | int:
    """Return the key for an axis of which what is left has been taken already."""
    return slice(None) if isinstance(part, slice) else 0


def parts_of(visit: Visit) -> list:
    """Return one slice or integer an axis, and None for new ones; nothing for any other key."""
    parts = _key(visit)
    if not all(part is None or isinstance(part, slice | int | type(...)) for part in parts):
        return []
    named = sum(part is not None and part is not ... for part in parts)
    missing = [slice(None)] * (visit.input.rank + 1 - named)
    at = _dots(parts)
    return [*parts[:at], *missing, *parts[at + 1 :]]


def _spelled_key(visit: Visit) -> Any:
    return visit.args[1] if len(visit.args) > 1 else visit.kwargs["key"]


def _key(visit: Visit) -> list:
    key = _spelled_key(visit)
    return list(key) if isinstance(key, tuple | list) else [key]


def _dots(key: list) -> int:
    """Return where three dots stand; the end is the same as none."""
    return next((place for place, part in enumerate(key) if part is ...), len(key))


def _picked(visit: Visit, trace: Trace, ids: np.ndarray, axis: int, at: int) -> np.ndarray:
    """Pick one position, which stays where it lies along an axis of channels."""
    taken = ids.take([at], axis)
    if not _tied_along(trace, ids, axis):
        trace.fix(taken, f"{visit.path} picks it alone")
    return taken


def _sliced(visit: Visit, trace: Trace, ids: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """Take a range; of each period of its step, all go together."""
    size = ids.shape[axis]
    start, stop, step = part.indices(size)
    if step < 1 and not _tied_along(trace, ids, axis):
        trace.fix(ids, f"{visit.path} picks them backwards")
    firsts = ids.take(range(0, size, step), axis) if step > 1 else ids
    for later in range(1, step):
        others = ids.take(range(later, size, step), axis)
        trace.unite(firsts.take(range(others.shape[axis]), axis), others)
    return ids.take(range(start, stop, step), axis)


def _tied_along(trace: Trace, ids: np.ndarray, axis: int) -> bool:
    """Let all places along an axis stay or none, if channels lie along another one, too.

    Two of these stay: with one, a thin model no longer shows what was tied.
    """
    others = [each for each in varying_axes(ids) if each != axis]
    if others and varies(ids, axis):
        first = ids.take([0], axis)
        trace.unite(ids, first)
        rows = np.moveaxis(first, others[-1], -1).reshape(-1, first.shape[others[-1]])
        trace.at_least(rows[0], 2)
    return bool(others)


def _new_arguments(visit: Visit, cuts: dict[int, int]) -> Callable[[np.ndarray], Any]:
    """Return a function of what is kept of a tensor that returns the call's new arguments."""
    key, parts = _key(visit), parts_of(visit)
    alone = not isinstance(_spelled_key(visit), tuple | list)

    def new_arguments(mask: np.ndarray) -> Any:
        changed = list(key)
        for axis, place in cuts.items():
            # What is behind three dots is counted from the end.
            spelled = place if place < _dots(key) else place - len(parts)
            changed[spelled] = _new_part(parts[place], _kept_along(mask, axis))
        found = changed[0] if alone else tuple(changed)
        return _keras.with_argument(visit.node, 1, "key", found)

    return new_arguments


def _kept_along(mask: np.ndarray, axis: int) -> np.ndarray:
    return np.asarray(mask.any(axis=tuple(each for each in range(mask.ndim) if each != axis)))


def _new_part(part: slice | int, kept: np.ndarray) -> slice | int:
    """Return a part of what is left, spelled the way it was: open, or counted from the end."""
    size, left = len(kept), int(kept.sum())

    def place(old: int | None, new: int) -> int | None:
        return None if old is None else new - left if -size <= old < 0 < left - new else new

    if isinstance(part, int):
        return place(part, int(kept[: part % size].sum()))  # type: ignore[return-value]
    start, stop, step = part.indices(size)
    if step < 1:
        return part
    within = start % step
    begin = within + int(kept[: start - within].sum())
    end = int(kept[:stop].sum())
    return slice(place(part.start, begin), place(part.stop, end), part.step)


@register_rule(raw.Split, *named(raw, "Dsplit Hsplit"))
def split(visit: Visit, trace: Trace) -> Found:
    """Parts of an axis of channels are cut each by itself."""
    operation, x = visit.operation, visit.input
    given = getattr(operation, "axis", 1 if type(operation).__name__ == "Hsplit" else 2)
    axis, count = without_batch(given, x.rank), len(visit.shapes)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return [x.ids] * count
    ids, given = x.ids, operation.indices_or_sections
    width = ids.shape[axis] // count
    ends = [width * part for part in range(1, count)] if isinstance(given, int) else list(given)
    if len(ends) == ids.shape[axis] - 1:
        _tied_along(trace, ids, axis)

    def sections(mask: np.ndarray) -> Any:
        kept = _kept_along(mask, axis)
        counts = {int(part.sum()) for part in np.split(kept, ends)}
        if kept.all():
            return given
        # However it was spelled, so that two cuts write what one does that takes as much.
        return count if len(counts) == 1 else tuple(int(kept[:end].sum()) for end in ends)

    trace.rectangle(ids)
    trace.setting(operation, "indices_or_sections", ids, sections)
    return np.split(ids, ends, axis)


@register_rule(raw.ArraySplit)
def array_split(visit: Visit, trace: Trace) -> Found:
    """It knows a number of parts only, which stay equally wide."""
    x, count = visit.input, len(visit.shapes)
    axis = without_batch(visit.operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return [x.ids] * count
    size = x.ids.shape[axis]
    tied = _tied_along(trace, x.ids, axis) if size % count or size == count else False
    if size % count and not tied:
        return trace.refuse(visit, f"{visit.path} splits them into parts of two sizes")
    parts = np.array_split(x.ids, count, axis)
    for part in () if tied else parts[1:]:
        trace.unite(parts[0], part)
    trace.rectangle(x.ids)
    return parts


@register_rule(core.Unstack)
def unstack(visit: Visit, trace: Trace) -> Found:
    x = visit.input
    axis = visit.operation.axis % (x.rank + 1)
    if axis == x.batch:
        return moves_the_batch(visit, trace)
    axis -= axis > x.batch
    if varies(x.ids, axis) and len(varying_axes(x.ids)) == 1:
        return trace.refuse(visit, f"{visit.path} makes a tensor of each of them")
    _tied_along(trace, x.ids, axis)
    count = x.ids.shape[axis]
    return [x.ids.take(place % count, axis) for place in range(len(visit.shapes))]


@register_rule(raw.Take)
def take(visit: Visit, trace: Trace) -> Found:
    """Constant numbers of positions pick what lies there; channels are not picked by number."""
    x, given = visit.input, visit.operation.axis
    axis = BATCH if given is None else without_batch(given, x.rank)
    if axis == BATCH or len(visit.inputs) > 1:
        return trace.refuse(visit, f"{visit.path} picks entries by numbers")
    indices = visit.args[1] if len(visit.args) > 1 else visit.kwargs["indices"]
    if varies(x.ids, axis):
        if not _tied_along(trace, x.ids, axis):
            return trace.refuse(visit, f"{visit.path} picks them by numbers")
        return x.ids.take(np.asarray(ops.convert_to_numpy(indices)), axis)
    sizes = x.ids.shape
    return x.ids.reshape(sizes[:axis] + (1,) * np.ndim(indices) + sizes[axis + 1 :])


@register_rule(*named(nn, "Glu"))
def gated_half(visit: Visit, trace: Trace) -> Found:
    """One half is multiplied by a gate made of the other one: channel `j` of both is one."""
    x = visit.input
    axis = without_batch(visit.operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return x.ids
    return vector(tied_parts(trace, trace.along(x, axis, visit.path), 2), axis, x.rank)
