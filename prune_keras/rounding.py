"""Rounding: numbers that Keras logs in float32, compared with those that a user writes."""

from __future__ import annotations

DIGITS = 2.0**-22  # twice the distance from 1 to the next float32


def at_most(value: float, most: float, scale: float = 0.0) -> bool:
    """Tell whether a value is at most another one, but for the last digits of float32.

    Args:
        value: the value.
        most: what it may be at most.
        scale: the largest number that one of the two was computed from. Defaults to 0: none.

    Example:

    >>> logged = 0.30000001192092896  # 0.3 in float32
    >>> logged <= 0.3, at_most(logged, 0.3), at_most(0.30001, 0.3)
    (False, True, False)
    """
    return value <= most or value - most <= DIGITS * max(abs(value), abs(most), abs(scale))


def at_least(value: float, least: float, scale: float = 0.0) -> bool:
    """Tell whether a value is at least another one, but for the last digits of float32."""
    return at_most(-value, -least, scale)
