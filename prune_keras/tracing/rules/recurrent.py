"""Rules of recurrent layers: gates side by side along the kernels' last axis, one unit in each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers, tree
from keras.src.layers.rnn.conv_lstm import ConvLSTMCell

from prune_keras.tracing.labels import Labels, Place, count, product, vector
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.constants import constants_of, slice_along
from prune_keras.tracing.rules.elementwise import activation_mixes
from prune_keras.tracing.rules.overriding import is_plain
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.rules.wrappers import inside, remember
from prune_keras.tracing.visit import Visit

GATES = {layers.SimpleRNNCell: 1, layers.GRUCell: 3, layers.LSTMCell: 4, ConvLSTMCell: 4}


@register_rule(layers.RNN, layers.SimpleRNN, layers.GRU, layers.LSTM)
def recurrent(visit: Visit, trace: Trace) -> Found:
    """Follow the channels from cell to cell; all states of a cell hold its units."""
    layer, x = visit.operation, visit.argument(0, "sequences")
    stacked = type(layer.cell) is layers.StackedRNNCells and is_plain(layer.cell)
    cells = list(layer.cell.cells) if stacked else [layer.cell]
    if not isinstance(x, Labels):
        return _reads_a_constant(visit, trace)
    if not all(type(c) in GATES and is_plain(c) for c in cells):
        return trace.refuse(visit, f"{visit.path} has a cell without a rule")
    ids, units = trace.along(x, -1, visit.path), []
    for cell in cells:
        call = inside(visit, cell, visit.shapes, x) if stacked else visit
        tap_axis = -1 if cell is cells[-1] else None
        remember(trace, cell, Labels(ids, (len(ids),)))
        ids = _cell(call, trace, cell, ids, x.shape[0], tap_axis)
        trace.setting(cell, "state_size", ids, _size_like(cell.state_size))
        units.append(ids)
    known = list(layer.state_size)
    if stacked:
        trace.setting(layer, "state_size", np.concatenate(units), _sizes_like(known, units))
    else:
        trace.setting(layer, "state_size", ids, _size_like(known))
    states = [
        u for u, cell in zip(units, cells, strict=True) for _ in tree.flatten(cell.state_size)
    ]
    _fix_stateful(visit, trace, units)
    return _outputs(visit, trace, ids, states, axis=-1)


def _reads_a_constant(visit: Visit, trace: Trace) -> list[np.ndarray]:
    return trace.refuse(visit, f"{visit.path} is given a constant for its sequence")


def _size_like(known: Any) -> Callable:
    """Return a function that counts units once for each size in a structure."""
    return lambda kept: tree.map_structure(lambda _: count(kept), known)


def _sizes_like(known: list, units: list[np.ndarray]) -> Callable:
    """Return a function that counts the units of each cell, for the states of all cells."""
    ends = np.cumsum([len(ids) for ids in units])[:-1]

    def new_sizes(kept: np.ndarray) -> list:
        parts = np.split(kept, ends)
        return [_size_like(size)(part) for size, part in zip(known, parts, strict=True)]

    return new_sizes


@register_rule(layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
def recurrent_convolution(visit: Visit, trace: Trace) -> Found:
    cell, x = visit.operation.cell, visit.argument(0, "sequences")
    if not isinstance(x, Labels):
        return _reads_a_constant(visit, trace)
    if type(cell) not in GATES or not is_plain(cell):
        return trace.refuse(visit, f"{visit.path} has a cell without a rule")
    last = list(range(-1 - cell.rank, 0))
    axis = last[0] if cell.data_format == "channels_first" else -1
    channels = trace.along(x, axis, visit.path)
    remember(trace, cell, Labels(vector(channels, axis, x.rank - 1), x.shape[1:]))
    steps = product([x.shape[0], *(visit.shape[i] for i in last if i != axis)])
    units = _cell(visit, trace, cell, channels, steps, axis)
    trace.setting(cell, "input_dim", channels, count)
    _set_kernel_shape(trace, cell, channels, units)
    _fix_stateful(visit, trace, [units])
    return _outputs(visit, trace, units, [units, units], axis)


def _set_kernel_shape(trace: Trace, cell: Any, channels: np.ndarray, units: np.ndarray) -> None:
    size, first = cell.kernel_shape[:-2], len(channels)

    def new_shape(kept: np.ndarray) -> tuple:
        return (*size, count(kept[:first]), 4 * count(kept[first:]))

    trace.setting(cell, "kernel_shape", np.concatenate([channels, units]), new_shape)


def _cell(
    visit: Visit,
    trace: Trace,
    cell: Any,
    given: np.ndarray,
    steps: int | None,
    tap_axis: int | None,
) -> np.ndarray:
    """Record the weights of a cell that runs `steps` times, and return its units."""
    gates = GATES[type(cell)]
    units = trace.units(visit, cell.kernel, axis=-1, tap_axis=tap_axis, copies=gates)
    rows = np.tile(units, gates)
    trace.weight(visit, cell.kernel, {-2: given, -1: rows}, reads=(-2,), times=steps)
    trace.weight(visit, cell.recurrent_kernel, {-2: units, -1: rows}, reads=(-2,), times=steps)
    trace.weight(visit, cell.bias, {-1: rows})
    for name in ("units", "filters", "output_size"):
        if hasattr(cell, name):
            trace.setting(cell, name, units, count)
    place = _place(cell, len(units))
    for activation in (cell.activation, getattr(cell, "recurrent_activation", None)):
        reason = activation_mixes(activation, trace, place)
        if reason is not None:
            trace.fix(units, f"{visit.path}: {reason}")
    return units


def _place(cell: Any, size: int) -> Place:
    """Return where the units lie in what a cell's activations are called on."""
    spatial = getattr(cell, "rank", 0)
    first = getattr(cell, "data_format", None) == "channels_first"
    return Place(size, 0 if first else spatial, spatial + 1, cell.compute_dtype)


