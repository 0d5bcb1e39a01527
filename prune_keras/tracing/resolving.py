"""From what a trace recorded to a `Graph`: resolve labels, group neurons, count costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.graph import Family, Fixed, Graph, Producer, Setting, Tensor, Weight
from prune_keras.tracing.cost_model import Group, Result, cost_model, key, result_of
from prune_keras.tracing.labels import Partition, varying_axes
from prune_keras.tracing.record import Bound, MadeUnits, Product, Record, UsedWeight
from prune_keras.tracing.sized import size_bound


def resolve(model: Any, record: Record, partition: Partition) -> Graph:
    """Turn the record of a trace into a `Graph`."""
    # Of what ties others, two stay: with one, a thin model no longer shows what was tied, and plans
    # that are made for it would not fit the original.
    least = [*record.least, *((ids, 2) for ids in _make_rectangular(record.rectangles, partition))]
    roots = partition.roots()
    reasons = _reasons(record, roots)
    sized = size_bound(record, roots, reasons)
    prunable = _prunable(record, roots, reasons)
    follow = _follower(model, record.pointwise)
    producers = {m.path: _producer(m, roots, prunable, follow) for m in record.made.values()}
    weights = tuple(_weight(used, roots) for used in record.used.values())
    products = [([roots[ids] for ids in axes], times) for axes, times in record.products]
    results = [result_of(labels, dtype, roots) for labels, dtype in record.results]
    bounded = [*sized, *((roots[ids], count) for ids, count in least)]
    axes, index = _distinct_axes(producers, weights, products, results, bounded, record, roots)
    groups = _group(axes, prunable)
    tensors = record.tensors.values()
    return Graph(
        name=model.name,
        producers=producers,
        families=_named(groups, producers, _multiples(weights, len(roots))),
        fixed=tuple(_fixed(producers.values(), reasons)),
        notes=(*_notes(record, roots, prunable), *_tied(producers.values())),
        weights=weights,
        settings=tuple(Setting(o, n, roots[ids], v) for o, n, ids, v in record.settings.values()),
        tensors=tuple(Tensor(t, la.shape, roots[la.ids], la.batch) for t, la in tensors),
        costs=cost_model(model, axes, groups, prunable, weights, products, results, bounded, index),
        ids=partition.size,
        unit_axes={path: index[key(p.neurons)] for path, p in producers.items()},
    )


def _make_rectangular(rectangles: list[np.ndarray], partition: Partition) -> list[np.ndarray]:
    """Unite ids until each recorded array differs along one axis at most.

    Returns:
        Along that axis, the ids of each array in which others had to be united.
    """
    tied = []
    changed = True
    while changed:
        changed = False
        roots = partition.roots()
        for ids in rectangles:
            axes = varying_axes(roots[ids])
            for axis in axes[:-1]:
                partition.unite(ids, ids.take([0], axis))
                changed = True
            if len(axes) > 1:
                tied.append(np.moveaxis(ids, axes[-1], -1).reshape(-1, ids.shape[axes[-1]])[0])
    return tied


def _reasons(record: Record, roots: np.ndarray) -> dict[int, str]:
    reasons: dict[int, str] = {}
    for fixing in record.fixings:
        for root in np.unique(roots[fixing.ids]).tolist():
            reasons.setdefault(root, fixing.reason)
    return reasons


def _prunable(record: Record, roots: np.ndarray, reasons: dict[int, str]) -> np.ndarray:
    """Return booleans by root: made by a layer, and not fixed."""
    prunable = np.zeros(len(roots), bool)
    for made in record.made.values():
        prunable[roots[made.ids]] = True
    prunable[list(reasons)] = False
    return prunable


def _producer(
    made: MadeUnits, roots: np.ndarray, prunable: np.ndarray, follow: Callable[[Any], Any]
) -> Producer:
    neurons = roots[made.ids]
    taps = tuple((follow(node), axis) for node, axis in made.calls)
    return Producer(made.path, made.layer, neurons, prunable[neurons], made.kernel, made.axis, taps)


def _follower(model: Any, pointwise: set[int]) -> Callable[[Any], Any]:
    """Return a function that follows a call to where others read its normalized activation."""
    functions = _keras.graphs_in(model)
    ends = {id(tensor) for function in functions for tensor in function.outputs}
    readers: dict[int, dict[int, Any]] = defaultdict(dict)
    for node in (node for function in functions for node in _keras.nodes_of(function)):
        for tensor in node.input_tensors:
            readers[id(tensor)][id(node)] = node

    def follow(node: Any) -> Any:
        while True:  # a chain may be longer than Python's stack
            output = id(node.outputs[0])
            following = list(readers[output].values())
            alone = output not in ends and len(following) == 1
            if not alone or id(following[0]) not in pointwise:
                return node
            node = following[0]

    return follow


def _weight(used: UsedWeight, roots: np.ndarray) -> Weight:
    axes = {axis: roots[ids] for axis, ids in used.axes.items()}
    scale = None if used.scale is None else (roots[used.scale[0]], used.scale[1])
    return Weight(used.path, used.variable, axes, used.reads, used.times, scale)


def _fixed(producers: Iterable[Producer], reasons: dict[int, str]) -> Iterable[Fixed]:
    for producer in producers:
        counts: dict[str, int] = defaultdict(int)
        for neuron in producer.neurons[~producer.prunable].tolist():
            counts[reasons[neuron]] += 1
        for reason, units in counts.items():
            yield Fixed(producer.path, units, reason)


def _notes(record: Record, roots: np.ndarray, prunable: np.ndarray) -> Iterable[str]:
    return (note.reason for note in record.notes if prunable[roots[note.ids]].any())


def _tied(producers: Iterable[Producer]) -> Iterable[str]:
    """Say which layers have several units that are one neuron, which therefore never goes."""
    for producer in producers:
        if len(producer.neurons) > 1 and len(np.unique(producer.neurons)) == 1:
            if producer.prunable.all():
                yield f"{producer.path}: all units are tied into one neuron, so that they stay"


def _distinct_axes(
    producers: dict[str, Producer],
    weights: tuple[Weight, ...],
    products: list[Product],
    results: list[Result],
    bounded: list[Bound],
    record: Record,
    roots: np.ndarray,
) -> tuple[list[np.ndarray], dict[bytes, int]]:
    """Collect every distinct vector of neurons that lies along an axis of a weight or tensor."""
    index: dict[bytes, int] = {}
    axes: list[np.ndarray] = []
    vectors = [p.neurons for p in producers.values()]
    vectors += [ids for weight in weights for ids in weight.axes.values()]
    vectors += [ids for along, _ in products for ids in along]
    vectors += [ids for result in results for ids in result.along] + [ids for ids, _ in bounded]
    for _, labels in record.tensors.values():
        ids = roots[labels.ids]
        vectors += [ids.reshape(-1)] if labels.ids.size == max(labels.ids.shape, default=0) else []
    for ids in vectors:
        if index.setdefault(key(ids), len(axes)) == len(axes):
            axes.append(ids)
    return axes, index


def _group(axes: list[np.ndarray], prunable: np.ndarray) -> list[Group]:
    """Gather neurons that lie along the same axes, equally often, in the order of position."""
    if not axes:
        return []
    entries = np.concatenate(axes)
    numbers = np.repeat(np.arange(len(axes)), [len(ids) for ids in axes])
    places, counts = np.unique(entries * len(axes) + numbers, return_counts=True)
    owners, numbers = np.divmod(places, len(axes))
    signatures = np.stack([numbers, counts], axis=1)
    neurons, first = np.unique(entries, return_index=True)
    begins = np.searchsorted(owners, neurons).tolist()
    ends = [*begins[1:], len(owners)]
    groups: dict[bytes, Group] = {}
    for place in np.argsort(first).tolist():
        if prunable[neurons[place]]:
            signature = signatures[begins[place] : ends[place]]
            group = groups.setdefault(signature.tobytes(), Group(signature, []))
            group.neurons.append(int(neurons[place]))
    return list(groups.values())


def _multiples(weights: Iterable[Weight], number: int) -> np.ndarray:
    """Return, by root, of how many neurons a multiple must stay for devices to hold equal parts."""
    multiples = np.ones(number, int)
    for weight in weights:
        for axis, parts in _keras.parts_along(weight.variable).items():
            held = np.unique(weight.axes.get(axis, []))
            multiples[held.astype(int)] = np.lcm(multiples[held.astype(int)], parts)
    return multiples


def _named(
    groups: list[Group], producers: dict[str, Producer], multiples: np.ndarray
) -> tuple[Family, ...]:
    """Name each family after the first layer it lives in."""
    family_of = {group.neurons[0]: number for number, group in enumerate(groups)}
    living: list[list[str]] = [[] for _ in groups]
    for path, producer in producers.items():
        for number in dict.fromkeys(map(family_of.get, producer.neurons.tolist())):
            if number is not None:
                living[number].append(path)
    families: list[Family] = []
    taken: dict[str, int] = defaultdict(int)
    for group, paths in zip(groups, living, strict=True):
        taken[paths[0]] += 1
        number = taken[paths[0]]
        name = paths[0] if number == 1 else f"{paths[0]}#{number}"
        multiple = int(np.lcm.reduce(multiples[group.neurons]))
        families.append(Family(name, tuple(paths), np.array(group.neurons), multiple))
    return tuple(families)
