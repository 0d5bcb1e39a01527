"""Surgery: make a model as thin as a plan says, in place or as a copy.

Nothing is rebuilt. Every variable gets its own slices as a new value, and every attribute that
counts channels its new count; layers, variables and optimizer stay the objects they are. What a
cut may touch is one `State`, so that going back is the same step with the older state.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph, Producer, Weight
from prune_keras.initial_values import thin_initializers
from prune_keras.interrupts import deferred
from prune_keras.plan import Plan
from prune_keras.tracing import kept_sizes, trace


@dataclass(frozen=True)
class Slices:
    """What is kept of a variable: (axis, indices) pairs, and what that is multiplied by."""

    axes: tuple[tuple[int, np.ndarray], ...]
    factor: float = 1.0


@dataclass(frozen=True)
class State:
    """Values of variables, and attributes of the objects around them.

    Args:
        variables: (variable, value) pairs; a value is an array, or `Slices` of the present one.
        attributes: (owner, name, value) triples.
        spare: (variable, value) pairs, for variables whose present values stay unless they are
            lost. Defaults to none.
    """

    variables: tuple[tuple[Any, Any], ...]
    attributes: tuple[tuple[Any, str, Any], ...]
    spare: tuple[tuple[Any, Any], ...] = ()


def shrink(model: Any, plan: Plan) -> Any:
    """Return a thinner copy of a model.

    The copy's weights are exact slices, those of queries in MultiHeadAttention scaled where the
    width of keys shrinks. It is compiled as the model is, with a fresh optimizer; where none can be
    made again from its config, it is not compiled. A model of a class of your own keeps the class,
    and has copies of what its attributes hold: metrics, layers and optimizers beside the graph.

    Args:
        model: a built functional or Sequential model; it is not changed.
        plan: what to keep; it must have been made for a model of the same widths.

    Returns:
        A model of the same class, with the same names of layers.

    Raises:
        ValueError: if the plan does not fit the model, or a layer cannot be made again from its
            config.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> thin = prune_keras.shrink(model, prune_keras.Plan({"a": [0, 2]}, {"a": 3}))
    >>> thin.count_params(), model.count_params()
    (16, 23)
    """
    graph = trace(model)
    kept = kept_neurons(graph, plan)
    slices = {id(w.variable): _sliced(w, w.variable, kept) for w in graph.weights}
    with keras.StatelessScope():
        twin = thin_structure(model, kept)
        for old, new in zip(model.variables, twin.variables, strict=True):
            if old is not new:
                _keras.set_value_on_exit(new, slices.get(id(old), old.value))
    _keras.copy_own_state(model, twin)
    _keras.compile_like(twin, model)
    return twin


def thin_structure(model: Any, kept: np.ndarray) -> Any:
    """Return a copy that counts its channels as a thinner one; its weights are as wide as ever."""
    twin = _keras.clone_structure(model)
    _assign_attributes(_thin_attributes(twin, trace(twin), kept))
    return twin


def shrink_in_place(model: Any, plan: Plan, graph: Graph | None = None) -> None:
    """Make the model itself thinner, with its optimizer's state.

    References to its layers, variables and optimizer stay true. Compiled functions of the model are
    made anew, so that `fit` and `train_on_batch` go on. A `tf.function` of your own that reads the
    model fails after a cut, and has to be made anew; so has one of `jax.jit` or `torch.compile`.

    Args:
        model: a built functional or Sequential model.
        plan: what to keep; it must have been made for a model of the same widths.
        graph: the model as `prune_keras.trace` returned it, to spare a second trace. It tells of
            the widths before the cut, and is of no use after it. Defaults to None: traced anew.

    Raises:
        ValueError: if the plan or the graph does not fit the model, another living model calls one
            of its layers, or the optimizer's state or what several devices hold of a weight cannot
            be sliced. The model is unchanged then.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> layer = model.get_layer("a")
    >>> prune_keras.shrink_in_place(model, prune_keras.Plan({"a": [0, 2]}, {"a": 3}))
    >>> layer.units, layer.kernel.shape[1]
    (2, 2)
    """
    graph = trace(model) if graph is None else check_current(graph, model)
    views = check_alone(model)
    restore(model, thinned(model, graph, plan), views)


def thinned(model: Any, graph: Graph, plan: Plan) -> State:
    """Return the state of the model once it is as thin as the plan says."""
    kept = kept_neurons(graph, plan)
    slots = _keras.optimizer_slots(model)
    variables: list[tuple[Any, Slices]] = []
    for weight in graph.weights:
        slices = _slices(weight, kept)
        if slices.axes:
            variables.append((weight.variable, slices))
            variables += _slot_slices(slots.get(id(weight.variable), ()), weight, slices)
    return State(tuple(variables), tuple(_thin_attributes(model, graph, kept)))


def _check_parts(weight: Weight, kept: np.ndarray) -> None:
    """Raise a ValueError if the devices that hold parts of a weight would have unequal ones."""
    for axis, parts in _keras.parts_along(weight.variable).items():
        left = kept[weight.axes[axis]].sum() if axis in weight.axes else 0
        if left % parts:
            raise ValueError(
                "A plan must leave equal parts of a weight to the devices that share it. Received: "
                f"{left} entries along axis {axis} of {weight.path}, for {parts} devices. "
                f"Select with round_to={parts}."
            )


def capture(model: Any, graph: Graph) -> State:
    """Return a copy of the model's present state, its optimizer's included, in main memory.

    Learning rates are spare: they belong to whoever sets them, `ReduceLROnPlateau` say.
    """
    _keras.sync(model)
    rates = {id(rate) for rate in _keras.learning_rates(model)}
    held = trained_variables(model)
    variables = _copied(variable for variable in held if id(variable) not in rates)
    spare = _copied(variable for variable in held if id(variable) in rates)
    current = ((o, n, getattr(o, n)) for o, n, _ in _thin_attributes(model, graph, _all(graph)))
    return State(variables, tuple(current), spare)


def trained_variables(model: Any) -> list[Any]:
    """Return all variables of the model and of its optimizer, each once."""
    return _unique([*model.variables, *_keras.optimizer_variables(model)])


def values_of(variables: Iterable[Any]) -> list[np.ndarray]:
    """Return copies of what variables hold."""
    return [value for _, value in _copied(variables)]


def _copied(variables: Iterable[Any]) -> tuple[tuple[Any, np.ndarray], ...]:
    return tuple((v, _backend.own_array(v.value)) for v in variables)


def restore(model: Any, state: State, views: Sequence[Any] | None = None) -> None:
    """Bring the model into a state that `capture` or `thinned` returned.

    Signals wait meanwhile. Where it fails midway, for want of memory say, a state that was captured
    before can still be brought back.

    Args:
        model: the model that the state is of.
        state: what to bring it into.
        views: what `check_alone` returned just before. Defaults to None: looked for anew.
    """
    with deferred():
        _keras.sync(model)
        lost = tuple((v, value) for v, value in state.spare if _keras.is_lost(v))
        with _keras.same_keys(model), _keras.strategy_scope(model):
            for variable, value in state.variables + lost:
                if isinstance(value, Slices):
                    _cut(variable, value)
                else:
                    # Some backends train on in the very memory they are given.
                    _keras.set_value(variable, np.array(value))
        _assign_attributes(state.attributes)
        _keras.refresh(model, views)


def check_alone(model: Any) -> tuple[Any, ...]:
    """Raise a ValueError if a living model beside this one has one of its layers.

    Returns:
        Living models that show a part of its graph, such as a feature extractor or the base that it
        was built on; they follow a cut.
    """
    found = _keras.neighbours_of(model)
    for layer, other in found.users.items():
        raise ValueError(
            "A model that is cut in place must not share layers with another one. Received: layer "
            f"{layer!r} of {model.name!r}, which model {other!r} has as well. "
            "Delete that model, or prune a copy: prune_keras.shrink(model, plan)."
        )
    return found.views


def check_current(graph: Graph, model: Any) -> Graph:
    """Return the graph; raise a ValueError unless it is of the model and its present widths."""
    held = {id(variable) for variable in model.variables}
    for weight in graph.weights:
        shape = {axis: len(ids) for axis, ids in weight.axes.items()}
        now = {axis: weight.variable.shape[axis] for axis in shape}
        if id(weight.variable) not in held or now != shape:
            raise ValueError(
                "A graph must be traced from the model as it is now. Received: a graph of "
                f"{graph.name!r} in which {weight.path} has sizes {shape} by axis, for model "
                f"{model.name!r}, where they are {now}. Trace again: prune_keras.trace(model)."
            )
    return graph


def check_optimizer(model: Any, graph: Graph) -> None:
    """Raise a ValueError if the optimizer holds state that cannot be sliced with its variable."""
    slots = _keras.optimizer_slots(model)
    for weight in graph.weights:
        _slot_slices(slots.get(id(weight.variable), ()), weight, Slices(()))
    for variable in _keras.unknown_slots(model):
        raise ValueError(
            "The optimizer's state must belong to weights, one variable a weight, to be cut with "
            f"them. Received: {variable.path} of shape {tuple(variable.shape)}. {_OTHER_OPTIMIZER}"
        )


def kept_neurons(graph: Graph, plan: Plan) -> np.ndarray:
    """Return which neurons a plan keeps, as booleans by neuron.

    Raises:
        ValueError: if the plan was made for other widths, splits a neuron, empties a layer, or
            leaves devices unequal parts of a weight.
    """
    plan.check_fits(graph.widths)
    kept = _all(graph)
    for path, indices in plan.kept.items():
        gone = np.delete(graph.producers[path].neurons, indices)
        kept[gone] = False
    for path, indices in plan.kept.items():
        _check_whole(graph.producers[path], indices, kept)
    sizes = np.array([kept[family.neurons].sum() for family in graph.families], int)
    if (graph.costs.lengths(sizes) < graph.costs.least).any():
        raise ValueError(
            "A plan must leave at least one channel along every axis of the model, and two where "
            "groups or reshapes tie channels to each other, where they lie beside units that stay, "
            "and, on TensorFlow, in heads of attention with biases. "
            f"Received: {plan.new_widths}."
        )
    for weight in graph.weights:
        _check_parts(weight, kept)
    return kept


def _check_whole(producer: Producer, indices: np.ndarray, kept: np.ndarray) -> None:
    fixed = np.setdiff1d(np.flatnonzero(~producer.prunable), indices)
    if len(fixed) or not kept[producer.neurons[indices]].all():
        raise ValueError(
            "A plan must keep or remove a neuron in all of its layers, and keep what is fixed. "
            f"Received: kept[{producer.path!r}]={indices.tolist()}, which splits a neuron. "
            "Make plans with prune_keras.select."
        )


def _all(graph: Graph) -> np.ndarray:
    ids = [along for weight in graph.weights for along in weight.axes.values()]
    ids += [setting.neurons for setting in graph.settings]
    ids += [tensor.neurons for tensor in graph.tensors]
    return np.ones(1 + max((int(i.max()) for i in ids if i.size), default=0), bool)


def _slices(weight: Weight, kept: np.ndarray) -> Slices:
    axes = sorted(weight.axes.items())
    factor = 1.0
    if weight.scale is not None:
        neurons, lost = weight.scale
        factor = lost(kept[neurons])
    return Slices(tuple((a, np.flatnonzero(kept[i])) for a, i in axes if not kept[i].all()), factor)


def _sliced(weight: Weight, variable: Any, kept: np.ndarray) -> Any:
    value, slices = ops.convert_to_tensor(variable.value), _slices(weight, kept)
    for axis, indices in slices.axes:
        value = _backend.take(value, indices, axis)
    return value if slices.factor == 1 else value * slices.factor


SMALL = 2**20
"""Entries up to which a value is cut along all of its axes at once."""


def _cut(variable: Any, slices: Slices) -> None:
    """Cut large values axis by axis, so that no more than one new one stands beside an old one."""
    is_small = math.prod(variable.shape) <= SMALL
    for axes in [slices.axes] if is_small else [(each,) for each in slices.axes]:
        value = ops.convert_to_tensor(variable.value)
        for axis, indices in axes:
            value = _backend.take(value, indices, axis)
        _keras.set_value(variable, value)
    if slices.factor != 1:
        variable.assign(ops.convert_to_tensor(variable.value) * slices.factor)


_OTHER_OPTIMIZER = "Compile with another optimizer, such as Adam or SGD."


def _slot_slices(
    slots: Iterable[_keras.Slot], weight: Weight, slices: Slices
) -> list[tuple[Any, Slices]]:
    """Return what is kept of the optimizer's variables for a weight."""
    found = []
    for slot in slots:
        if slot.axes is None:
            raise ValueError(
                "The optimizer's state must have the shapes of the weights to be cut with them. "
                f"Received: {slot.name} of shape {tuple(slot.variable.shape)} for "
                f"{weight.variable.path} of shape {tuple(weight.variable.shape)}. "
                f"{_OTHER_OPTIMIZER}"
            )
        along = [(slot.axes.index(axis), i) for axis, i in slices.axes if axis in slot.axes]
        found.append((slot.variable, Slices(tuple(along))))
    return found


def _thin_attributes(model: Any, graph: Graph, kept: np.ndarray) -> list[tuple[Any, str, Any]]:
    """Return every attribute that counts channels with its new value."""
    settings = [(s.owner, s.name, s.value(kept[s.neurons])) for s in graph.settings]
    shapes = {}
    for record in graph.tensors:
        sizes = list(record.tensor.shape)
        if not sizes:  # a number for all samples
            shapes[id(record.tensor)] = ()
            continue
        batch = sizes.pop(record.batch)
        thin = kept_sizes(kept[record.neurons], sizes)
        shapes[id(record.tensor)] = (*thin[: record.batch], batch, *thin[record.batch :])
    cuts = {id(weight.variable): _slices(weight, kept).axes for weight in graph.weights}
    arguments = {id(owner): value for owner, name, value in settings if name == "arguments"}
    remembered = _keras.shape_attributes(model, shapes, arguments)
    return [*settings, *remembered, *thin_initializers(model, cuts)]


def _assign_attributes(attributes: Iterable[tuple[Any, str, Any]]) -> None:
    for owner, name, value in attributes:
        _keras.set_attribute(owner, name, value)


def _unique(variables: Iterable[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())
