"""Trace: run a model on channel labels instead of numbers.

`trace` walks the graph once. Each operation's rule says how labels pass; what they meet on the
way is recorded, and `prune_keras.tracing.resolving` turns the record into a `Graph`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import tree

from prune_keras import _keras
from prune_keras.accounting import Cost
from prune_keras.graph import IS_OUTPUT, Graph
from prune_keras.tracing.labels import Labels, compress
from prune_keras.tracing.opening.opened import (
    Closed,
    Opened,
    check_own,
    looked_into,
    may_be_opened,
    open_model,
    unmasked,
)
from prune_keras.tracing.opening.settling import settle
from prune_keras.tracing.reaching import holds, reached_from
from prune_keras.tracing.record import Fixing, Reach, Record
from prune_keras.tracing.resolving import resolve
from prune_keras.tracing.rules.batches import batch_axis, rows_made, rows_read
from prune_keras.tracing.rules.registry import counts_of, rule_for
from prune_keras.tracing.rules.wrappers import Repeated, Uncounted
from prune_keras.tracing.tracer import Tracer
from prune_keras.tracing.visit import Visit


def trace(model: Any, input_shape: tuple[int | None, ...] | None = None) -> Graph:
    """Find out which channels of a model belong together.

    Args:
        model: a built functional or Sequential model; it is not changed.
        input_shape: shape of one sample, without the batch, for a model that leaves spatial sizes
            open; only FLOPs depend on it. Defaults to the model's own.

    Returns:
        A `Graph`: the families of neurons, and what is fixed and why.

    Raises:
        ValueError: if the model is not built, subclassed, or quantized, or `input_shape` does not
            fit it.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")]
    ... )
    >>> graph = prune_keras.trace(model)
    >>> graph.widths
    {'a': 3}
    >>> print(graph.fixed[0])
    b: 2 units are fixed: they are an output of the model
    """
    _keras.check_model(model)
    tracer = _Walk(model)
    with _keras.keeping_attributes(model):
        graph = _traced(model, input_shape, tracer)
        if not tracer.chooses_units:
            return graph
        other = _traced(model, input_shape, _Walk(model, first_units=True))
    return max(graph, other, key=_reached)


def cost(model: Any, input_shape: tuple[int | None, ...] | None = None) -> Cost:
    """Count the parameters, FLOPs, prunable neurons and bytes of a model.

    Args:
        model: a built functional or Sequential model.
        input_shape: shape of one sample, without the batch, for a model that leaves spatial sizes
            open. Defaults to the model's own.

    Returns:
        A `Cost`; its `flops` and `activation_bytes` are `None` where spatial sizes are unknown.

    Raises:
        ValueError: if the model is not built, subclassed, or quantized.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    >>> prune_keras.cost(model)
    Cost(params=23, flops=36, neurons=3, weight_bytes=92, activation_bytes=36)
    """
    return trace(model, input_shape).cost


def _traced(model: Any, input_shape: Any, tracer: _Walk) -> Graph:
    _open_whole(model, tracer)
    inputs = _input_labels(model, input_shape, tracer)
    dtypes = [tensor.dtype for tensor in _keras.graph_of(model).inputs]
    tracer.record.results += zip(inputs, dtypes, strict=True)
    outputs = tracer.walk(_keras.graph_of(model), inputs)
    tracer.record.fixings[:0] = [Fixing(np.unique(labels.ids), IS_OUTPUT) for labels in outputs]
    _keep_what_is_reached(tracer)
    for nested in _keras.models_in(model):
        for count in counts_of(nested):
            count(nested, tracer)
    graph = settle(tracer, tracer.calls, lambda: resolve(model, tracer.record, tracer.partition))
    return dataclasses.replace(graph, notes=(*graph.notes, *_left_out(graph, tracer.record)))


def _reached(graph: Graph) -> int:
    """Return how many parameters stand along axes of weights on which neurons can be pruned."""
    free = [neuron for family in graph.families for neuron in family.neurons.tolist()]
    return sum(
        math.prod(weight.variable.shape) * bool(np.isin(ids, free).any())
        for weight in graph.weights
        for ids in weight.axes.values()
    )


def _open_whole(model: Any, tracer: _Walk) -> None:
    """Look into a model with a `call` of its own."""
    if _keras.function_of(model) is not None:
        return
    graph = _keras.graph_of(model)
    if graph is None:
        graph = open_model(model)
        _keras.remember_graph(model, graph)
    tracer.calls.append(Opened("", model, graph, (graph.called_on,), {}))


def _keep_what_is_reached(tracer: Tracer) -> None:
    """Fix all axes of variables that are used by what no rule knows the use of."""
    variables = [used.variable for used in tracer.record.used.values()]
    known = {id(each) for v in variables for each in (v, _keras.held_in(v))}
    reaches = [each for each in tracer.record.reaches if not known.isdisjoint(each.objects)]
    for used in tracer.record.used.values():
        for reach in reaches:
            if not holds(reach.objects, used.variable):
                continue
            own = used.path.startswith(f"{reach.path}/")
            reason = reach.reason if own else f"{reach.reason}, and may use {used.path}"
            for ids in used.axes.values():
                tracer.fix(ids, reason)


def _left_out(graph: Graph, record: Record) -> Iterable[str]:
    """Name what is not looked into and either has weights or is no reason why others stay."""
    reasons = {fixed.reason for fixed in graph.fixed}
    for refusal in record.refusals.values():
        weights = getattr(refusal.operation, "weights", ())
        own = sum(math.prod(v.shape) for v in weights if id(v) not in record.used)
        if own or not (refusal.has_rule or refusal.reason in reasons):
            tail = f", and its own {own:,} parameters" if own else ""
            yield f"{refusal.reason}; it keeps what it reads and gives{tail}"


class _Walk(Tracer):
    """A tracer that is taken from call to call of a model."""

    def __init__(self, model: Any, first_units: bool = False) -> None:
        super().__init__(first_units)
        self.model = model
        self.calls: list[Opened] = []
        self.followers: dict[tuple[int, str], Any] = {}  # attributes that hold widths, by name
        self._in_training = False  # what is walked over runs in training only

    def visit(self, call: _keras.Call) -> list[Labels]:
        """Run the rule of one call."""
        visit = Visit(call.path, call.operation, call.node, call.args, call.kwargs, (), [])
        batch = batch_axis(visit)
        shapes = self._output_shapes(call, batch)
        visit = dataclasses.replace(visit, shape=shapes[0], shapes=shapes)
        count = rows_read(visit)
        tracer: Any = self if count == 1 else Repeated(self, count)
        found = self.apply(visit, Uncounted(tracer) if self._in_training else tracer)
        found = found if isinstance(found, list) else [found]
        if len(found) != len(shapes):
            counts = f"{len(shapes)} outputs, and its rule returns ids of {len(found)}"
            found = self.refuse(visit, f"{visit.path} has {counts}")
        made = [
            ids
            if isinstance(ids, Labels)
            else Labels(compress(ids), shape, rows_made(visit), batch)
            for ids, shape in zip(found, shapes, strict=True)
        ]
        dtypes = [tensor.dtype for tensor in call.node.outputs]
        if not self._in_training:
            self.record.results += zip(made, dtypes, strict=True)
        return made

    def into(self, node: Any, path: str) -> Any:
        """Return the graph that a call is known to run, unless there is a rule for it by now."""
        graph = _keras.graph_at(node)
        if _keras.is_adjusted(node):
            self.closed[path] = "its input has another rank than what it is called on"
            return None
        if graph is not None and _keras.function_of(node.operation) is None:
            if rule_for(node.operation) is not None:
                _keras.forget_graph(node)
                return None
            if len(_keras.ways_of(graph)) > 1:
                return None  # both of which are walked over where it is visited
            self._remember(path, node, graph)
        return graph

    def opened(self, visit: Visit) -> list | None:
        """Return the labels of what a layer without a rule is made of; None where not known."""
        stands_here = visit.node is not None and visit.node.operation is visit.operation
        if not stands_here or not may_be_opened(visit.operation):
            return None
        graph = _keras.graph_at(visit.node) or self._look_into(visit)
        if graph is None:
            return None
        _keras.remember_graph(visit.node, graph)
        self._remember(visit.path, visit.node, graph)
        inner = _keras.given_to(visit.node, visit.args, visit.kwargs)
        return self.walk(graph, inner, visit.path)

    def _look_into(self, visit: Visit) -> Any:
        arguments = visit.node.arguments
        try:
            rows = self._rows_at(visit.node)
            check_own(visit.operation, self.model)
            args, kwargs = unmasked((arguments.args, arguments.kwargs))
            return looked_into(visit.operation, args, kwargs, rows)
        except Closed as reason:
            self.closed[visit.path] = str(reason)
            return None

    def walk(self, graph: Any, inputs: list, path: str = "") -> list[Labels]:
        """Return the labels of the outputs of a graph, which are those of training, too."""
        prefix, ways = f"{path}/" if path else "", _keras.ways_of(graph)
        made = _keras.walk(graph, inputs, self.visit, self.see, prefix, self.into)
        for way in ways[1:]:
            outside, self._in_training = self._in_training, True
            others = _keras.walk(way, inputs, self.visit, self.see, prefix, self.into)
            self._in_training = outside
            for first, other in zip(made, others, strict=True):
                self._meet(first, other, f"{path or 'the call'} makes others in training")
        return made

    def _remember(self, path: str, node: Any, graph: Any) -> None:
        layer, given = node.operation, node.arguments
        rows = self._rows_at(node)
        self.calls.append(Opened(path, layer, graph, given.args, given.kwargs, rows=rows))
        own = {id(variable) for variable in layer.variables}
        found = {key: each for key, each in reached_from(layer).items() if key not in own}
        reason = f"{path} ({type(layer).__name__}) can reach them past its attributes"
        self.record.reaches.append(Reach(path, reason, found))

    def _rows_at(self, node: Any) -> int:
        """Return how many entries along the batch of what a call reads belong to one sample."""
        known = (self.record.tensors.get(id(tensor)) for tensor in node.input_tensors)
        return max((labels.rows or 1 for _, labels in filter(None, known)), default=1)

    def see(self, tensor: Any, labels: Labels) -> None:
        """Record what lies in a symbolic tensor; one of a model called twice holds the same."""
        known = self.record.tensors.setdefault(id(tensor), (tensor, labels))[1]
        self._meet(known, labels, "a nested model is called on tensors of different structure")

    def _meet(self, first: Labels, other: Labels, reason: str) -> None:
        """Unite what stands for the same tensor, or keep it where that cannot be."""
        if first.ids.shape == other.ids.shape:
            self.partition.unite(first.ids, other.ids)
        else:
            for ids in (first.ids, other.ids):
                self.fix(ids, reason)

    def _output_shapes(self, call: _keras.Call, batch: int) -> list[tuple]:
        if not self.record.recompute_shapes:
            return [_without(tensor.shape, batch) for tensor in call.node.outputs]
        specs = iter(call.node.input_tensors)
        args, kwargs = tree.map_structure(
            lambda v: _spec(v, next(specs)) if isinstance(v, Labels) else v,
            (call.args, call.kwargs),
        )
        outputs = call.operation.compute_output_spec(*args, **kwargs)
        return [_without(spec.shape, batch) for spec in tree.flatten(outputs)]


def _without(shape: tuple, batch: int) -> tuple:
    return (*shape[:batch], *shape[batch + 1 :])


def _spec(labels: Labels, tensor: Any) -> keras.KerasTensor:
    before, behind = labels.shape[: labels.batch], labels.shape[labels.batch :]
    return keras.KerasTensor((*before, None, *behind), dtype=tensor.dtype)


def _input_labels(model: Any, input_shape: Any, tracer: Tracer) -> list[Labels]:
    inputs = _keras.graph_of(model).inputs
    shapes = [tuple(tensor.shape[1:]) for tensor in inputs]
    if input_shape is not None:
        shapes = given_shapes(shapes, input_shape)
        tracer.record.recompute_shapes = True
    reason = "they are joined with an input of the model"
    return [Labels(tracer.nothing(len(shape), reason), shape) for shape in shapes]


def given_shapes(shapes: list[tuple], input_shape: Any) -> list[tuple]:
    """Return one shape an input; raise a ValueError unless they fit those of the model."""
    several = bool(input_shape) and isinstance(input_shape[0], tuple | list)
    given = [tuple(s) for s in (input_shape if several else [input_shape])]
    fits = len(given) == len(shapes) and all(
        len(g) == len(s) and all(a in (None, b) for a, b in zip(s, g, strict=True))
        for s, g in zip(shapes, given, strict=True)
    )
    if not fits:
        raise ValueError(
            "`input_shape` must fit the model's inputs, without the batch axis. Received: "
            f"input_shape={input_shape}, while the model takes {shapes}. "
            "Give one shape, or a list of one shape an input."
        )
    return given
