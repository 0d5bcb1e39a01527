"""Scoring: one score a unit of every prunable layer, data-driven ones in one pass over samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras, criteria
from prune_keras.data import batches, flat_inputs, size_of
from prune_keras.graph import Graph, Producer
from prune_keras.tracing import trace


def score(
    model: Any, criterion: Any = "l2", data: Any = None, seed: int | None = None
) -> dict[str, np.ndarray]:
    """Score the units of every prunable layer.

    Units that no output shows, such as the heads of an attention or the units of a cell below
    another one, are scored by `"l2"` whenever the criterion looks at samples.

    Args:
        model: a built functional or Sequential model; compiled, for `"taylor"`.
        criterion: one of `{"l1", "l2", "random", "apoz", "mean_activation", "taylor"}` or what
            `prune_keras.criteria.get` takes. Defaults to `"l2"`.
        data: samples for a data-driven criterion: inputs, `(inputs, targets)` or a dataset of
            batches; `"taylor"` needs targets. Defaults to None.
        seed: seed for `"random"`. Defaults to None: different at each call.

    Returns:
        Path of the layer -> `(units,)` float64 scores, higher = keep.

    Raises:
        ValueError: if the criterion needs data, targets or a compiled loss that are not there, or
            a score is not finite.

    Example:

    >>> import keras, prune_keras
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> {path: scores.shape for path, scores in prune_keras.score(model, "l1").items()}
    {'a': (3,)}
    """
    return score_graph(model, trace(model), criteria.get(criterion), data, seed)


def score_graph(
    model: Any, graph: Graph, criterion: Any, data: Any = None, seed: int | None = None
) -> dict[str, np.ndarray]:
    """Score with a graph and a criterion that are at hand already."""
    producers = [p for p in graph.producers.values() if p.prunable.any()]
    if criteria.needs_data(criterion):
        shown = [p for p in producers if p.taps]
        scores = _score_with_data(model, shown, criterion, data)
        rng = np.random.default_rng(0)
        hidden = (p for p in producers if not p.taps)
        scores |= {p.path: _score_kernel(p, criteria.get("l2"), rng) for p in hidden}
    else:
        own = getattr(criterion, "seed", None)
        rng = np.random.default_rng(seed if own is None else own)
        scores = {p.path: _score_kernel(p, criterion, rng) for p in producers}
    for path, values in scores.items():
        _check_finite(path, values, criterion)
    return scores


def _score_kernel(producer: Producer, criterion: Callable, rng: np.random.Generator) -> np.ndarray:
    kernel = ops.convert_to_numpy(producer.kernel.value)
    kernel = np.moveaxis(kernel, producer.axis, -1)
    kernel = kernel.reshape(-1, len(producer.neurons))  # gates follow one another
    if isinstance(criterion, criteria.Random):
        return criterion(kernel, rng)
    values = np.asarray(criterion(kernel), np.float64)
    if values.shape != (kernel.shape[1],):
        raise ValueError(
            "A criterion must return one score a unit. Received: shape "
            f"{values.shape} for the {kernel.shape[1]} units of {producer.path!r}."
        )
    return values


def _check_finite(path: str, values: np.ndarray, criterion: Any) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f"Scores must be finite. Received: {int((~np.isfinite(values)).sum())} NaN or infinite "
            f"scores of {criterion.__name__!r} for {path!r}. "
            "Look for NaN or infinity in the data and in the weights."
        )


def _score_with_data(model: Any, producers: list, criterion: Any, data: Any) -> dict:
    """Average the criterion's statistic over all samples."""
    backward = isinstance(criterion, criteria.Gradients)
    _check_data(model, criterion, data, backward)
    make = _backward_step if backward else _forward_step
    step = _backend.compiled(make(model, producers, criterion), model)
    totals: dict[str, Any] | None = None
    samples = 0
    for x, y, weights in batches(data):
        if backward and y is None:
            raise ValueError(_NEEDS_TARGETS.format(name=criterion.__name__))
        x = flat_inputs(_keras.function_of(model).inputs, x)
        sums = step(x, _as_tensors(y), _as_tensors(weights)) if backward else step(x)
        totals = sums if totals is None else {p: totals[p] + sums[p] for p in sums}
        samples += size_of(x)
    _backend.dispose(step)
    return {p: _as_numpy(total) / samples for p, total in (totals or {}).items()}


