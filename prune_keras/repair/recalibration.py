"""Recalibration: measure batch normalization's statistics anew after a cut."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from prune_keras import _backend, _keras
from prune_keras.samples.batches import batches, is_read_once, number_of_batches
from prune_keras.samples.inputs import fixed_size, flat_inputs, joined
from prune_keras.samples.moments import exact, mask_rows, merged, moments_of, rows_of

LEAST = 32  # values for a mean and a variance to normalize by


def recalibrate(model: Any, data: Any, steps: int | None = None) -> int:
    """Set moving means and variances to those of some batches; frozen layers stay as they are.

    Each layer's input is measured while all layers normalize by their batch. Its mean and variance
    are those of all positions of all samples together, without those that are masked, whatever
    the sizes of the batches; all calls of a shared layer count. Where a layer would normalize by
    fewer than 32 values, as of a last batch of one sample, batches are joined to have as many,
    unless the model leaves other sizes open or has a fixed batch size.

    Args:
        model: a built functional or Sequential model; changed in place.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        steps: number of batches to look at, at most. Defaults to None: as many as hold 1,280
            samples.

    Returns:
        The number of layers measured.
    """
    layers = {_name(layer): layer for layer in _keras.all_layers(model) if _is_measured(layer)}
    if not layers:
        return 0
    _keras.check_runs(model)
    inputs = _keras.graph_of(model).inputs
    read = batches(data, fixed_size=fixed_size(inputs), whole=False)
    flat = joined((flat_inputs(inputs, x) for x, _, _ in read), _least(model), steps)
    most = number_of_batches(data, fixed_size(inputs)) if steps is None else steps
    found = merged(_step(model), model, flat, calls=most)
    seen = {name: moments for name, moments in found.items() if moments.count}
    for name, moments in seen.items():
        _assign(layers[name], moments)
    return len(seen)


def _assign(layer: Any, moments: Any) -> None:
    layer.moving_mean.assign(moments.mean)
    layer.moving_variance.assign(moments.variance.clip(0))


def check_readable_again(model: Any, data: Any) -> None:
    """Raise a ValueError if statistics are to be measured on data that scores have used up."""
    if is_read_once(data) and any(map(_is_measured, _keras.all_layers(model))):
        raise ValueError(
            "`data` must be readable more than once to measure batch normalization anew after the "
            "cut. Received: an iterator. Pass arrays, a PyDataset or a tf.data.Dataset."
        )


def _is_measured(layer: Any) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable


def _name(layer: Any) -> str:
    return str(id(layer))


def _step(model: Any) -> Callable:
    @_backend.without_gradients
    def step(x: list) -> dict[str, list[tuple]]:
        found: dict[str, list[tuple]] = {}

        def call(visited: _keras.Call) -> Any:
            layer = visited.operation
            if not _is_measured(layer):
                return _keras.run(visited)
            x = _keras.first_input(visited)
            mask = mask_rows(_keras.mask_of(visited, x), x, layer.axis)
            rows = rows_of(exact(x), layer.axis)
            found.setdefault(_name(layer), []).append(_moments(layer, rows, mask))
            return _keras.run(visited, training=True)

        _keras.walk(model, x, call)
        return found

    return step


def _moments(layer: Any, rows: Any, mask: Any) -> tuple[Any, ...]:
    """Return moments of rows; a layer may have a variance of its own, that of ranges say."""
    count, mean, scatter, left = moments_of(rows, mask)
    own = getattr(layer, "variance_of", None)
    return count, mean, scatter if own is None else count * own(rows), left


def _least(model: Any) -> int:
    """Return of how many samples a batch must be so that each layer sees enough values."""
    inputs = _keras.graph_of(model).inputs
    if any(tensor.shape[0] is not None or None in tensor.shape[1:] for tensor in inputs):
        return 1  # such batches cannot be joined
    found = [1]

    def call(visited: _keras.Call) -> list:
        if _is_measured(visited.operation):
            shape = _keras.first_input(visited).shape
            values = math.prod(size or 1 for size in shape[1:]) // shape[visited.operation.axis]
            found.append(-(-LEAST // values))
        return visited.node.outputs

    _keras.walk(model, inputs, call)
    return max(found)
