"""Dropping: candidates of lowest magnitude, and the random masks under which a step trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.graph import Producer
from prune_keras.preparing.scores import Neurons, lowest, spread, thresholds
from prune_keras.preparing.state import masked, new_state


@dataclass(frozen=True, eq=False)
class Units:
    """Neurons that are dropped whole: what reads them reads zeros."""

    neurons: Neurons

    @property
    def kept(self) -> list[tuple[int, ...]]:
        """Shapes of what is known of the candidates from one look at the weights to the next."""
        return [(self.neurons.count,)]

    def look(self, share: Any) -> list:
        return [self.neurons.are_lowest(self.neurons.norms(), share)]

    def masks(self, kept: Sequence[Any], rate: Any, seed: Any) -> Iterator[tuple[Any, Any]]:
        """Yield variables and what they are multiplied by."""
        stays = _stays(kept[0], rate, seed)
        stays = ops.concatenate([stays, ops.ones((1,), "float32")])
        for weight in self.neurons.graph.weights:
            places = {axis: self.neurons.places(weight.axes[axis]) for axis in weight.reads}
            mask = 1.0
            for axis, place in places.items():
                if (place < self.neurons.count).any():
                    mask = mask * spread(ops.take(stays, place), axis, weight.variable)
            if not isinstance(mask, float):
                yield weight.variable, mask


@dataclass(frozen=True, eq=False)
class Weights:
    """Single weights that are dropped, lowest among those of the same output unit."""

    producers: Sequence[Producer]

    @property
    def kept(self) -> list[tuple[int, ...]]:
        return [_limits_shape(producer) for producer in self.producers]

    def look(self, share: Any) -> list:
        return [_limits(producer, share) for producer in self.producers]

    def masks(self, kept: Sequence[Any], rate: Any, seed: Any) -> Iterator[tuple[Any, Any]]:
        """Yield variables and what they are multiplied by."""
        for producer, limits in zip(self.producers, kept, strict=True):
            small = ops.abs(_value(producer.kernel)) <= limits
            yield producer.kernel, _stays(ops.cast(small, "float32"), rate, seed)


def _stays(candidates: Any, rate: Any, seed: Any) -> Any:
    """Draw ones and zeros: a candidate is dropped at a rate, all others stay."""
    drawn = keras.random.uniform(ops.shape(candidates), dtype="float32", seed=seed)
    return 1.0 - candidates * ops.cast(drawn < rate, "float32")


def _value(variable: keras.Variable) -> Any:
    return ops.stop_gradient(ops.cast(variable.value, "float32"))


def _limits_shape(producer: Producer) -> tuple[int, ...]:
    rank, axis = len(producer.kernel.shape), producer.axis % len(producer.kernel.shape)
    return tuple(int(producer.kernel.shape[a]) if a == axis else 1 for a in range(rank))


def _limits(producer: Producer, share: Any) -> Any:
    """Return the magnitude up to which the weights of each output unit are candidates."""
    shape = _limits_shape(producer)
    units = max(shape)
    columns = ops.moveaxis(ops.abs(_value(producer.kernel)), producer.axis, 0)
    rows = ops.sort(ops.reshape(columns, (units, -1)), axis=1)
    size = int(np.prod(producer.kernel.shape)) // units
    count = ops.broadcast_to(lowest(share, float(size)), (units, 1))
    return ops.reshape(thresholds(rows, count, axis=1), shape)


class Dropping:
    """The state of a dropping that goes on, inside of a compiled step.

    Args:
        kind: what is dropped.
        refresh_steps: number of steps from one look at the weights to the next.
        seed: seed of the masks; None for another one each time.
    """

    def __init__(self, kind: Units | Weights, refresh_steps: int, seed: int | None) -> None:
        self.kind, self._every = kind, refresh_steps
        self._seed = keras.random.SeedGenerator(seed)
        self._ends = new_state((2,), "float32", "share_and_rate")
        self._since = new_state((), "int32", "steps")
        self._kept = [new_state(shape, "float32", "candidates") for shape in kind.kept]
        state = (self._seed.state, self._ends, self._since, *self._kept)
        self.view = _keras.View(self._values, state=state)

    def ramp(self, share: float, rate: float) -> None:
        """Drop at a rate from a share of lowest magnitude, and look at the weights anew."""
        self._ends.assign(np.array([share, rate], "float32"))
        self._since.assign(0)

    def _values(self) -> Iterator[tuple[Any, Any]]:
        share, rate = self._ends.value[0], self._ends.value[1]
        before = [each.value for each in self._kept]
        due = ops.equal(self._since.value % self._every, 0)
        kept = ops.cond(due, lambda: self.kind.look(share), lambda: _as_tensors(before))
        for each, value in zip(self._kept, kept, strict=True):
            each.assign(value)
        self._since.assign(self._since.value + 1)
        for variable, mask in self.kind.masks(kept, rate, self._seed):
            yield variable, masked(variable, mask)


def _as_tensors(values: list) -> list:
    return [ops.convert_to_tensor(value) for value in values]
