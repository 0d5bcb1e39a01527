"""Private Keras, positions: where a running `fit` is in its epochs and data, and to go there."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR, global_seed_generator

from prune_keras import _backend


def begin_at(model: Any, epoch: int | None) -> None:
    """Let the `fit` that just begins start at another epoch; None takes that back."""
    model._initial_epoch = epoch


def replay(batches: Any, epochs: int) -> None:
    """Read all batches of epochs, unused.

    Args:
        batches: what a `fit` takes its batches from, as `Fit` holds it.
        epochs: how many epochs.
    """
    for _ in range(epochs):
        # That data whose number is not known end is what Keras finds as it reads them first.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with batches.catch_stop_iteration():
                for _, _, source in batches._enumerate_iterator():
                    _read(batches, source)


def skip(batches: Any, number: int, then: Callable[[Any], None]) -> None:
    """Let the epoch that is about to begin leave its first batches out.

    Args:
        batches: what a `fit` takes its batches from.
        number: how many of them are read, unused.
        then: is called with the last of them.
    """
    whole = batches._enumerate_iterator

    def shortened() -> Iterator[tuple]:
        del batches._enumerate_iterator  # later epochs are whole
        for begin, end, source in whole():
            if begin >= number:
                yield begin, end, source
                continue
            last = _read(batches, source)
            if end + 1 >= number:
                then(last)

    batches._enumerate_iterator = shortened


def _read(batches: Any, source: Any) -> Any:
    read = [next(source) for _ in range(batches.steps_per_execution)]
    return read[-1]


def build_metrics(model: Any, batch: Any) -> None:
    """Let Keras make the metrics' variables, which it may do with the first step only."""
    made = model._compile_metrics
    if made is not None and not made.built:
        model._symbolic_build(data_batch=batch)


def random_state() -> dict[str, Any]:
    """Return the state of all random numbers that no object of the user's holds, as lists."""
    drawn = get_global_attribute(GLOBAL_SEED_GENERATOR)
    name, key, *rest = np.random.get_state(legacy=True)
    return {
        "python": _listed(random.getstate()),
        "numpy": [name, np.asarray(key).tolist(), *rest],
        "keras": None if drawn is None else _listed(keras.ops.convert_to_numpy(drawn.state.value)),
        "backend": _backend.random_state(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Bring back what `random_state` returned."""
    if state["keras"] is not None:
        global_seed_generator().state.assign(np.array(state["keras"]))
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    np.random.set_state(tuple(state["numpy"]))
    _backend.set_random_state(state["backend"])


def _listed(values: Any) -> list:
    plain = (v.item() if isinstance(v, np.generic) else v for v in values)
    return [list(v) if isinstance(v, tuple) else v for v in plain]
