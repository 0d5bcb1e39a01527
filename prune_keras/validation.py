"""Checks of what a user passes in, before any work is done."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import count
from typing import Any

import numpy as np


def named(argument: str, name: Any, known: Mapping[str, Any], instead: str) -> Any:
    """Return what a name stands for.

    Args:
        argument: the argument that it was passed as.
        name: the name.
        known: name -> what it stands for.
        instead: what else the argument may be.

    Raises:
        ValueError: if the name is unknown.
    """
    if isinstance(name, str) and name in known:
        return known[name]
    raise ValueError(
        f"`{argument}` must be one of {sorted(known)} or {instead}. Received: {argument}={name!r}."
    )


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number, truth values not among them."""
    number = isinstance(value, int | float | np.integer | np.floating)
    return number and not isinstance(value, bool) and math.isfinite(value)


def plain(value: Any) -> Any:
    """Return a number of NumPy as Python's, which has no bound and can be written as JSON."""
    return value.item() if isinstance(value, np.generic) else value


def check_share(name: str, value: Any, upto_one: bool = False) -> None:
    """Raise a ValueError unless the value is a share in (0, 1), or in (0, 1]."""
    if not is_number(value) or not (0 < value < 1 or (upto_one and value == 1)):
        bounds = "(0, 1]" if upto_one else "(0, 1)"
        raise ValueError(
            f"`{name}` must be a share in {bounds}. Received: {name}={value!r}. "
            "Write 0.5 for one half."
        )


def check_count(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a whole number of at least 1."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"`{name}` must be a whole number of at least 1. Received: {name}={value!r}."
        )


def check_seed(value: Any) -> None:
    """Raise a ValueError unless the value can seed random numbers, or is None."""
    if value is not None:
        check_whole("seed", value)


def check_number(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a finite number, or None."""
    if value is not None and not is_number(value):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}. Leave it out for none."
        )


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise a ValueError unless the value is one of several words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"`{name}` must be one of {choices}. Received: {name}={value!r}.")


def check_whole(name: str, value: Any) -> None:
    """Raise a ValueError unless the value is a whole number of at least 0."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 0:
        raise ValueError(
            f"`{name}` must be a whole number of at least 0. Received: {name}={value!r}."
        )


def check_positive(name: str, value: Any, zero: bool = False) -> None:
    """Raise a ValueError unless the value is a finite number above 0, or of at least 0."""
    if not is_number(value) or value < 0 or (value == 0 and not zero):
        bound = "of at least 0" if zero else "above 0"
        raise ValueError(f"`{name}` must be a finite number {bound}. Received: {name}={value!r}.")


def fitting(pattern: str, paths: Collection[str]) -> list[str]:
    """Return the path that is exactly the pattern, or else all that fit it.

    Example:

    >>> fitting("block*", ["block1", "block2", "head"]), fitting("head", ["head", "head[1]"])
    (['block1', 'block2'], ['head'])
    """
    return [pattern] if pattern in paths else [p for p in paths if fnmatchcase(p, pattern)]


def free_name(name: str, endings: Sequence[str], taken: Collection[str]) -> str:
    """Return a name that gives no taken one with any ending: the name, or it with a number.

    Example:

    >>> free_name("gate", ["", "_relu"], {"gate_relu"}), free_name("gate", ["", "_relu"], {"a"})
    ('gate_1', 'gate')
    """
    numbered = (f"{name}_{number}" if number else name for number in count())
    return next(each for each in numbered if not {each + end for end in endings} & {*taken})


def agree(shape: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Tell whether two shapes can be of one tensor, where None stands for any size.

    Example:

    >>> agree((None, 4), (8, 4)), agree((None, 4), (8, 5)), agree((None,), (8, 4))
    (True, False, False)
    """
    sizes = zip(shape, other, strict=False)
    return len(shape) == len(other) and all(a == b or None in (a, b) for a, b in sizes)
