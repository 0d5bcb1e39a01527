"""State that is compiled into training steps, and is no part of a model."""

from __future__ import annotations

import keras
import numpy as np


def new_state(shape: tuple[int, ...], dtype: str, name: str) -> keras.Variable:
    """Return a variable of zeros, the same in all replicas."""
    return keras.Variable(
        np.zeros(shape, dtype),
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation="only_first_replica",
        name=name,
    )
