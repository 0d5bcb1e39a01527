"""Recalibration: measure batch normalization's statistics anew after a cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from prune_keras import _backend, _keras
from prune_keras.samples.batches import batches, flat_inputs


def recalibrate(model: Any, data: Any, steps: int = 10) -> int:
    """Set moving means and variances to those of a few batches; frozen layers stay as they are.

    Each layer's input is measured while all layers normalize by their batch: with `m_b` and `v_b`
    the mean and variance of batch `b`, the mean becomes `mean(m_b)` and the variance
    `mean(v_b + m_b^2) - mean(m_b)^2`. Each call of a shared layer counts as a batch.

    Args:
        model: a built functional or Sequential model; changed in place.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        steps: number of batches to look at, at most. Defaults to 10.

    Returns:
        The number of layers measured.
    """
    layers = [layer for layer in _keras.all_layers(model) if _is_measured(layer)]
    if not layers:
        return 0
    _keras.check_runs(model)
    step = _backend.compiled(_step(model), model)
    totals: dict[str, tuple] = {}
    count = 0
    for x, _, _ in batches(data, steps=steps):
        for path, (mean, square) in step(flat_inputs(_inputs(model), x)).items():
            before = totals.get(path, (0.0, 0.0))
            totals[path] = (before[0] + mean, before[1] + square)
        count += 1
    _backend.dispose(step)
    by_key = {_name(layer): layer for layer in layers}
    for key, (mean, square) in totals.items():
        _assign(by_key[key], mean / count, square / count)
    return len(totals)


def check_readable_again(model: Any, data: Any) -> None:
    """Raise a ValueError if statistics are to be measured on data that scores have used up."""
    if hasattr(data, "__next__") and any(map(_is_measured, _keras.all_layers(model))):
        raise ValueError(
            "`data` must be readable more than once to measure batch normalization anew after the "
            "cut. Received: an iterator. Pass arrays, a PyDataset or a tf.data.Dataset."
        )


def _is_measured(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _inputs(model: Any) -> list:
    return _keras.function_of(model).inputs


def _name(layer: Any) -> str:
    return str(id(layer))


def _step(model: Any) -> Callable:
    @_backend.without_gradients
    def step(x: list) -> dict[str, tuple]:
        found: dict[str, list[tuple]] = {}

        def call(visited: _keras.Call) -> Any:
            layer = visited.operation
            if not _is_measured(layer):
                return _keras.run(visited)
            x = _keras.first_input(visited)
            moments = _moments(layer, x, _keras.mask_of(visited, x))
            found.setdefault(_name(layer), []).append(moments)
            return _keras.run(visited, training=True)

        _keras.walk(model, x, call)
        return {name: _mean(moments) for name, moments in found.items()}

    return step


def _mean(moments: list[tuple]) -> tuple:
    """Average the moments of all calls of a shared layer."""
    return tuple(sum(each) / len(moments) for each in zip(*moments, strict=True))


def _moments(layer: Any, x: Any, mask: Any) -> tuple[Any, Any]:
    """Return the mean of the input and of its square a channel, where the mask is true."""
    axis = layer.axis % len(x.shape)
    others = tuple(i for i in range(len(x.shape)) if i != axis)
    x = ops.cast(x, "float32") if keras.backend.standardize_dtype(x.dtype) != "float64" else x
    moments = x, ops.square(x)
    if mask is None:
        return tuple(ops.mean(each, axis=others) for each in moments)
    counts = ops.expand_dims(ops.cast(mask, "bool"), -1)  # as the layer itself takes a mask
    share = ops.maximum(ops.mean(ops.cast(counts, x.dtype)), keras.config.epsilon())
    return tuple(ops.mean(ops.where(counts, each, 0), axis=others) / share for each in moments)


def _assign(layer: Any, mean: Any, square: Any) -> None:
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(ops.maximum(square - ops.square(mean), 0))
