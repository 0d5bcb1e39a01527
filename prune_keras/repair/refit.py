r"""Refit: weights fitted anew, layer after layer, to what the thin network really feeds them.

One walk over the graph carries what each tensor holds in the dense and in the thin network, as
repaired so far. With `X` what a layer reads in the thin one and `M` what its responses miss there
of the dense ones, `W` becomes `W + (X'X/N + r I)^-1 X'M/N`. Where responses are added to a stream,
`M` is what the sum misses, so that a layer also makes up for what the stream lost before it. What
an activation behind hides is not missed; see `bending`.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from prune_keras import _backend, _keras
from prune_keras.graph import Graph
from prune_keras.repair.bending import Bend, Rows, bent
from prune_keras.repair.designs import READERS, Response, kernel_of, numbers, read_by_each
from prune_keras.repair.following import Behind, Following, normalized
from prune_keras.repair.least_squares import Fit, Sums, fitted
from prune_keras.repair.side_by_side import Both, Thin, run_both, run_dense, run_thin
from prune_keras.samples.moments import Moments, exact, mask_rows, moments_of, rows_of
from prune_keras.samples.subject import Subject

ATTENTION = tuple(
    getattr(layers, name)
    for name in ("MultiHeadAttention", "GroupQueryAttention")
    if hasattr(layers, name)
)
HELD_OUT = 4  # one sample in so many
ROUNDING = 1e-9  # of the mean square of responses
SUMS = 6  # matrices of products of what a layer reads that are held at once


@dataclass(frozen=True)
class Refit:
    """How weights are fitted anew, one layer after another.

    Args:
        memory: bytes that activations may take, at most, all samples together; where `data` would
            take more, fewer batches of it are looked at. A layer whose sums of products would take
            more keeps its weights. Defaults to 4 GiB.
        rows: positions that a layer is fitted by, at most, or eight for each number that it reads
            where that is more. Defaults to 32,768.
        verbose: 1 shows a progress bar, 0 nothing. Defaults to 0.

    Raises:
        ValueError: if `memory` or `rows` is not a count.

    Example:

    >>> print(Refit(memory=2**30).memory)
    1073741824
    """

    memory: int = 2**32
    rows: int = 2**15
    verbose: int = 0

    def __post_init__(self) -> None:
        for name in ("memory", "rows"):
            value = getattr(self, name)
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}. "
                    "Leave it out for the default."
                )

    def __str__(self) -> str:
        return "sequential"


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
        walk = _Walk(model, graph, kept, how)
        _backend.without_gradients(walk.over)(subject.flat())
    return list(walk.changed()), walk.notes


def is_bounded(model: Any, how: Refit) -> bool:
    """Tell whether the sums of each layer of a model take no more memory than is allowed."""
    found = (each for each in _keras.all_layers(model) if isinstance(each, READERS))
    return all(_is_within(kernel_of(each).shape, each, how) for each in found)


def _is_within(kernel: tuple[int, ...], layer: Any, how: Refit) -> bool:
    """Tell whether sums of products of what a kernel of this shape reads are small enough."""
    return SUMS * 8 * read_by_each(layer, kernel) ** 2 <= how.memory


@dataclass(frozen=True)
class _Seen:
    """What is seen of a layer.

    Args:
        sums: of what it reads and misses, of samples to fit on and of those held out.
        response: one of its responses in the thin model.
        beyond: what units shall respond, on average, beyond what they do in the dense one.
        power: mean square of some responses in the dense model.
        bend: an activation with flat ends behind it, if there is one.
        rows: what is in front of that, of samples to fit on and of those held out.
    """

    sums: tuple[Sums, Sums]
    response: Response
    beyond: np.ndarray
    power: float
    bend: Bend | None = None
    rows: tuple[Rows, ...] = ()


class _Walk:
    """A walk over the graph that fits a layer's weights as it comes to it."""

    def __init__(self, model: Any, graph: Graph, kept: np.ndarray, how: Refit):
        self.model, self.kept, self.how = model, kept, how
        self.thin = Thin(model, graph, kept)
        self.axes = {id(weight.variable): weight.axes for weight in graph.weights}
        self.following = Following(model)
        self.calls = _calls(model)
        self.live: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self.batches: list[list] = []
        self.first: list[int] = []
        self.samples = 0
        self.done: set[int] = set()
        self.shifts: dict[int, np.ndarray] = {}
        self.fits: dict[str, Fit] = {}
        self.as_they_were: list[str] = []
        self.unknown: list[str] = []
        self.wide: list[str] = []
        self.reads = {id(weight.variable) for weight in graph.weights if weight.reads}
        self.bar = keras.utils.Progbar(sum(self.calls.values()), verbose=how.verbose)
        self.set: dict[int, Any] = {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of layers that keep their weights."""
        reasons = {
            "not refitted, as samples held out would not gain": self.as_they_were,
            "not refitted, as there is no way to": self.unknown,
            "not refitted, as it would take more than Refit(memory=...) allows": self.wide,
        }
        return tuple(f"{why}: {_listed(paths)}" for why, paths in reasons.items() if paths)

    def changed(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the position of each variable that was set, and its value."""
        for place, variable in enumerate(self.model.variables):
            if id(variable) in self.set:
                yield place, np.asarray(ops.convert_to_numpy(self.thin.value(variable)))

    def over(self, found: Iterator[list]) -> None:
        """Walk over as many batches as may be held at once."""
        most = None
        for batch in found:
            if most is None:
                most = max(1, self.how.memory // max(self._needed(batch), 1))
            self.batches.append(batch)
            if len(self.batches) >= most:
                break
        ends = np.cumsum([len(batch[0]) for batch in self.batches])
        self.first, self.samples = [0, *ends[:-1]], int(ends[-1])
        if self.samples < HELD_OUT:
            raise ValueError(
                "A sequential refit must have samples to hold out. Received: data of "
                f"{self.samples} samples, of at least {HELD_OUT}. Pass some hundreds in `data`."
            )
        _keras.walk(self.model, _as_both(self.batches), self._call, self._see)

    def _needed(self, batch: list) -> int:
        """Return how many bytes the walk holds at once for a batch."""
        most = 0

        def call(visited: _keras.Call) -> list[Both]:
            nonlocal most
            found = run_both(visited, self.thin)
            most = max(most, sum(each.size for each in {*self.live.values(), *found}))
            return found

        _keras.walk(self.model, _as_both([batch]), call, self._see)
        self.live.clear()
        return most

    def _see(self, tensor: Any, both: Both) -> None:
        self.live[id(tensor)] = both

    def _call(self, visited: _keras.Call) -> list[Both]:
        operation = visited.operation
        if _changed(visited) or self.thin.differs(visited):
            if id(operation) not in self.done:
                self.done.add(id(operation))
                if isinstance(operation, layers.BatchNormalization) and operation.trainable:
                    self._measure(visited)
                readers = _readers(operation)
                for layer in readers:
                    self._fit(visited, layer)
                if not readers and self.reads & {id(v) for v in _trainable(operation)}:
                    self.unknown.append(visited.path)
        self.bar.add(1)
        return run_both(visited, self.thin)

    def _heard(self, visited: _keras.Call, layer: Any) -> Iterator[tuple[int, Any, Any]]:
        """Yield the number of each batch and what a layer hears and says in both models.

        A layer that is called several times is followed through the whole model.
        """
        for number, batch in enumerate(self.batches):
            heard: list[Any] = []

            def call(other: _keras.Call) -> list[Both]:
                if other.operation is not visited.operation:
                    return run_both(other, self.thin)
                return run_aloud(other, 0)

            def run_aloud(other: _keras.Call, place: int) -> list[Both]:
                with _keras.heard(layer, lambda *each: heard.append(Response.of(layer, *each))):  # noqa: B023
                    dense = run_dense(other, place)
                    thin = run_thin(other, place, self.thin)
                return [Both([a], [b]) for a, b in zip(dense, thin, strict=True)]

            if self.calls[id(visited.operation)] == 1:
                run_aloud(visited, number)
            else:
                _keras.walk(self.model, _as_both([batch]), call)
            for dense, thin in zip(heard[::2], heard[1::2], strict=True):
                yield number, dense, thin

    def _fit(self, visited: _keras.Call, layer: Any) -> None:
        """Give a layer in a call the weights that fit best."""
        kernel, behind = kernel_of(layer), self._behind(visited, layer)
        learns = layer.trainable and kernel.trainable
        biased = layer.bias is not None and layer.trainable and layer.bias.trainable
        if id(kernel) not in self.axes or not (learns or biased):
            return
        if not (_changed(visited) or behind.streams):
            return
        if not _is_within(np.shape(self.thin.value(kernel)), layer, self.how):
            self.wide.append(visited.path)
            return
        seen = self._seen(visited, layer, behind)
        if seen is None:
            return
        design, value = seen.response.design, numbers(self.thin.value(kernel))
        biased = biased and design.shifts
        shifts = biased or behind.norm is not None
        allowed = _within(kernel, value, seen.response)
        fit = fitted(*seen.sums, seen.response.width, shifts, learns, allowed)
        inner = "" if layer is visited.operation else f"/{layer.name}"
        self.fits[visited.path + inner] = fit
        beyond, enough = seen.beyond, ROUNDING * seen.power
        if fit.before > enough and not fit.weights.any():
            self.as_they_were.append(visited.path + inner)
        elif seen.bend and seen.rows and shifts and fit.after > enough:
            own, rest = zip(seen.rows, seen.sums, strict=True)
            fit, change = bent(fit, own, rest, seen.bend, allowed)
            beyond = beyond + change.reshape(-1)
        self._change(kernel, value + design.folded(fit.weights, value.shape))
        if behind.norm is not None:
            self.shifts[id(behind.norm)] = beyond
        elif biased:
            now = numbers(self.thin.value(layer.bias))
            self._change(layer.bias, now + design.folded_bias(fit.shift, now.shape))

    def _seen(self, visited: _keras.Call, layer: Any, behind: Behind) -> _Seen | None:
        """Return what is seen of a layer; None where nothing is, or what stays cannot be told."""
        found: list[list[Sums]] = [[], []]
        shown: list[list[Rows]] = [[], []]
        kernel, beyond, response, power = kernel_of(layer), [], None, 0.0
        draw = np.random.default_rng(0)
        stays = {axis: self.kept[ids] for axis, ids in self.axes[id(kernel)].items()}
        for number, dense, thin in self._heard(visited, layer):
            places = thin.places(self._share(thin, number), draw)
            missed = dense.at(places, stays) * self.thin.factors.get(id(kernel), 1.0)
            response = thin
            now = thin.at(places)
            if missed.shape != now.shape:
                return None
            power = float(np.mean(np.square(missed, dtype="float64")))
            added = behind.missed(number, dense, thin, places, stays)
            missed = missed.astype("float64") - now + added
            beyond.append(added.sum(axis=1))
            rows = np.concatenate([thin.read(places), missed], axis=-1)
            held = (self.first[number] + thin.samples_of(places)) % HELD_OUT == HELD_OUT - 1
            ahead = behind.shown(number, dense, thin, places, stays)
            for sums, front, some in zip(found, shown, (~held, held), strict=True):
                if some.any():
                    sums[:] = [sum(sums, start=Sums.of(rows[:, some]))]
                    each = [part[:, some] for part in (rows[..., : thin.width], *ahead)]
                    front += [Rows.of(*each)] if ahead else []
        if not all(found) or response is None:
            return None
        fit, rest = (sums[0] for sums in found)
        count = fit.count + rest.count
        seen = _Seen((fit, rest), response, sum(beyond).reshape(-1) / count, power)
        fronts = tuple(Rows.joined(parts) for parts in shown if parts)
        return replace(seen, bend=behind.bend(fronts[0].thin), rows=fronts) if fronts else seen

    def _share(self, response: Any, number: int) -> int:
        """Return how many positions of a batch to look at."""
        most = max(self.how.rows, 8 * response.width)
        return -(-most * len(self.batches[number][0]) // self.samples)

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
        found: list[list[Moments]] = [[], []]
        for _, *both in self._heard(visited, layer):
            for moments, side in zip(found, both, strict=True):
                rows = rows_of(exact(side.x), layer.axis)
                each = Moments.of(*moments_of(rows, mask_rows(side.mask, side.x, layer.axis)))
                moments[:] = [sum(moments, start=each)]
        dense, thin = (each[0] for each in found)
        if min(dense.count, thin.count) == 0:
            return
        stays = self.kept[self.axes[id(layer.moving_mean)][0]]
        dense = Moments(dense.count, dense.mean[stays], dense.scatter[stays])
        shift = self.shifts.get(id(layer), 0.0)
        for variable, value in normalized(layer, self.thin, dense, thin, shift):
            self._change(variable, value)


def _listed(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 8} more" if len(paths) > 8 else ""
    return ", ".join(paths[:8]) + more


def _trainable(operation: Any) -> list:
    return operation.trainable_variables if _keras.is_layer(operation) else []


def _within(kernel: Any, value: np.ndarray, response: Response) -> Callable:
    """Return what becomes of a change of a kernel by its constraint."""
    design, read = response.design, response.width

    def allowed(weights: np.ndarray) -> np.ndarray:
        if kernel.constraint is None:
            return weights
        wanted = value + design.folded(weights, value.shape)
        held = kernel.constraint(ops.convert_to_tensor(wanted, dtype=kernel.dtype))
        return design.unfolded(numbers(held) - value, read)

    return allowed


def _as_both(batches: Sequence[list]) -> list[Both]:
    tensors = (list(each) for each in zip(*batches, strict=True))
    return [Both(each, each) for each in tensors]


def _changed(visited: _keras.Call) -> bool:
    """Tell whether a call reads other numbers in the thin model."""
    return not all(both.same for both in _keras.given_tensors(visited).values())


def _calls(model: Any) -> Counter:
    """Return how often each operation is called, by its id."""
    found: Counter = Counter()

    def call(visited: _keras.Call) -> list:
        found[id(visited.operation)] += 1
        return visited.node.outputs

    _keras.walk(model, _keras.graph_of(model).inputs, call)
    return found


def _readers(operation: Any) -> list:
    """Return the layers of an operation that are fitted, in the order in which they are called."""
    if isinstance(operation, READERS):
        return [operation]
    if isinstance(operation, ATTENTION):
        return [each for each in _keras.all_layers(operation) if isinstance(each, READERS)]
    return []
