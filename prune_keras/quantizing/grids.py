"""Grids: values as eight bits hold them, with gradients as if they were not rounded."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

Range = tuple[float, float]

LEVELS = 127  # of weights on each side of zero


def weights(kernel: Any, reduced: tuple[int, ...]) -> Any:
    """Return a kernel on a grid that is symmetric about zero, one for each output channel.

    Args:
        kernel: the tensor.
        reduced: its axes but those of output channels.
    """
    step = ops.max(ops.abs(ops.stop_gradient(kernel)), reduced, keepdims=True) / LEVELS
    step = ops.where(step > 0, step, ops.ones_like(step))
    apart = ops.round(kernel / step) * step - kernel
    return kernel + ops.stop_gradient(apart)  # the gradient is that of the kernel


def activations(x: Any, within: Range) -> Any:
    """Return activations on the grid of 256 values that holds a range and zero.

    Within the range the gradient is that of the values themselves, beyond it zero.
    """
    step = step_of(within)
    low = -round(-within[0] / step) * step  # so that zero is on the grid
    held = ops.clip(x, low, low + 255 * step)
    apart = ops.floor((held - low) / step + 0.5) * step + low - held
    return held + ops.stop_gradient(apart)


def converters(x: Any, within: Range) -> Any:
    """Return the same by the operation that LiteRT's converter reads grids from."""
    return ops.cast(keras.quantizers.fake_quant_with_min_max_vars(x, *within), x.dtype)


def range_of(low: float, high: float) -> Range:
    """Return a range that holds values between two numbers, and zero."""
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    return (low, high) if high > low else (0.0, 1.0)


def step_of(within: Range) -> float:
    """Return how far neighbours on the grid of a range are apart.

    Example:

    >>> step_of((0.0, 255.0))
    1.0
    """
    return float(np.float32(within[1]) - np.float32(within[0])) / 255
