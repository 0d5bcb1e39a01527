"""Scores from weights alone: of the kernel that makes the units, or of what they pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from prune_keras import _keras
from prune_keras.criteria import BatchNormScale, Random
from prune_keras.graph import Producer
from prune_keras.samples.subject import Subject


def score_kernels(criterion: Callable, subject: Subject) -> dict[str, np.ndarray]:
    """Call a function of a kernel `(inputs, units)` for each layer."""
    return {p.path: _score_kernel(p, criterion) for p in subject.producers}


def _score_kernel(producer: Producer, criterion: Callable) -> np.ndarray:
    units = len(producer.neurons)
    kernel = ops.convert_to_numpy(producer.kernel.value)
    kernel = np.moveaxis(kernel, producer.axis, -1).reshape(-1, units)  # gates follow one another
    values = np.asarray(criterion(kernel), np.float64)
    if values.shape != (units,):
        raise ValueError(
            "A criterion must return one score a unit. Received: shape "
            f"{values.shape} for the {units} units of {producer.path!r}."
        )
    return values


def score_random(criterion: Random, subject: Subject) -> dict[str, np.ndarray]:
    rng = subject.rng(criterion.seed)
    return {p.path: rng.uniform(size=len(p.neurons)) for p in subject.producers}


def score_scales(criterion: BatchNormScale, subject: Subject) -> dict[str, np.ndarray]:
    """Average the scales that each neuron passes; its members share its score."""
    scales = defaultdict(list)
    gammas = _gammas(subject)
    for weight in subject.graph.weights:
        if id(weight.variable) in gammas:
            values = np.abs(ops.convert_to_numpy(weight.variable.value).astype(np.float64))
            for neuron, value in zip(weight.axes[0].tolist(), values.tolist(), strict=True):
                scales[neuron].append(value)
    return {p.path: _scales_of(p, scales) for p in subject.producers}


def _gammas(subject: Subject) -> set[int]:
    normalizations = (
        layer
        for layer in _keras.all_layers(subject.model)
        if isinstance(layer, keras.layers.BatchNormalization)
    )
    return {id(layer.gamma) for layer in normalizations if layer.scale}


def _scales_of(producer: Producer, scales: dict[int, list[float]]) -> np.ndarray:
    neurons = producer.neurons.tolist()
    without = [n for n, p in zip(neurons, producer.prunable, strict=True) if p and n not in scales]
    if without:
        raise ValueError(
            "The criterion 'bn_scale' needs a batch normalization with a scale behind every "
            f"prunable layer. Received: {producer.path!r}, where {len(without)} of {len(neurons)} "
            "units pass none. Use another criterion, such as 'l2'."
        )
    return np.array([np.mean(scales[n]) if n in scales else 0.0 for n in neurons])
