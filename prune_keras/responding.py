"""Responding: what a block reads in a copy of a model, and what its convolution responds there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.readers.patches import Patches
from prune_keras.samples.batches import Samples, batches
from prune_keras.samples.inputs import flat_inputs

ROWS = 4096  # that a convolution is fitted to, at least

Replaced = tuple[Any, Sequence[Any]]
"""A convolution of the model, and the layers of the block that takes its place in the copy."""


def seen(
    model: Any, twin: Any, waiting: Sequence[Replaced], samples: Samples
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that a block reads in the twin, and what the layer responds in the model there.

    Args:
        model: the model.
        twin: its copy.
        waiting: the convolution and its block, and behind them all that are not fitted yet, in the
            order of their first calls.
        samples: what both look at, up to as many rows as a fit needs.
    """
    layer, _ = waiting[0]
    drawn = np.random.default_rng(0)
    most = max(ROWS, 4 * int(np.prod(layer.kernel.shape[:-1])))
    calls = [place for place in _keras.places(model) if place.operation is layer]
    # What a layer reads in its first call is behind none that is not fitted.
    heard = _Heard(waiting if len(calls) > 1 else waiting[:1])
    found: list[tuple[np.ndarray, np.ndarray]] = []
    with (
        _keras.undisturbed(model),
        _keras.undisturbed(twin),
        _keras.watched(heard.layers, heard.hear),
    ):
        for inputs, _, _ in batches(samples):
            flat_inputs(_keras.graph_of(model).inputs, inputs)  # which refuses what is not finite
            for each in (model, twin):
                each(inputs, training=False)
            found += [_rows(layer, *both, most, drawn) for both in heard.taken()]
            if sum(len(rows) for rows, _ in found) >= most:
                break
    rows, responses = (np.concatenate(each) for each in zip(*found, strict=True))
    return rows, responses


class _Heard:
    """What convolutions responded in a model, with which their blocks answer in the copy.

    So what is read behind a block that is not fitted yet is what it is meant to give.

    Args:
        waiting: convolutions and their blocks; what the first block reads is heard, too.
    """

    def __init__(self, waiting: Sequence[Replaced]) -> None:
        (self._layer, (self._first, *_)), *_ = waiting
        self._answers = {id(block[-1]): layer for layer, block in waiting}
        ends = [end for layer, block in waiting for end in (layer, block[-1])]
        self.layers = [self._first, *ends]
        self._clear()

    def _clear(self) -> None:
        self._read: list[Any] = []
        self._responses: dict[int, list[Any]] = {id(each): [] for each in self._answers.values()}
        self._answered = dict.fromkeys(self._answers, 0)

    def hear(self, each: Any, x: Any, response: Any) -> Any:
        """Take what a layer reads and responds, and return what goes on behind it."""
        if id(each) in self._answers:
            number = self._answered[id(each)]
            self._answered[id(each)] += 1
            return self._responses[id(self._answers[id(each)])][number]
        if each is self._first:
            self._read.append(x)
        else:
            self._responses[id(each)].append(response)
        return response

    def taken(self) -> list[tuple[Any, Any]]:
        """Return what the first block read and its layer responded, call by call, once."""
        pairs = [*zip(self._read, self._responses[id(self._layer)], strict=True)]
        self._clear()
        return pairs


def _rows(
    layer: Any, x: Any, response: Any, most: int, drawn: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    patches = Patches.of(layer, tuple(x.shape), tuple(response.shape))
    positions = patches.positions(tuple(response.shape))
    places = np.sort(drawn.choice(positions, min(positions, max(1, most // 4)), replace=False))
    rows, responses = patches.rows(x, places)[0], patches.made_at(response, places)[0]
    return rows.astype("float64"), responses.astype("float64")
