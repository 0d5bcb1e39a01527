"""Responding: what a block reads in a copy of a model, and what its convolution responds there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.readers.patches import Patches
from prune_keras.samples.batches import Samples
from prune_keras.samples.inputs import batches_for

ROWS = 4096  # that a convolution is fitted to, at least

Replaced = tuple[Any, Sequence[Any]]
"""A convolution of the model, and the layers of the block that takes its place in the copy."""


def seen(
    model: Any, twin: Any, blocks: Sequence[Replaced], number: int, samples: Samples
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows that a block reads in the twin, and what the layer responds in the model there.

    The model is run with the twin's blocks, so that calls come in its order, which may be another
    than the twin's.

    Args:
        model: the model.
        twin: its copy.
        blocks: convolutions and their blocks, in the order of their first calls.
        number: of the one that is to be fitted; those before it are.
        samples: what is looked at, up to as many rows as a fit needs.

    Raises:
        ValueError: if what is read or responded is not finite.
    """
    layer, _ = blocks[number]
    drawn = np.random.default_rng(0)
    most = max(ROWS, 4 * int(np.prod(layer.kernel.shape[:-1])))
    calls = [place for place in _keras.places(model) if place.operation is layer]
    # What a layer reads in its first call is behind none that is not fitted.
    waiting = blocks[number:] if len(calls) > 1 else blocks[number : number + 1]
    heard = _Heard(blocks[:number], [each for each, _ in waiting])
    found: list[tuple[np.ndarray, np.ndarray]] = []
    with _keras.undisturbed(model), _keras.undisturbed(twin):
        for inputs, _, _ in batches_for(_keras.graph_of(model).inputs, samples):
            pairs = heard.pairs(lambda: model(inputs, training=False))  # noqa: B023
            found += [_rows(layer, *both, most, drawn) for both in pairs]
            if sum(len(rows) for rows, _ in found) >= most:
                break
    rows, responses = (np.concatenate(each) for each in zip(*found, strict=True))
    if not (np.isfinite(rows).all() and np.isfinite(responses).all()):
        raise ValueError(
            "What a convolution reads and responds must be finite. Received: infinity or NaN at "
            f"{layer.name!r} of {model.name!r}, in {layer.compute_dtype}. Scale its inputs, or "
            "make the model in float32."
        )
    return rows, responses


class _Heard:
    """What convolutions responded in a model, with which they answer where others are blocks.

    So what is read behind a block that is not fitted yet is what it is meant to give.

    Args:
        fitted: convolutions and the blocks that answer in their place.
        waiting: convolutions that are not fitted yet; what the first one reads is heard.
    """

    def __init__(self, fitted: Sequence[Replaced], waiting: Sequence[Any]) -> None:
        self._blocks = {id(layer): block for layer, block in fitted}
        self._fitted = [layer for layer, _ in fitted]
        self._waiting = waiting
        self._read: list[Any] = []
        self._responses: dict[int, list[Any]] = {}

    def pairs(self, run: Callable[[], Any]) -> list[tuple[Any, Any]]:
        """Return what the first waiting layer reads behind blocks, and what it responds, by call.

        Args:
            run: runs the model, on the same inputs each time.
        """
        self._read, self._responses = [], {id(each): [] for each in self._waiting}
        with _keras.watched(self._waiting, self._respond):
            run()
        responses = [*self._responses[id(self._waiting[0])]]
        with (
            _keras.answering(self._fitted, self._answer),
            _keras.watched(self._waiting, self._read_on),
        ):
            run()
        return [*zip(self._read, responses, strict=True)]

    def _respond(self, layer: Any, _: Any, response: Any) -> Any:
        self._responses[id(layer)].append(response)
        return response

    def _read_on(self, layer: Any, x: Any, _: Any) -> Any:
        if layer is self._waiting[0]:
            self._read.append(x)
        return self._responses[id(layer)].pop(0)

    def _answer(self, layer: Any, _: Callable, args: tuple, kwargs: dict) -> Any:
        (x,) = [*args, *kwargs.values()]
        return through(self._blocks[id(layer)], x)


def through(block: Sequence[Any], x: Any) -> Any:
    """Return what the layers of a block make of what it reads."""
    for layer in block:
        x = layer(x)
    return x


def _rows(
    layer: Any, x: Any, response: Any, most: int, drawn: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    patches = Patches.of(layer, tuple(x.shape), tuple(response.shape))
    positions = patches.positions(tuple(response.shape))
    places = np.sort(drawn.choice(positions, min(positions, max(1, most // 4)), replace=False))
    rows, responses = patches.rows(x, places)[0], patches.made_at(response, places)[0]
    return rows.astype("float64"), responses.astype("float64")
