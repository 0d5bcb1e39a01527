"""State that is compiled into training steps, and is no part of a model."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops


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


def masked(variable: keras.Variable, mask: Any) -> Any:
    """Return what a variable holds, multiplied by a mask, in the dtype that it is read in."""
    value = ops.convert_to_tensor(variable.value)
    return value * ops.cast(mask, value.dtype)
