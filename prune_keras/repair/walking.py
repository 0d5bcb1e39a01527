"""Walking: over the graph of both networks at once, fitting weights on the way; see `refit`."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.readers.entries import numbers
from prune_keras.readers.kinds import kernel_of, learns_bias, learns_kernel, linear_in
from prune_keras.repair.bending import bent
from prune_keras.repair.following import Behind, Following, normalized
from prune_keras.repair.least_squares import Fit, fitted
from prune_keras.repair.observing import Observer, Seen
from prune_keras.repair.portion import Portion, as_both
from prune_keras.repair.refit import Refit
from prune_keras.repair.side_by_side import Both, Thin, run_both, variables_of
from prune_keras.samples.subject import Subject

ROUNDING = 1e-9  # of the mean square of responses


def refitted(
    model: Any, graph: Graph, kept: np.ndarray, data: Any, how: Refit
) -> tuple[list[tuple[int, np.ndarray]], tuple[str, ...]]:
    """Return what the weights of the thin model become, before anything is cut, and notes.

    Args:
        model: the model; it is not changed.
        graph: its graph.
        kept: `(neurons,)` booleans, which neurons stay.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        how: what it may cost.

    Returns:
        (position in `model.variables`, value of the thin variable) pairs, and what is to be said of
        layers that keep their weights.

    Raises:
        ValueError: if there are fewer than four samples.
    """
    subject = Subject(model, graph, data)
    with _keras.undisturbed(model), _keras.unmoved(model):
        walk = Walk(model, graph, kept, how)
        _backend.without_gradients(walk.over)(subject.flat())
    return list(walk.changed()), walk.notes


class Walk:
    """A walk over the graph that fits a layer's weights as it comes to it.

    Args:
        model, graph, kept, how: as of `refitted`.

    Attributes:
        portion: the samples that are looked at.
        fits: what each layer was given, by its path.
    """

    def __init__(self, model: Any, graph: Graph, kept: np.ndarray, how: Refit):
        self.model, self.kept, self.how = model, kept, how
        self.thin = Thin(model, graph, kept)
        self.axes = {id(weight.variable): weight.axes for weight in graph.weights}
        self.reads = {id(weight.variable) for weight in graph.weights if weight.reads}
        self.following = Following(model)
        self.calls, self.holders = _calls(model)
        self.live: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.portion = Portion([], [])
        self.done: set[int] = set()
        self.shifts: dict[int, np.ndarray] = {}
        self.fits: dict[str, Fit] = {}
        self.as_they_were: list[str] = []
        self.unknown: list[str] = []
        self.set: dict[int, Any] = {}
        self.bar = keras.utils.Progbar(sum(self.calls.values()), verbose=how.verbose)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of layers that keep their weights."""
        reasons = {
            "not refitted, as samples held out would not gain": self.as_they_were,
            "not refitted, as there is no way to": self.unknown,
        }
        notes = [f"{why}: {_listed(paths)}" for why, paths in reasons.items() if paths]
        return (*notes, *self._limited)

    @property
    def _limited(self) -> tuple[str, ...]:
        if not self.portion.is_limited:
            return ()
        seen, most = self.portion.samples, self.how.memory / 2**30
        return (
            f"weights were fitted on {seen:,} samples, as more would take over {most:.3g} GiB; "
            "see Refit(memory=...)",
        )

    def changed(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the position of each variable that was set, and its value."""
        for place, variable in enumerate(self.model.variables):
            if id(variable) in self.set:
                yield place, np.asarray(ops.convert_to_numpy(self.thin.value(variable)))

    def over(self, found: Iterator[list]) -> None:
        """Walk over as many batches as may be held at once."""
        self.portion = Portion.of(found, self._needed, self.how.memory)
        self.observer = Observer(self.model, self.thin, self.portion, self.calls, self.how.rows)
        _keras.walk(self.model, self.portion.as_both(), self._call, self._see)

    def _needed(self, batch: list) -> int:
        """Return how many bytes the walk holds at once for a batch."""
        most = 0

        def call(visited: _keras.Call) -> list[Both]:
            nonlocal most
            found = run_both(visited, self.thin)
            most = max(most, sum(each.size for each in {*self.live.values(), *found}))
            return found

        _keras.walk(self.model, as_both([batch]), call, self._see)
        self.live.clear()
        return most

    def _see(self, tensor: Any, both: Both) -> None:
        self.live[id(tensor)] = both

    def _call(self, visited: _keras.Call) -> list[Both]:
        if _changed(visited) or self.thin.differs(visited):
            if id(visited.operation) not in self.done:
                self.done.add(id(visited.operation))
                self._come_to(visited)
        self.bar.add(1)
        found = run_both(visited, self.thin, self.observer.ran)
        self.observer.ran.clear()
        return found

    def _come_to(self, visited: _keras.Call) -> None:
        operation = visited.operation
        if isinstance(operation, layers.BatchNormalization) and operation.trainable:
            self._measure(visited)
        linear = linear_in(operation)
        for layer in linear:
            self._fit(visited, layer)
        learning = {id(v) for v in variables_of(visited) if v.trainable}
        if not linear and self.reads & learning:
            self.unknown.append(visited.path)

    def _fit(self, visited: _keras.Call, layer: Any) -> None:
        """Give a layer in a call the weights that fit best, if it may have others."""
        kernel, behind = kernel_of(layer), self._behind(visited, layer)
        if id(kernel) not in self.axes or not (learns_kernel(layer) or learns_bias(layer)):
            return
        if not (_changed(visited) or behind.streams):
            return
        path = visited.path + ("" if layer is visited.operation else f"/{layer.name}")
        if any(self.holders[id(variable)] > 1 for variable in (kernel, layer.bias)):
            self.unknown += [path] if id(kernel) in self.reads else []
            return
        stays = {axis: self.kept[ids] for axis, ids in self.axes[id(kernel)].items()}
        seen = self.observer.seen(visited, layer, behind, stays)
        if seen is not None:
            self._set_fitted(path, layer, seen, behind)

    def _set_fitted(self, path: str, layer: Any, seen: Seen, behind: Behind) -> None:
        kernel, design, rows = kernel_of(layer), seen.response.design, seen.rows
        value = numbers(self.thin.value(kernel))
        biased = learns_bias(layer) and design.shifts
        shifts, learns = biased or behind.norm is not None, learns_kernel(layer)
        allowed = _within(kernel, value, seen)
        fit = self.fits[path] = fitted(rows, shifts, learns, allowed)
        beyond, front = seen.beyond, seen.front
        bend = behind.bend(front.thin) if front else None
        if fit.before > ROUNDING * seen.power and not fit.weights.any():
            self.as_they_were.append(path)
        elif front and bend and shifts and learns and fit.after > ROUNDING * seen.power:
            fit, change = bent(fit, rows, front, bend, allowed)
            beyond = beyond + change.reshape(-1)
        self._change(kernel, value + design.folded(fit.weights, value.shape))
        if behind.norm is not None:
            self.shifts[id(behind.norm)] = beyond
        elif biased:
            now = numbers(self.thin.value(layer.bias))
            self._change(layer.bias, now + design.folded_bias(fit.shift, now.shape))

    def _behind(self, visited: _keras.Call, layer: Any) -> Behind:
        """Return what follows a layer whose responses are what its call returns."""
        shown = (visited.operation, getattr(visited.operation, "_output_dense", None))
        if layer not in shown or self.calls[id(visited.operation)] > 1:
            return Behind()
        return self.following.behind(visited, self.live, self.thin, self.calls)

    def _change(self, variable: Any, value: np.ndarray) -> None:
        self.set[id(variable)] = variable
        self.thin.set(variable, value)

    def _measure(self, visited: _keras.Call) -> None:
        """Let normalization know the statistics of the thin network."""
        layer = visited.operation
        found = self.observer.moments(visited, self.kept[self.axes[id(layer.moving_mean)][0]])
        if found is None:
            return
        shift = self.shifts.get(id(layer), 0.0)
        for variable, value in normalized(layer, self.thin, *found, shift):
            self._change(variable, value)


def _listed(paths: Sequence[str]) -> str:
    paths = list(dict.fromkeys(paths))
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return ", ".join(paths[:8]) + more


def _within(kernel: Any, value: np.ndarray, seen: Seen) -> Callable | None:
    """Return what becomes of a change of a kernel by its constraint, if it has one."""
    design, read = seen.response.design, seen.response.width

    if kernel.constraint is None:
        return None

    def allowed(weights: np.ndarray) -> np.ndarray:
        wanted = value + design.folded(weights, value.shape)
        held = kernel.constraint(ops.convert_to_tensor(wanted, dtype=kernel.dtype))
        return design.unfolded(numbers(held) - value, read)

    return allowed


def _changed(visited: _keras.Call) -> bool:
    """Tell whether a call reads other numbers in the thin model."""
    return not all(both.same for both in _keras.given_tensors(visited).values())


def _calls(model: Any) -> tuple[Counter, Counter]:
    """Return how often each operation is called, and how many hold each variable, by their ids."""
    calls: Counter = Counter()
    holders: Counter = Counter()

    def call(visited: _keras.Call) -> list:
        if id(visited.operation) not in calls:
            holders.update({id(variable) for variable in variables_of(visited)})
        calls[id(visited.operation)] += 1
        return visited.node.outputs

    _keras.walk(model, _keras.graph_of(model).inputs, call)
    return calls, holders
