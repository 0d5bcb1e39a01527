"""Private Keras, drawing: random numbers that are known beforehand, for a call that is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src import backend


@contextlib.contextmanager
def drawing_evenly(own: Callable[[], bool], backwards: bool = False) -> Iterator[list[str]]:
    """Let Keras draw numbers within that no seed tells, and that no seed is moved by.

    Uniform ones are spread evenly, the least one first, so that some are dropped, and some kept,
    by any threshold. Dropout of a symbolic tensor multiplies it with what was drawn.

    Args:
        own: tells whether the code that runs at the moment is the one that is meant.
        backwards: whether the largest one comes first.

    Yields:
        A list that grows with each draw.
    """
    drawn: list[str] = []

    def uniform(
        run: Callable, shape: Any, minval: Any = 0.0, maxval: Any = 1.0, *args: Any, **kwargs: Any
    ) -> Any:
        if not own():
            return run(shape, minval, maxval, *args, **kwargs)
        drawn.append("uniform")
        places = np.arange(np.prod(shape, dtype=int))
        spread = (places[::-1] + 0.999 if backwards else places) / max(len(places), 1)
        dtype = kwargs.get("dtype") or (args[0] if args else None) or keras.config.floatx()
        numbers = minval + (maxval - minval) * spread.reshape(shape)
        return ops.convert_to_tensor(numbers, dtype=dtype)

    def dropout(
        run: Callable, inputs: Any, rate: float, noise_shape: Any = None, seed: Any = None
    ) -> Any:
        if not own() or not isinstance(inputs, keras.KerasTensor):
            return run(inputs, rate, noise_shape=noise_shape, seed=seed)
        sizes = [None] * len(inputs.shape) if noise_shape is None else noise_shape
        shape = [s or t for s, t in zip(sizes, inputs.shape, strict=True)]
        kept = ops.cast(keras.random.uniform(shape) >= rate, inputs.dtype)
        return ops.multiply(inputs, kept / (1 - rate))

    def seed(run: Callable, *args: Any, **kwargs: Any) -> Any:
        if not own():
            return run(*args, **kwargs)
        drawn.append("seed")
        numbers = [len(drawn), int(backwards)]
        return ops.convert_to_tensor(numbers, dtype=backend.random_seed_dtype())

    with contextlib.ExitStack() as held:
        for owner, name, instead in (
            (backend.random, "uniform", uniform),
            (backend.random, "dropout", dropout),
            (backend.random, "draw_seed", seed),
            (keras.random.SeedGenerator, "next", seed),
        ):
            held.enter_context(_instead(owner, name, instead))
        yield drawn


@contextlib.contextmanager
def _instead(owner: Any, name: str, function: Callable) -> Iterator[None]:
    run = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: function(run, *args, **kwargs))
    try:
        yield
    finally:
        setattr(owner, name, run)
