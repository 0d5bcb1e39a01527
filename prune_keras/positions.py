"""Averages over the positions of activations."""

from __future__ import annotations

from typing import Any

from keras import ops


def mean_over_positions(values: Any) -> Any:
    """Average `(batch, positions, units)` over positions, to `(batch, units)` in float32.

    A product by ones: on a CPU, TensorFlow takes several times longer to sum over a middle axis. On
    a GPU it may round each value to eleven bits, so it is not for differences of averages.
    """
    values = ops.cast(values, "float32")
    count = ops.shape(values)[1]
    return ops.matmul(ops.ones((1, count)), values)[:, 0] / ops.cast(count, "float32")
