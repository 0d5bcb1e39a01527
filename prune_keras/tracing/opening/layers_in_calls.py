"""Layers in calls: which can stand in a graph, and which work on a weight of each sample."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from keras import layers

from prune_keras import _keras
from prune_keras.tracing.opening.recording import Closed
from prune_keras.tracing.opening.steps import Step

# What works on the last axis, or on each entry, unless its arguments say otherwise.
_ON_LAST = (
    *(layers.Activation, layers.Dense, layers.Dropout, layers.Identity, layers.LeakyReLU),
    *(layers.LayerNormalization, layers.ReLU, layers.RMSNormalization),
)


def check_names(steps: list[Step]) -> None:
    """Raise unless the name of each layer is its own, as that of a path in a plan must be.

    Raises:
        Closed: naming what several layers are called.
    """
    called = {id(step.operation): step.operation for step in steps}
    names = Counter(each.name for each in called.values() if _keras.is_layer(each))
    for name, number in names.items():
        if number > 1:
            raise Closed(f"{number} of its layers are called {name!r}; give each its own name")


def is_on_last(layer: Any) -> bool:
    """Tell whether a layer does the same to a weight, however many axes stand before it."""
    function = getattr(layer, "activation", None)
    known = function is None or _keras.module_of(function).startswith("keras.")
    counts = getattr(layer, "noise_shape", None) is not None
    axes = np.atleast_1d(getattr(layer, "axis", -1)).tolist()
    return isinstance(layer, _ON_LAST) and known and not counts and axes == [-1]
