"""Single weights set to zero after training: as many numbers as before, which compress better."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.graph import Producer
from prune_keras.interrupts import deferred
from prune_keras.preparing.layers import check_layers, producers_in
from prune_keras.text import printable
from prune_keras.tracing import trace
from prune_keras.validation import check_choice, check_share

SCOPES = ("unit", "layer", "global")


@dataclass(frozen=True)
class Sparsity:
    """What `sparsify` did.

    Args:
        zeros: path of the layer -> number of zeros in its kernel.
        weights: path of the layer -> number of weights in its kernel.
        params: number of parameters of the whole model.
        bytes_before: bytes of all weights as a compressed file (NumPy's `.npz`), before.
        bytes_after: the same, after.
    """

    zeros: dict[str, int]
    weights: dict[str, int]
    params: int
    bytes_before: int
    bytes_after: int

    @property
    def share(self) -> float:
        """Share of zeros in the kernels that were looked at."""
        return sum(self.zeros.values()) / sum(self.weights.values())

    def __str__(self) -> str:
        zeros, weights = sum(self.zeros.values()), sum(self.weights.values())
        return printable(
            f"{zeros:,} of {weights:,} weights in {len(self.weights)} kernels are zero "
            f"({self.share:.1%}). The model is no thinner: it has {self.params:,} parameters as "
            f"before, and takes the same time and memory. Compressed, its weights take "
            f"{self.bytes_after:,} bytes, before {self.bytes_before:,}."
        )


def sparsify(
    model: Any, share: float, scope: str = "unit", layers: Sequence[str] | None = None
) -> Sparsity:
    """Set the weights of lowest magnitude to zero, in place.

    That makes no layer thinner and no model faster; only a compressed file gets smaller. To remove
    whole neurons use `prune`. Zeros do not stay zero in a later `fit`.

    Args:
        model: a built model; its kernels are changed.
        share: share of the weights that are zero afterwards, in (0, 1), rounded down.
        scope: one of `{"unit", "layer", "global"}`: the weights that are compared with each other,
            of an output unit, of a layer, or of all layers. Defaults to `"unit"`, as
            `callbacks.TargetedDropout(granularity="weight")` chooses its candidates.
        layers: paths of layers, or patterns. Defaults to None: all that make units, but the first
            convolution and outputs. Biases stay.

    Returns:
        A `Sparsity`; printed, it tells what was done.

    Raises:
        ValueError: if an argument is out of range, or a pattern names no layer; the model is then
            as it was.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> done = prune_keras.sparsify(model, 0.75)
    >>> done.zeros, done.weights, done.bytes_after < done.bytes_before
    ({'a': 24}, {'a': 32}, True)
    """
    check_share("share", share)
    check_choice("scope", scope, SCOPES)
    check_layers(layers)
    producers = producers_in(trace(model), layers)
    before = compressed_bytes(model)
    values = [keras.ops.convert_to_numpy(producer.kernel.value) for producer in producers]
    sparse = _sparse(producers, values, share, scope)
    with deferred():
        for producer, value in zip(producers, sparse, strict=True):
            _keras.set_value(producer.kernel, keras.ops.convert_to_tensor(value))
    return Sparsity(
        {p.path: int((value == 0).sum()) for p, value in zip(producers, sparse, strict=True)},
        {p.path: value.size for p, value in zip(producers, sparse, strict=True)},
        model.count_params(),
        before,
        compressed_bytes(model),
    )


def compressed_bytes(model: Any) -> int:
    """Return the bytes of a model's weights as a compressed file of NumPy."""
    written = io.BytesIO()
    np.savez_compressed(written, *map(_as_written, model.weights))
    return len(written.getvalue())


def _as_written(variable: keras.Variable) -> np.ndarray:
    value = keras.ops.convert_to_numpy(variable.value)
    # NumPy has no name for bfloat16 in its files.
    return value if value.dtype.isbuiltin == 1 else value.view(np.uint8)


def _sparse(
    producers: Sequence[Producer], values: list[np.ndarray], share: float, scope: str
) -> list[np.ndarray]:
    sizes = np.cumsum([value.size for value in values])[:-1]
    if scope == "global":
        row = np.concatenate([np.abs(value).ravel() for value in values])
        masks = np.split(_lowest(row[None].astype("float64"), share)[0], sizes)
        masks = [mask.reshape(value.shape) for mask, value in zip(masks, values, strict=True)]
    else:
        masks = [
            _lowest_in(value, producer.axis if scope == "unit" else None, share)
            for producer, value in zip(producers, values, strict=True)
        ]
    return [
        np.where(mask, value.dtype.type(0), value)
        for mask, value in zip(masks, values, strict=True)
    ]


def _lowest_in(value: np.ndarray, axis: int | None, share: float) -> np.ndarray:
    """Tell which entries are lowest, among all or those of the same place along an axis."""
    if axis is None:
        return _lowest(np.abs(value).reshape(1, -1), share).reshape(value.shape)
    moved = np.moveaxis(value, axis, 0)
    mask = _lowest(np.abs(moved).reshape(len(moved), -1), share)
    return np.moveaxis(mask.reshape(moved.shape), 0, axis)


def _lowest(rows: np.ndarray, share: float) -> np.ndarray:
    count = int(np.floor(share * rows.shape[1] + 1e-9))
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, np.argsort(rows, axis=1, kind="stable")[:, :count], True, axis=1)
    return mask
