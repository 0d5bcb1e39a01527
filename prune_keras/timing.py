"""Timing: how long a model takes on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from keras import ops, tree

from prune_keras import _backend, _keras
from prune_keras.validation import check_count


def latency(model: Any, batch_size: int = 1, repeats: int = 20) -> float:
    """Measure the time of one forward pass of the compiled model, in milliseconds.

    The time is the median of several calls on the same random samples, until the outputs are there;
    three calls before them, which compile and warm up, do not count.

    Args:
        model: a built functional or Sequential model of known sizes; it is not changed.
        batch_size: number of samples. Defaults to 1.
        repeats: number of calls. Defaults to 20.

    Raises:
        ValueError: if the model leaves sizes open.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> 0 < prune_keras.latency(model) < 1000
    True
    """
    _keras.check_model(model)
    check_count("batch_size", batch_size)
    check_count("repeats", repeats)
    _check_sizes(model)
    samples = tree.map_structure(
        lambda sample: ops.repeat(sample, batch_size, axis=0), _keras.sample_inputs(model)
    )
    step = _backend.without_gradients(lambda x: model(x, training=False))
    with _keras.passing(step, model) as function:
        times = [_time(function, samples) for _ in range(3 + repeats)]
    return 1000 * statistics.median(times[3:])


def _time(function: Callable, samples: Any) -> float:
    begun = time.perf_counter()
    for output in tree.flatten(function(samples)):
        ops.convert_to_numpy(output)
    return time.perf_counter() - begun


def _check_sizes(model: Any) -> None:
    for tensor in _keras.function_of(model).inputs:
        if None in tensor.shape[1:]:
            raise ValueError(
                "Latency needs an input of known sizes. Received: "
                f"{model.name!r} with an input of shape {tuple(tensor.shape)}. "
                "Build the model with the sizes that it is to run at."
            )