_NEEDS_TARGETS = (
    "The criterion {name!r} needs targets. Received: data without targets. "
    "Pass data=(inputs, targets) or a dataset of such batches."
)


def _check_data(model: Any, criterion: Any, data: Any, backward: bool) -> None:
    if data is None:
        raise ValueError(
            f"The criterion {criterion.__name__!r} looks at samples. Received: data=None. "
            "Pass data=inputs, (inputs, targets), or a dataset of batches."
        )
    if backward and not getattr(model, "compiled", False):
        raise ValueError(
            f"The criterion {criterion.__name__!r} needs the model's loss. Received: a model that "
            "is not compiled. Call model.compile(optimizer, loss) first."
        )


def _forward_step(model: Any, producers: list, criterion: Any) -> Callable:
    taps = _taps(producers)
    units = {p.path: len(p.neurons) for p in producers}

    @_backend.without_gradients
    def step(x: list) -> dict[str, Any]:
        sums: dict[str, Any] = {}

        def call(visited: _keras.Call) -> Any:
            outputs = _keras.run(visited)
            for path, axis in taps.get(id(visited.node), ()):
                values = ops.sum(criterion(_by_units(_first(outputs), axis)), axis=0)
                values = ops.mean(ops.reshape(values, (-1, units[path])), axis=0)
                sums[path] = sums[path] + values if path in sums else values
            return outputs

        _keras.walk(model, x, call)
        return sums

    return step


def _backward_step(model: Any, producers: list, criterion: Any) -> Callable:
    """Return a step that differentiates by a gate of ones on every unit of every sample.

    The gradient by the gate is the sum over positions of activation times gradient.
    """
    taps = _taps(producers)
    units = {p.path: len(p.neurons) for p in producers}

    def step(x: list, y: Any, weights: Any) -> dict[str, Any]:
        positions: dict[str, int] = {}

        def loss(gates: dict[str, Any]) -> Any:
            def call(visited: _keras.Call) -> Any:
                outputs = _keras.run(visited)
                for path, axis in taps.get(id(visited.node), ()):
                    first, *others = keras.tree.flatten(outputs)
                    positions[path] = int(np.prod(first.shape[1:])) // units[path]
                    first = first * _spread(gates[path], axis, first)
                    outputs = keras.tree.pack_sequence_as(outputs, [first, *others])
                return outputs

            predicted = _keras.walk(model, x, call)
            predicted = keras.tree.pack_sequence_as(_keras.output_structure(model), predicted)
            total = model.compute_loss(x=x, y=y, y_pred=predicted, sample_weight=weights)
            return total * ops.cast(ops.shape(x[0])[0], total.dtype)

        gates = {path: ops.ones((ops.shape(x[0])[0], count)) for path, count in units.items()}
        found = _backend.gradients(loss, gates)
        return {p: ops.sum(criterion(g / positions[p]), axis=0) for p, g in found.items()}

    return step


def _taps(producers: list[Producer]) -> dict[int, list[tuple[str, int]]]:
    """Return, by id of a call, the layers whose activation it gives, and their channel axis."""
    taps: dict[int, list] = {}
    for producer in producers:
        for node, axis in producer.taps:
            taps.setdefault(id(node), []).append((producer.path, axis))
    return taps


def _first(outputs: Any) -> Any:
    return keras.tree.flatten(outputs)[0]


def _by_units(outputs: Any, axis: int) -> Any:
    """Lay activations out as `(batch, positions, units)`."""
    outputs = ops.moveaxis(outputs, axis if axis < 0 else axis + 1, -1)
    shape = ops.shape(outputs)
    return ops.reshape(outputs, (shape[0], -1, shape[-1]))


def _spread(gate: Any, axis: int, outputs: Any) -> Any:
    """Lay a gate `(batch, units)` along the channel axis of activations."""
    shape = [1] * len(outputs.shape)
    axis = axis if axis < 0 else axis + 1
    gate = ops.tile(gate, (1, outputs.shape[axis] // gate.shape[1]))  # both directions
    shape[0], shape[axis] = -1, gate.shape[1]
    return ops.cast(ops.reshape(gate, shape), outputs.dtype)


def _as_tensors(structure: Any) -> Any:
    if structure is None:
        return None
    return keras.tree.map_structure(ops.convert_to_tensor, structure)


def _as_numpy(tensor: Any) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor), np.float64)