def _fix_stateful(visit: Visit, trace: Trace, units: list[np.ndarray]) -> None:
    if visit.operation.stateful:
        reason = f"{visit.path} keeps its states from batch to batch"
        trace.fix(np.concatenate(units), reason)


def _outputs(
    visit: Visit, trace: Trace, units: np.ndarray, states: list[np.ndarray], axis: int
) -> list[np.ndarray]:
    """Unite the states with what they start from; return the ids of all outputs."""
    initial = tree.flatten(_starts(visit, trace, axis))
    for labels, ids in zip(initial, states, strict=True) if initial else ():
        trace.unite(trace.along(labels, axis, visit.path), ids)
    mask = visit.argument(2, "mask")
    if isinstance(mask, Labels):
        trace.fix(mask.ids, f"{visit.path} takes them as a mask")
    outputs = [units, *states][: len(visit.shapes)]
    return [vector(ids, axis, len(s)) for ids, s in zip(outputs, visit.shapes, strict=True)]


def _starts(visit: Visit, trace: Trace, axis: int) -> Any:
    """Return the labels of states that a call starts from; constants lose units with others."""
    given = visit.argument(1, "initial_state")
    constants = (each for each in constants_of(visit) if each.path[0] in (1, "initial_state"))
    cuts: list = []

    def labels(state: Any) -> Labels:
        if isinstance(state, Labels):
            return state
        constant = next(constants)
        ids, shape = trace.fresh(constant.shape[axis]), constant.shape[1:]
        cuts.append((constant, axis, ids))
        return Labels(vector(ids, axis, len(shape)), shape)

    starts = [] if given is None else tree.map_structure(labels, given)
    slice_along(visit, trace, cuts)
    return starts


@register_rule(layers.Bidirectional)
def bidirectional(visit: Visit, trace: Trace) -> Found:
    """Both directions stay equally wide, as Keras takes it that they are."""
    layer, x = visit.operation, visit.argument(0, "sequences")
    both = (layer.forward_layer, layer.backward_layer)
    if not isinstance(x, Labels):
        return _reads_a_constant(visit, trace)
    if _channels_first(both[0]):
        return trace.refuse(visit, f"{visit.path} joins its directions along another axis")
    several = 2 if layer.merge_mode is None else 1
    states = visit.shapes[several:]
    joined = 2 if layer.merge_mode == "concat" else 1
    width = visit.shape[-1] // joined  # type: ignore[operator]  # units are known
    shapes = [(*visit.shape[:-1], width), *states[: len(states) // 2]]
    starts = _starts(visit, trace, -1)
    halves = starts[: len(starts) // 2], starts[len(starts) // 2 :]
    directions = zip(both, halves, strict=True)
    found = [_direction(visit, trace, each, shapes, x, half) for each, half in directions]
    if any(a.shape != b.shape for a, b in zip(*found, strict=True)):
        return trace.refuse(visit, f"{visit.path} has directions of different widths")
    for a, b in zip(*found, strict=True):
        trace.unite(a, b)
    (forward, *_), (backward, *_) = found
    merged = [forward, backward][:several]
    if layer.merge_mode == "concat":
        merged = [np.concatenate([forward, backward], axis=-1)]
    return [*merged, *found[0][1:], *found[1][1:]]


def _channels_first(layer: Any) -> bool:
    return getattr(layer.cell, "data_format", None) == "channels_first"


def _direction(
    visit: Visit, trace: Trace, layer: Any, shapes: list[tuple], x: Labels, starts: Any
) -> list[np.ndarray]:
    """Run the rule of one of the two layers."""
    remember(trace, layer, x)
    given = {"initial_state": starts} if len(starts) else {}
    mask = visit.argument(2, "mask")
    return trace.apply(inside(visit, layer, shapes, x, **given, mask=mask))
