"""Side by side: the model as it is and as it will be once it is thin, in one and the same graph.

Nothing is copied or cut. A layer is run twice: with its variables and settings as they are, and
with those that the thin model has in their place.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph, Weight


class Both:
    """What a tensor holds in the dense and in the thin model, batch by batch."""

    def __init__(self, dense: list, thin: list):
        self.dense, self.thin = dense, thin

    @property
    def same(self) -> bool:
        return self.thin is self.dense

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        held = self.dense if self.same else [*self.dense, *self.thin]
        return sum(math.prod(each.shape) * _itemsize(each) for each in held)


def _itemsize(tensor: Any) -> int:
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    bits = "".join(filter(str.isdigit, dtype.partition("_")[0]))
    return max(1, int(bits or 8) // 8)


class Thin:
    """What the thin model has in the place of what the model has.

    Args:
        model: the model.
        graph: its graph.
        kept: `(neurons,)` booleans, which neurons stay.
    """

    def __init__(self, model: Any, graph: Graph, kept: np.ndarray):
        self.values: dict[int, Any] = {}
        self.factors: dict[int, float] = {}
        for weight in graph.weights:
            factor, key = _factor(weight, kept), id(weight.variable)
            if factor != 1 or not all(kept[ids].all() for ids in weight.axes.values()):
                value = _sliced(weight, kept)
                self.values[key] = value if factor == 1 else value * factor
                self.factors[key] = factor
        cut = (s for s in graph.settings if not kept[s.neurons].all())
        settings = [(s.owner, s.name, s.value(kept[s.neurons])) for s in cut]
        self._settings: dict[int, list[tuple[Any, str, Any]]] = {}
        for setting in (*settings, *_specs(model, graph, kept)):
            self._settings.setdefault(id(setting[0]), []).append(setting)

    def value(self, variable: Any) -> Any:
        """Return the value that a variable has in the thin model."""
        return self.values.get(id(variable), variable.value)

    def set(self, variable: Any, value: Any) -> None:
        """Give a variable another value in the thin model."""
        self.values[id(variable)] = ops.convert_to_tensor(value, dtype=variable.dtype)

    def differs(self, visited: _keras.Call) -> bool:
        """Tell whether an operation is another one in the thin model."""
        return bool(self._settings_of(visited)) or any(
            id(variable) in self.values for variable in variables_of(visited)
        )

    @contextlib.contextmanager
    def within(self, visited: _keras.Call) -> Iterator[None]:
        """Let an operation be what it is in the thin model."""
        held = [(o, n, getattr(o, n), value) for o, n, value in self._settings_of(visited)]
        values = {id(variable): variable for variable in variables_of(visited)}
        pairs = [(v, self.values[key]) for key, v in values.items() if key in self.values]
        try:
            for owner, name, _, value in held:
                _keras.set_attribute(owner, name, value)
            with _keras.other_values(pairs):
                yield
        finally:
            for owner, name, value, _ in reversed(held):
                _keras.set_attribute(owner, name, value)

    def _settings_of(self, visited: _keras.Call) -> list[tuple[Any, str, Any]]:
        owners = [visited.node, *_parts(visited.operation)]
        return [each for owner in owners for each in self._settings.get(id(owner), ())]


def run_dense(visited: _keras.Call, number: int) -> list:
    """Run an operation of the dense model on one batch."""
    given = _keras.given_tensors(visited)
    return _run(visited, {key: both.dense[number] for key, both in given.items()})


def run_thin(visited: _keras.Call, number: int, thin: Thin) -> list:
    """Run an operation of the thin model on one batch."""
    given = _keras.given_tensors(visited)
    with thin.within(visited):
        return _run(visited, {key: both.thin[number] for key, both in given.items()})


def run_both(visited: _keras.Call, thin: Thin, ran: Mapping[int, list] | None = None) -> list[Both]:
    """Run an operation of both models, and only once where they are alike.

    Args:
        visited: the call.
        thin: the thin model.
        ran: what it gave in the dense model, by the number of a batch, as far as it ran there.
            Defaults to None: nothing.
    """
    ran = ran or {}
    given = list(_keras.given_tensors(visited).values())
    batches = range(len(given[0].dense))
    dense = _by_output(ran[i] if i in ran else run_dense(visited, i) for i in batches)
    if all(both.same for both in given) and not thin.differs(visited):
        return [Both(each, each) for each in dense]
    found = _by_output(run_thin(visited, i, thin) for i in batches)
    return [Both(*pair) for pair in zip(dense, found, strict=True)]


def _by_output(batches: Iterator[list]) -> list[list]:
    return [list(each) for each in zip(*batches, strict=True)]


def _run(visited: _keras.Call, values: dict[int, Any]) -> list:
    args, kwargs = visited.node.arguments.fill_in(values)
    found = _keras.run(_keras.Call(visited.path, visited.node, args, kwargs))
    return keras.tree.flatten(found)


def _sliced(weight: Weight, kept: np.ndarray) -> Any:
    """Return what is left of a weight."""
    value = ops.convert_to_tensor(weight.variable.value)
    for axis, ids in weight.axes.items():
        if not kept[ids].all():
            value = _backend.take(value, np.flatnonzero(kept[ids]), axis)
    return value


def _factor(weight: Weight, kept: np.ndarray) -> float:
    if weight.scale is None:
        return 1.0
    neurons, lost = weight.scale
    return lost(kept[neurons])


def _parts(operation: Any) -> list:
    return _keras.all_layers(operation) if _keras.is_layer(operation) else [operation]


def variables_of(visited: _keras.Call) -> list:
    """Return the variables that a call may read: those of its layer, and those it is given."""
    held = keras.tree.flatten((visited.node.arguments.args, visited.node.arguments.kwargs))
    own = visited.operation.variables if _keras.is_layer(visited.operation) else []
    return [*own, *(each for each in held if isinstance(each, keras.Variable))]


def _specs(model: Any, graph: Graph, kept: np.ndarray) -> Iterator[tuple[Any, str, Any]]:
    """Yield what layers take as inputs."""
    shapes = {}
    for record in graph.tensors:
        batch, *sizes = record.tensor.shape
        stays = kept[record.neurons]
        widths = [
            size if stays.shape[axis] == 1 else _count(stays, axis)
            for axis, size in enumerate(sizes)
        ]
        shapes[id(record.tensor)] = (batch, *widths)
    for owner, name, value in _keras.shape_attributes(model, shapes):
        if name == "input_spec" and owner.input_spec.axes != value.axes:
            yield owner, name, value


def _count(stays: np.ndarray, axis: int) -> int:
    others = tuple(i for i in range(stays.ndim) if i != axis)
    return int(stays.any(axis=others).sum())
