"""Several devices at once: every batch is split among them."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import Any


def scope(count: int = 1) -> AbstractContextManager:
    """Return a context in which models are made and compiled for several devices.

    Fit them outside of it.

    Args:
        count: number of GPUs, or where there is none, of logical CPU devices, which must have been
            set up before. One device needs no context.

    Raises:
        ValueError: if there are fewer devices.
    """
    return contextlib.nullcontext() if count == 1 else _strategy(count).scope()


@functools.cache
def _strategy(count: int) -> Any:
    """Return the one strategy for so many devices: variables of two cannot be mixed."""
    import tensorflow as tf

    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    there = [device.name for device in tf.config.list_logical_devices(kind)]
    if not 1 <= count <= len(there):
        raise ValueError(
            f"There must be as many devices as are asked for. Received: devices={count}, while "
            f"TensorFlow sees {len(there)} of kind {kind}. Ask for fewer."
        )
    return tf.distribute.MirroredStrategy(there[:count])
