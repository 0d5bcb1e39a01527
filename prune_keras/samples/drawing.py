"""Drawing: random samples of the sizes and values that a model takes, where a user gives none.

Numbers that are looked up, such as those of words, are drawn from what the layer that looks them
up knows. Texts of which nothing is known are digits, which can be read as numbers, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers, ops, tree

from prune_keras import _keras

OPEN_SIZES = (96, 32, 16, 8, 4, 2, 1)
"""Sizes for axes that are left open, in the order in which they are tried."""

_MOST_VALUES = 10_000
_WORDS_IN_A_TEXT = 8
_BATCH = 2


def draw(
    model: Any, shapes: Sequence[tuple], batch_size: int | None = None, normal: bool = False
) -> Any:
    """Return random samples in the structure that the model takes.

    Args:
        model: a built functional or Sequential model.
        shapes: shape of one sample for each input, without the batch, all sizes known.
        batch_size: number of samples. Defaults to None: what the model asks for, else 2.
        normal: whether numbers are normal, and not uniform in [0, 1). Defaults to False.
    """
    rng = np.random.default_rng(0)
    inputs = _keras.graph_of(model).inputs
    drawn = []
    for tensor, shape, known in zip(inputs, shapes, _known_values(model), strict=True):
        batch = batch_size or tensor.shape[0] or _BATCH
        values = _values(tensor.dtype, (batch, *shape), known, normal, rng)
        drawn.append(ops.convert_to_tensor(values, dtype=tensor.dtype))
    return tree.pack_sequence_as(_keras.input_structure(model), drawn)


def sample_shapes(model: Any, open_size: int | None = None) -> list[tuple]:
    """Return the shape of one sample for each input, with a size for axes that are open."""
    shapes = [tuple(tensor.shape[1:]) for tensor in _keras.graph_of(model).inputs]
    return [tuple(open_size if size is None else size for size in shape) for shape in shapes]


def _values(dtype: str, shape: tuple, known: Any, normal: bool, rng: np.random.Generator) -> Any:
    text = dtype == "string"
    if known is not None and (known.dtype.kind in "OSU") == text:
        return rng.choice(known, shape)
    if text:
        return rng.choice([str(digit) for digit in range(10)], shape)
    if "float" in dtype:
        return rng.normal(size=shape) if normal else rng.uniform(size=shape)
    return rng.integers(0, 256 if dtype == "uint8" else 2, shape)


def _known_values(model: Any) -> list[np.ndarray | None]:
    """Return, for each input, the values that layers can look up in it; None where any will do."""
    known: dict[int, np.ndarray] = {}

    def call(visited: _keras.Call) -> list:
        given = tree.flatten((visited.args, visited.kwargs))
        origins = frozenset().union(*(each for each in given if isinstance(each, frozenset)))
        values = _looked_up(visited.operation)
        if values is None:
            return [origins] * len(visited.node.outputs)
        for origin in origins:
            shared = np.intersect1d(known.get(origin, values), values)
            known[origin] = shared if len(shared) else values
        return [frozenset()] * len(visited.node.outputs)

    count = len(_keras.graph_of(model).inputs)
    _keras.walk(model, [frozenset({place}) for place in range(count)], call)
    return [known.get(place) for place in range(count)]


def _looked_up(operation: Any) -> np.ndarray | None:
    """Return the values that a layer, or a layer inside of it, can look up; None for others."""
    if isinstance(operation, layers.TextVectorization):
        words = operation.get_vocabulary(include_special_tokens=False)
        return _texts(words) if words else None
    if not _keras.is_layer(operation):
        return None
    found = [_entries(layer) for layer in _keras.all_layers(operation)]
    return min((each for each in found if each is not None), key=len, default=None)


def _entries(layer: Any) -> np.ndarray | None:
    if isinstance(layer, layers.Embedding):
        return np.arange(min(layer.input_dim, _MOST_VALUES))
    if isinstance(layer, layers.CategoryEncoding):
        return np.arange(layer.num_tokens)
    if isinstance(layer, layers.StringLookup | layers.IntegerLookup):
        words = layer.get_vocabulary(include_special_tokens=False)[:_MOST_VALUES]
        known = np.arange(len(words)) if layer.invert else np.array(words)
        return known if len(known) else None
    return None


def _texts(words: Sequence[str]) -> np.ndarray:
    chosen = np.random.default_rng(0).choice(words, (32, _WORDS_IN_A_TEXT))
    return np.array([" ".join(text) for text in chosen])
