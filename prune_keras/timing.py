"""Timing: how long a model takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from keras import ops, tree

from prune_keras import _backend, _keras
from prune_keras.samples.drawing import draw, sample_shapes
from prune_keras.tracing.walk import given_shapes
from prune_keras.validation import check_count


def latency(
    model: Any,
    batch_size: int = 1,
    repeats: int = 20,
    input_shape: tuple[int, ...] | None = None,
) -> float:
    """Measure the time of one forward pass of the compiled model, in milliseconds.

    The time is the median of several calls on the same random samples, until the outputs are there;
    three calls before them, which compile and warm up, do not count.

    Args:
        model: a built functional or Sequential model; it is not changed.
        batch_size: number of samples. Defaults to 1.
        repeats: number of calls. Defaults to 20.
        input_shape: shape of one sample, without the batch, for a model that leaves sizes open; a
            list of one shape an input where there are several. Defaults to the model's own.

    Raises:
        ValueError: if sizes stay open, the model asks for another batch, or this machine cannot
            run it.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> 0 < prune_keras.latency(model) < 1000
    True
    """
    _keras.check_model(model)
    check_count("batch_size", batch_size)
    check_count("repeats", repeats)
    shapes = sample_shapes(model)
    if input_shape is not None:
        shapes = given_shapes(shapes, input_shape)
    _check_sizes(model, shapes, batch_size)
    _keras.check_runs(model)
    samples = draw(model, shapes, batch_size)
    step = _backend.without_gradients(lambda x: model(x, training=False))
    with _keras.unmoved(model), _keras.passing(step, model) as function:
        times = [_time(function, samples) for _ in range(3 + repeats)]
    return 1000 * statistics.median(times[3:])


def _time(function: Callable, samples: Any) -> float:
    begun = time.perf_counter()
    for output in tree.flatten(function(samples)):
        ops.convert_to_numpy(output)
    return time.perf_counter() - begun


def _check_sizes(model: Any, shapes: list[tuple], batch_size: int) -> None:
    for tensor, shape in zip(_keras.graph_of(model).inputs, shapes, strict=True):
        if None in shape:
            raise ValueError(
                "Latency needs an input of known sizes. Received: "
                f"{model.name!r} with an input of shape {tuple(tensor.shape)}. "
                "Pass input_shape=, or build the model with the sizes that it is to run at."
            )
        if tensor.shape[0] not in (None, batch_size):
            raise ValueError(
                "Latency is measured on batches that the model takes. Received: "
                f"batch_size={batch_size}, for {model.name!r}, which was built for batches of "
                f"{tensor.shape[0]}. Pass batch_size={tensor.shape[0]}."
            )
