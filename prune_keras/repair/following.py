"""Following: what comes behind a layer, by which its responses are shifted, scaled, and added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.readers.entries import numbers
from prune_keras.repair.bending import Bend
from prune_keras.repair.responses import Response
from prune_keras.repair.side_by_side import Both, Thin
from prune_keras.samples.moments import Moments

PASSING = (
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianNoise, layers.GaussianDropout, layers.Identity),
)

Streamed = list[tuple[np.ndarray, np.ndarray]]
"""What each stream holds at some positions in the dense and in the thin model."""


@dataclass(frozen=True)
class Behind:
    """What comes behind a layer.

    Args:
        norm: batch normalization that measures its responses anew, and only them. Defaults to None.
        slope, offset: `(units,)`, by what a response is multiplied before it is added to a stream,
            and what is added to it in the dense model.
        streams: what it is added to. Defaults to nothing.
        ends: between which values an activation behind all that changes nothing, if it is flat
            beyond them. Defaults to None.
    """

    norm: Any = None
    slope: np.ndarray = field(default_factory=lambda: np.ones(1))
    offset: np.ndarray = field(default_factory=lambda: np.zeros(1))
    streams: tuple[Both, ...] = ()
    ends: tuple[float, float] | None = None

    def streamed(
        self, number: int, dense: Response, thin: Response, places: np.ndarray, stays: Any
    ) -> Streamed:
        """Return what responses are added to in both models."""
        return [
            (dense.taken(both.dense[number], places, stays), thin.taken(both.thin[number], places))
            for both in self.streams
        ]

    def missed(self, streamed: Streamed, like: np.ndarray) -> np.ndarray:
        """Return what responses have to make up for, as the stream lost it before."""
        total = sum(dense - thin for dense, thin in streamed)
        return total * _by_unit(self._inverse, like).astype(like.dtype)

    @property
    def _inverse(self) -> np.ndarray:
        # Where next to nothing of a response gets into the sum, it need not make up for anything.
        least = np.square(0.01) * np.mean(np.square(self.slope))
        return self.slope / np.maximum(np.square(self.slope) + least, 1e-30)

    def bend(self, responses: np.ndarray) -> Bend | None:
        """Return the activation behind `(groups, rows, units)` responses, if it has flat ends."""
        if self.ends is None:
            return None
        sides = (_by_unit(each, responses) for each in (self.slope, self._inverse))
        return Bend(*self.ends, *sides)

    def shown(self, responses: Sequence[np.ndarray], streamed: Streamed) -> list[np.ndarray]:
        """Return what the activation is given in both models; nothing if it has no flat ends."""
        if self.ends is None:
            return []
        like = responses[0]
        slope, offset = (
            _by_unit(each, like).astype(like.dtype) for each in (self.slope, self.offset)
        )
        sides = zip(*streamed, strict=True) if streamed else ((), ())
        return [
            sum(added, start=each * slope + offset)
            for each, added in zip(responses, sides, strict=True)
        ]


class Following:
    """Which calls read what; see `behind`."""

    def __init__(self, model: Any):
        self._readers = _keras.readers_of(model)

    def behind(
        self, visited: _keras.Call, live: Mapping[int, Both], thin: Thin, calls: Mapping[int, int]
    ) -> Behind:
        """Return what comes behind a call: dropout, batch normalization, and a sum, or some of it.

        Args:
            visited: the call.
            live: what tensors hold, by their id, as far as they are computed.
            thin: the thin model.
            calls: how often each operation is called.
        """
        tensor, norm = visited.node.outputs[0], None
        slope, offset = np.ones(1), np.zeros(1)
        if not gives_responses(visited.operation):
            return Behind(ends=_keras.ends_of(visited.operation.activation))
        node = self._only(tensor)
        while node is not None and calls[id(node.operation)] == 1:
            layer = node.operation
            normalizes = _keras.normalizes_units(layer, visited.operation, len(tensor.shape))
            if normalizes and norm is None:
                norm, slope = layer, slope_of(layer, thin)
                offset = offset_of(layer, thin, slope)
            elif not isinstance(layer, PASSING):
                break
            tensor = node.outputs[0]
            node = self._only(tensor)
        streams = self._streams(node, tensor, live)
        if streams:
            node = self._only(node.outputs[0])
        ends = None if node is None else _keras.ends_of(node.operation)
        measured = norm if norm is not None and norm.trainable else None
        return Behind(measured, slope, offset, streams, ends)

    def _only(self, tensor: Any) -> Any:
        """Return the only call that reads a tensor, or None."""
        found = self._readers.get(id(tensor), [None])
        return found[0] if len(found) == 1 else None

    def _streams(self, node: Any, tensor: Any, live: Mapping[int, Both]) -> tuple[Both, ...]:
        if node is None or not _keras.is_sum(node.operation):
            return ()
        others = [other for other in node.arguments.keras_tensors if other is not tensor]
        alike = all(other.shape == tensor.shape for other in others)
        if not alike or not all(id(other) in live for other in others):
            return ()
        return tuple(live[id(other)] for other in others)


def _by_unit(each: np.ndarray, responses: np.ndarray) -> np.ndarray:
    """Return numbers of all units as `(groups, 1, units)`."""
    groups, _, units = responses.shape
    return np.broadcast_to(each, (groups * units,)).reshape(groups, 1, units)


def gives_responses(operation: Any) -> bool:
    """Tell whether a layer gives what it responds, as it is."""
    activation = getattr(operation, "activation", None)
    return activation is None or activation is keras.activations.linear


def slope_of(norm: Any, thin: Thin) -> np.ndarray:
    """Return by what the thin model's batch normalization multiplies."""
    gamma = 1.0 if norm.gamma is None else numbers(thin.value(norm.gamma))
    variance = numbers(thin.value(norm.moving_variance)).astype("float64")
    return gamma / np.sqrt(variance + norm.epsilon)


def offset_of(norm: Any, thin: Thin, slope: np.ndarray) -> np.ndarray:
    """Return what it adds."""
    beta = 0.0 if norm.beta is None else numbers(thin.value(norm.beta))
    return beta - slope * numbers(thin.value(norm.moving_mean)).astype("float64")


def normalized(
    norm: Any, thin: Thin, dense: Moments, now: Moments, shift: Any
) -> Iterator[tuple[Any, np.ndarray]]:
    """Yield what batch normalization's variables become.

    It goes on to scale as it did, and shifts as is wanted, so that what was fitted stays. Its
    statistics move by as much as those of the samples differ between both models, which says
    nothing of samples that differ from others; scale and offset make up for it, if they may.

    Args:
        norm: the layer.
        thin: the thin model, which has its old variables.
        dense: moments of what it reads in the dense model, in channels that stay.
        now: those in the thin model.
        shift: what it shall add to what it reads, on average, beyond the dense mean.
    """
    slope = slope_of(norm, thin)
    mean = numbers(thin.value(norm.moving_mean)).astype("float64") + now.mean - dense.mean
    scale, offset = norm.gamma, norm.beta
    if not (_is_free(scale) and _is_free(offset)):
        yield norm.moving_mean, mean - shift
        return
    old = numbers(thin.value(norm.moving_variance)).astype("float64") + norm.epsilon
    grown = (now.variance.clip(0) + norm.epsilon) / (dense.variance.clip(0) + norm.epsilon)
    yield norm.moving_mean, mean
    yield norm.moving_variance, old * grown - norm.epsilon
    yield scale, slope * np.sqrt(old * grown)
    yield offset, numbers(thin.value(offset)) + slope * shift


def _is_free(variable: Any) -> bool:
    return variable is not None and variable.trainable and variable.constraint is None
