"""Settling: which neurons a layer's own `call` lets go, and which of its numbers follow.

What its graph tells may go is tried on the call itself; see `probing`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.graph import Family, Graph
from prune_keras.tracing.opening.following import Follower, Width, together
from prune_keras.tracing.opening.opened import Opened
from prune_keras.tracing.opening.probing import Thin, mismatch, tells


def settle(tracer: Any, calls: Sequence[Opened], resolve: Callable[[], Graph]) -> Graph:
    """Return the graph of what all layers' own calls let go.

    Args:
        tracer: is told what stays, and which attributes follow.
        calls: what was looked into, outer calls before those in them.
        resolve: makes a graph of what the tracer knows.
    """
    graph = resolve()
    held: set[str] = set()
    silent: set[str] = set()
    for _, group in itertools.groupby(sorted(calls, key=_depth, reverse=True), _depth):
        level = [*group]
        failing = [call for call in level if _fails(call, graph)]
        held |= {call.path for call in failing if not _settle_one(tracer, call, graph)}
        graph = resolve() if failing else graph
        for call in (call for call in failing if _fails(call, graph)):
            held.add(call.path)
            for family in _touching(call, graph):
                tracer.fix(family.neurons, _reason(call, "it reads several widths at once"))
            graph = resolve()
        # What makes layers by their arguments can tell no more than these layers' own configs.
        asked = [call for call in level if not _holds(call, silent)]
        told = [_let_tell(tracer, call, graph) for call in asked if call.path not in held]
        graph = resolve() if any(told) else graph
        silent |= {call.path for call in level if call not in asked or not _tells(call, graph)}
    opened = [dataclasses.replace(call, follows=call.path not in held) for call in calls]
    return dataclasses.replace(graph, opened=tuple(opened))


def _holds(call: Opened, paths: set[str]) -> bool:
    return any(path.startswith(f"{call.path}/") for path in paths)


def _tells(call: Opened, graph: Graph) -> bool:
    """Tell whether a layer's config tells of all that may be cut."""
    return tells(call, thin_graph(graph, graph.families), {})


def _depth(call: Opened) -> int:
    return call.path.count("/") + bool(call.path)


def _fails(call: Opened, graph: Graph) -> bool:
    """Tell whether a call does otherwise once neurons of families are gone, all or some of these.

    Two families may be as wide as each other for it; so there is a trial for any two of them that
    cuts one and not the other.
    """
    families = _touching(call, graph)
    if _why(call, graph, families) is not None:
        return True
    bits = range(max(len(families) - 1, 0).bit_length())
    trials = ([f for place, f in enumerate(families) if place >> bit & 1] for bit in bits)
    return any(mismatch(call, thin_graph(graph, trial), {}) is not None for trial in trials)


def _why(
    call: Opened,
    graph: Graph,
    families: Sequence[Family],
    attributes: Mapping[str, Follower] = MappingProxyType({}),
) -> str | None:
    """Return what a call does otherwise once neurons of families are gone, few or most, or None."""
    for most in (False, True):
        thin = thin_graph(graph, families, most)
        values = {name: follower.at(thin) for name, follower in attributes.items()}
        why = mismatch(call, thin, values)
        if why is not None:
            return why
    return None


def _settle_one(tracer: Any, call: Opened, graph: Graph) -> bool:
    """Fix what a call does not let go; return whether that is nothing, as attributes follow."""
    held: list[tuple[Family, str]] = []
    for family in _touching(call, graph):
        why = _why(call, graph, [family])
        found = {} if why is None else _following(call, graph, [family])
        if found is None:
            held.append((family, str(why)))
        _set(tracer, call, found or {})
    for family, why in _left_alone(tracer, call, graph, held):
        tracer.fix(family.neurons, _reason(call, why))
    return not held


def _left_alone(
    tracer: Any, call: Opened, graph: Graph, held: list[tuple[Family, str]]
) -> list[tuple[Family, str]]:
    """Let families that one number counts go together, as queries and keys; return the others."""
    left = []
    for size in dict.fromkeys(family.size for family, _ in held):
        alike = [each for each in held if each[0].size == size]
        families = [family for family, _ in alike]
        found = _following(call, graph, families) if len(families) > 1 else None
        if found is None:
            left += alike
            continue
        for other in families[1:]:
            tracer.unite(families[0].neurons, other.neurons)
        _set(tracer, call, found)
    return left


def _set(tracer: Any, call: Opened, attributes: Mapping[str, Follower]) -> None:
    for name, follower in attributes.items():
        key = id(call.layer), name
        known = tracer.followers.get(key)
        if known is not None and follower.array is not None:
            follower = known.beside(follower)
            tracer.record.settings.pop(key, None)
        tracer.followers[key] = follower
        tracer.setting(call.layer, name, follower.neurons, follower.value)


