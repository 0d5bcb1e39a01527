"""Checks of what rules hand over: a wrong one raises where it is made, with the layer's name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def check_found(visit: Any, found: Any, known: int) -> None:
    """Raise a ValueError unless a rule returned ids that fit the outputs of its call.

    Args:
        visit: the call.
        found: what the rule returned.
        known: how many ids there are.
    """
    several = isinstance(found, list)
    for ids, shape in zip(found if several else [found], visit.shapes, strict=False):
        if not isinstance(ids, np.ndarray) or ids.dtype.kind != "i":
            _raise_found(visit, shape, f"{type(ids).__name__} {ids!r:.60}")
        if not _fits(ids.shape, shape):
            _raise_found(visit, shape, f"ids of shape {ids.shape}")
        if ids.size and not 0 <= ids.min() <= ids.max() < known:
            _raise_found(visit, shape, f"ids {ids.ravel()[:8]}, which the tracer has not given out")


def _fits(found: tuple, shape: tuple) -> bool:
    return len(found) == len(shape) and all(
        size in (1, wanted) for size, wanted in zip(found, shape, strict=True)
    )


def _raise_found(visit: Any, shape: tuple, received: str) -> None:
    raise ValueError(
        f"The rule of {_named(visit.path, visit.operation)} must return an integer array of ids "
        f"for each output, here of rank {len(shape)} and along each axis as long as the output or "
        f"1. Received: {received} for an output of shape {shape}, without the batch. Ids along one "
        "axis are laid out by `visit.output(ids, axis)`."
    )


def check_weight(visit: Any, variable: Any, axes: dict[int, np.ndarray], reads: Iterable) -> None:
    """Raise a ValueError unless ids fit the axes of a variable."""
    shape = tuple(variable.shape)
    for axis, ids in axes.items():
        if not -len(shape) <= axis < len(shape):
            _raise_weight(visit, variable, f"axis {axis}")
        if np.shape(ids) != (shape[axis],):
            _raise_weight(visit, variable, f"ids of shape {np.shape(ids)} for axis {axis}")
    if not {*reads} <= {*axes}:
        _raise_weight(visit, variable, f"reads={tuple(reads)} and no ids along these axes")


def _raise_weight(visit: Any, variable: Any, received: str) -> None:
    raise ValueError(
        f"The rule of {_named(visit.path, visit.operation)} must give one id for each entry along "
        f"an axis of its weight {variable.name!r} of shape {tuple(variable.shape)}. "
        f"Received: {received}."
    )


def check_setting(owner: Any, name: str, value: Callable) -> None:
    """Raise a ValueError unless an attribute is there and its new value is a function."""
    if not hasattr(owner, name) or not callable(value):
        kind = type(owner).__name__
        raise ValueError(
            "A setting must be an attribute of its owner, with a function of what is kept that "
            f"returns its new value. Received: {name!r} of {_named(_name(owner), owner)}, "
            f"value={value!r}." + ("" if hasattr(owner, name) else f" {kind} has no {name!r}.")
        )


def _named(name: str, operation: Any) -> str:
    return f"{name!r} ({type(operation).__name__})"


def _name(owner: Any) -> str:
    return getattr(owner, "name", "an operation")
