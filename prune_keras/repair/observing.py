"""Observing: what layers read and miss in the thin network, of all calls and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.readers.kinds import kernel_of
from prune_keras.repair.bending import Rows
from prune_keras.repair.following import Behind
from prune_keras.repair.gathering import Gathered, Gathering
from prune_keras.repair.portion import Portion
from prune_keras.repair.responses import Response, spread
from prune_keras.repair.side_by_side import Both, Thin, run_both, run_dense, run_thin
from prune_keras.samples.moments import Moments, moments_of

STATISTICS = 4  # times as many positions, as means and variances cost less than a fit


@dataclass(frozen=True)
class Seen:
    """What is seen of a layer.

    Args:
        rows: of what it reads and misses, of samples to fit on and of those held out.
        response: one of its responses in the thin model.
        beyond: what units shall respond, on average, beyond what they do in the dense one.
        power: mean square of some responses in the dense model.
        front: the same rows in front of an activation with flat ends, if there is one behind: those
            to fit on, then those held out.
    """

    rows: Gathered
    response: Response
    beyond: np.ndarray
    power: float
    front: Rows | None = None


@dataclass(frozen=True)
class Observer:
    """Looks at single layers of both models.

    Args:
        model: the model.
        thin: the thin one.
        portion: samples.
        calls: how often each operation is called, by its id.
        rows: positions that a layer is looked at, at most, or eight for each number that it reads.
        ran: what the call looked at last gave in the dense model, by the number of a batch.
    """

    model: Any
    thin: Thin
    portion: Portion
    calls: Mapping[int, int]
    rows: int
    ran: dict[int, list] = field(default_factory=dict)

    def heard(self, visited: _keras.Call, layer: Any) -> Iterator[tuple[int, Any, Any]]:
        """Yield the number of each batch and what a layer hears and says in both models.

        A layer that is called several times is followed through the whole model.
        """
        for number in range(len(self.portion.batches)):
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
                self.ran[number] = [both.dense[0] for both in run_aloud(visited, number)]
            else:
                _keras.walk(self.model, self.portion.as_both(number), call)
            for dense, thin in zip(heard[::2], heard[1::2], strict=True):
                yield number, dense, thin

    def seen(
        self, visited: _keras.Call, layer: Any, behind: Behind, stays: Mapping[int, np.ndarray]
    ) -> Seen | None:
        """Return what is seen of a layer; None where nothing is, or what stays cannot be told.

        Args:
            visited: the call that it is, or is made in.
            layer: a linear layer.
            behind: what comes behind it.
            stays: axis of its kernel -> `(size,)` booleans, what stays along it.
        """
        rows, beyond, response, power = None, [], None, 0.0
        shown: list[tuple[Rows, np.ndarray]] = []
        draw, factor = np.random.default_rng(0), self.thin.factors.get(id(kernel_of(layer)), 1.0)
        for number, dense, thin in self.heard(visited, layer):
            size, most = self.portion.sizes[number], max(self.rows, 8 * thin.width)
            places = thin.places(self.portion.share(most, number), draw)
            wanted, now, response = dense.at(places, stays), thin.at(places), thin
            if wanted.shape != now.shape:
                return None
            power = factor**2 * float(np.mean(np.square(wanted), dtype="float64"))
            streamed = behind.streamed(number, dense, thin, places, stays)
            added = behind.missed(streamed, now)
            beyond.append(added.sum(axis=1, dtype="float64"))
            missed = factor * wanted - now + added
            held = self.portion.is_held_out(number, thin.samples_of(places, size))
            rows, read = rows or Gathering(thin.width), thin.read(places)
            rows.add(read, missed, held)
            ahead = behind.shown((wanted, now), streamed)
            shown += [(Rows.of(read, *ahead), held)] if ahead else []
        gathered = None if rows is None else rows.gathered()
        if gathered is None or response is None:
            return None
        front = Rows.joined(shown) if shown else None
        beyond = sum(beyond).reshape(-1) / gathered.joint.count
        return Seen(gathered, response, beyond, power, front)

    def moments(self, visited: _keras.Call, stays: np.ndarray) -> tuple[Moments, Moments] | None:
        """Return moments of what a normalization reads in both models, in channels that stay.

        None where all of it is masked.
        """
        layer, draw = visited.operation, np.random.default_rng(0)
        found: list[list[Moments]] = [[], []]
        for number, *both in self.heard(visited, layer):
            most = self.portion.share(STATISTICS * self.rows, number)
            places = spread(both[0].values_by(layer.axis), most, draw)
            for moments, side in zip(found, both, strict=True):
                each = Moments.of(*moments_of(*side.values(layer.axis, places)))
                moments[:] = [sum(moments, start=each)]
        dense, thin = (each[0] for each in found)
        if min(dense.count, thin.count) == 0:
            return None
        return Moments(dense.count, dense.mean[stays], dense.scatter[stays]), thin