def _reason(call: Opened, why: str) -> str:
    named = f"{call.path or call.layer.name} ({type(call.layer).__name__})"
    return f"the call of {named} counts them: {why}"


def thin_graph(graph: Graph, families: Sequence[Family], most: bool = False) -> Thin:
    """Return the graph with a neuron of each family gone, or all but one, where it can spare it."""
    kept = np.ones(graph.ids, bool)
    sizes = graph.sizes
    numbers = {family.name: number for number, family in enumerate(graph.families)}
    for family in families:
        for neuron in family.neurons[: family.size - 1 if most else 1]:
            fewer = sizes.copy()
            fewer[numbers[family.name]] -= 1
            if (graph.costs.lengths(fewer) < graph.costs.least).any():
                break
            sizes = fewer
            kept[neuron] = False
    return Thin(graph, kept)


def _touching(call: Opened, graph: Graph) -> list[Family]:
    inside = np.zeros(graph.ids, bool)
    for width in _widths(call, graph):
        inside[width.neurons] = True
    return [family for family in graph.families if inside[family.neurons].any()]


def _widths(call: Opened, graph: Graph) -> Iterator[Width]:
    """Yield all lengths of tensors and weights in a call along which neurons lie."""
    weights = {id(variable) for variable in call.layer.variables}
    for weight in graph.weights:
        if id(weight.variable) in weights:
            for neurons in weight.axes.values():
                yield Width(neurons, neurons.shape, 0)
    functions = _keras.ways_of(call.function)
    for function in functions:
        inside = filter(None, map(_keras.graph_at, _keras.nodes_of(function)))
        functions += [way for graph in inside for way in _keras.ways_of(graph)]
    tensors = {id(t) for f in functions for n in _keras.nodes_of(f) for t in n.outputs}
    tensors |= {id(t) for t in call.function.inputs}
    for tensor in graph.tensors:
        if id(tensor.tensor) in tensors:
            for axis in range(tensor.neurons.ndim):
                if tensor.neurons.shape[axis] > 1:
                    yield Width(tensor.neurons, tensor.shape, axis)


def _let_tell(tracer: Any, call: Opened, graph: Graph) -> bool:
    """Let attributes follow that a config tells, though the call reads none; return if any do."""
    if call.path == "" or _tells(call, graph):
        return False
    changed = False
    for family in _touching(call, graph):
        if not tells(call, thin_graph(graph, [family]), {}):
            found = _following(call, graph, [family], told=True)
            _set(tracer, call, found or {})
            changed |= bool(found)
    return changed


def _following(
    call: Opened, graph: Graph, families: Sequence[Family], told: bool = False
) -> dict[str, Follower] | None:
    """Return the attributes of a layer with which its call, and its config, follow a cut, or None.

    Args:
        told: whether its config is to tell of the cut, too.
    """
    thin = thin_graph(graph, families)
    candidates = list(_candidates(call, thin))
    ways = [dict([each]) for each in candidates]
    ways += [together(candidates)] * (len(candidates) > 1)
    for way in ways:
        values = {name: follower.at(thin) for name, follower in way.items()}
        if told and not tells(call, thin, values):
            continue
        if _why(call, graph, families, way) is None:
            return way
    return None


def _candidates(call: Opened, thin: Thin) -> Iterator[tuple[str, Follower]]:
    """Yield attributes that are as large, or as long, as a width that shrinks, by its ways to."""
    numbers, arrays = _numbers(call.layer), _arrays(call.layer)
    seen: set[tuple] = set()
    for width in _widths(call, thin.graph):
        left = width.left(thin.kept[width.neurons])
        if left == width.size:
            continue
        found = [(name, Follower((width,))) for name, size in numbers.items() if size == width.size]
        found += [
            (name, Follower((width,), array, (axis,)))
            for name, array in arrays.items()
            for axis in range(len(array.shape))
            if array.shape[axis] == width.size
        ]
        for name, follower in found:
            if (name, left, follower.axes) not in seen:
                seen.add((name, left, follower.axes))
                yield name, follower


def _own(layer: Any) -> dict[str, Any]:
    """Return the attributes that a layer's own class gave it."""
    plain = vars(keras.layers.Layer())
    return {name: value for name, value in vars(layer).items() if name not in plain}


def _numbers(layer: Any) -> dict[str, int]:
    return {name: value for name, value in _own(layer).items() if type(value) is int}


def _arrays(layer: Any) -> dict[str, Any]:
    return {
        name: value
        for name, value in _own(layer).items()
        if isinstance(value, np.ndarray) or _is_held(value)
    }


def _is_held(value: Any) -> bool:
    """Tell whether it is a tensor of numbers, and none that a compiled call has left behind."""
    if not keras.ops.is_tensor(value) or isinstance(value, keras.Variable):
        return False
    try:
        keras.ops.convert_to_numpy(value)
    except Exception:  # which each backend has of its own
        return False
    return True
