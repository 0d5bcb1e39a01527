"""Rules of what takes a part of a tensor, or cuts it into parts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from keras.src.ops import core, nn
from keras.src.ops import numpy as raw

from prune_keras import _keras
from prune_keras.tracing.labels import varies, varying_axes, vector
from prune_keras.tracing.rules.axes import BATCH, moves_the_batch, tied_parts, without_batch
from prune_keras.tracing.rules.registry import named, register_rule


@register_rule(raw.GetItem)
def get_item(visit, trace):
    """Slices follow numpy; a step over channels ties each period, so that the step stays true."""
    parts, ids = _parts(visit), visit.input.ids
    if not parts or parts[0] != slice(None):
        return trace.refuse(visit, f"{visit.path} picks single entries of them")
    places = [place for place, part in enumerate(parts) if part is not None][1:]
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
    return ids[tuple(part if part is None else _rest(part) for part in parts[1:])]


def _rest(part):
    """Return the key for an axis of which what is left has been taken already."""
    return slice(None) if isinstance(part, slice) else 0


def _parts(visit) -> list:
    """Return one slice or integer an axis, and None for new ones; nothing for any other key."""
    key = visit.args[1] if len(visit.args) > 1 else visit.kwargs["key"]
    parts = list(key) if isinstance(key, tuple | list) else [key]
    if not all(part is None or isinstance(part, slice | int | type(...)) for part in parts):
        return []
    named = sum(part is not None and part is not ... for part in parts)
    missing = [slice(None)] * (visit.input.rank + 1 - named)
    at = next((i for i, part in enumerate(parts) if part is ...), len(parts))
    return [*parts[:at], *missing, *parts[at + 1 :]]


def _picked(visit, trace, ids: np.ndarray, axis: int, at: int) -> np.ndarray:
    """Pick one position, which stays where it lies along an axis of channels.

    Where channels lie along others, too, all positions hold the same ones from then on. Of these,
    two stay: with one, a thin model no longer shows what was tied.
    """
    taken = ids.take([at], axis)
    others = [each for each in varying_axes(ids) if each != axis]
    if not others:
        return trace.fix(taken, f"{visit.path} picks it alone")
    trace.unite(ids, taken)
    trace.at_least(np.moveaxis(taken, others[-1], -1).reshape(-1, taken.shape[others[-1]])[0], 2)
    return taken


def _sliced(visit, trace, ids: np.ndarray, axis: int, part: slice) -> np.ndarray:
    """Take a range; of each period of its step, all go together."""
    size = ids.shape[axis]
    start, stop, step = part.indices(size)
    if step < 1:
        trace.fix(ids, f"{visit.path} picks them backwards")
    firsts = ids.take(range(0, size, step), axis) if step > 1 else ids
    for later in range(1, step):
        others = ids.take(range(later, size, step), axis)
        trace.unite(firsts.take(range(others.shape[axis]), axis), others)
    return ids.take(range(start, stop, step), axis)


def _new_arguments(visit, cuts: dict[int, int]) -> Callable:
    """Return a function of what is kept of a tensor that returns the call's new arguments."""
    parts = _parts(visit)

    def new_arguments(mask: np.ndarray):
        changed = list(parts)
        for axis, place in cuts.items():
            others = tuple(each for each in range(mask.ndim) if each != axis)
            kept = np.asarray(mask.any(axis=others))
            changed[place] = _new_part(parts[place], kept)
        return _keras.with_argument(visit.node, 1, "key", tuple(changed))

    return new_arguments


def _new_part(part: slice | int, kept: np.ndarray) -> slice | int:
    if isinstance(part, int):
        return int(kept[: part % len(kept)].sum())
    start, stop, step = part.indices(len(kept))
    if step < 1:
        return part
    within = start % step
    return slice(within + int(kept[: start - within].sum()), int(kept[:stop].sum()), step)


@register_rule(raw.Split, *named(raw, "Dsplit Hsplit"))
def split(visit, trace):
    """Parts of an axis of channels are cut each by itself."""
    operation, x = visit.operation, visit.input
    given = getattr(operation, "axis", 1 if type(operation).__name__ == "Hsplit" else 2)
    axis, count = without_batch(given, x.rank), len(visit.shapes)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return [x.ids] * count
    given = operation.indices_or_sections
    channels = trace.along(x, axis, visit.path)
    width = len(channels) // count
    ends = [width * part for part in range(1, count)] if isinstance(given, int) else list(given)
    trace.setting(
        operation,
        "indices_or_sections",
        channels,
        lambda mask: tuple(int(mask[:end].sum()) for end in ends),
    )
    return [vector(part, axis, x.rank) for part in np.split(channels, ends)]


@register_rule(raw.ArraySplit)
def array_split(visit, trace):
    """It knows a number of parts only, which stay equally wide."""
    x, count = visit.input, len(visit.shapes)
    axis = without_batch(visit.operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return [x.ids] * count
    channels = trace.along(x, axis, visit.path)
    if len(channels) % count:
        return trace.refuse(visit, f"{visit.path} splits them into parts of two sizes")
    return [vector(tied_parts(trace, channels, count), axis, x.rank)] * count


@register_rule(core.Unstack)
def unstack(visit, trace):
    x = visit.input
    axis = without_batch(visit.operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if varies(x.ids, axis):
        return trace.refuse(visit, f"{visit.path} makes a tensor of each of them")
    return [x.ids.take(0, axis)] * len(visit.shapes)


@register_rule(raw.Take)
def take(visit, trace):
    """Constant numbers of positions pick what lies there; channels are not picked by number."""
    x, given = visit.input, visit.operation.axis
    axis = BATCH if given is None else without_batch(given, x.rank)
    if axis == BATCH or len(visit.inputs) > 1:
        return trace.refuse(visit, f"{visit.path} picks entries by numbers")
    if varies(x.ids, axis):
        return trace.refuse(visit, f"{visit.path} picks them by numbers")
    indices = visit.args[1] if len(visit.args) > 1 else visit.kwargs["indices"]
    sizes = x.ids.shape
    return x.ids.reshape(sizes[:axis] + (1,) * np.ndim(indices) + sizes[axis + 1 :])


@register_rule(*named(nn, "Glu"))
def gated_half(visit, trace):
    """One half is multiplied by a gate made of the other one: channel `j` of both is one."""
    x = visit.input
    axis = without_batch(visit.operation.axis, x.rank)
    if axis == BATCH:
        return moves_the_batch(visit, trace)
    if not varies(x.ids, axis):
        return x.ids
    return vector(tied_parts(trace, trace.along(x, axis, visit.path), 2), axis, x.rank)
