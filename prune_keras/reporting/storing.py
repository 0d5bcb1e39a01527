"""Storing: records as JSON, and back again with every value checked."""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from prune_keras.plan import Plan


@dataclass(frozen=True)
class _Plan:
    """A plan as it is stored."""

    kept: Mapping[str, tuple[int, ...]]
    widths: Mapping[str, int]


def encoded(value: Any) -> Any:
    """Return records, tuples and dictionaries as dictionaries, lists, strings and numbers."""
    if isinstance(value, Plan):
        return value.to_dict()
    if is_dataclass(value):
        return {each.name: encoded(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encoded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encoded(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def decoded(kind: Any, value: Any, where: str) -> Any:
    """Return what `encoded` made of something of a kind.

    Args:
        kind: a record, `int`, `float`, `str`, `bool`, `None`, or tuples, mappings or unions of
            such.
        value: what stands in its place.
        where: what it is called in errors.

    Raises:
        ValueError: if it is something else.

    Example:

    >>> decoded(tuple[int, ...], [1, 2], "sizes")
    (1, 2)
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Plan:
        stored = _record(_Plan, value, where)
        return Plan(stored.kept, stored.widths)
    if is_dataclass(kind):
        return _record(kind, value, where)
    if origin in (typing.Union, types.UnionType):
        return _either(inner, value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(decoded(inner[0], each, f"{where}[{n}]") for n, each in enumerate(value))
    if origin in (Mapping, dict) and isinstance(value, dict):
        return {key: decoded(inner[1], each, f"{where}[{key!r}]") for key, each in value.items()}
    if not (isinstance(kind, type) and _is(kind, value)):
        raise ValueError(f"`{where}` must be {_named(kind)}. Received: {value!r:.60}.")
    return float(value) if kind is float else value


def _either(kinds: tuple, value: Any, where: str) -> Any:
    """Return the value as the only one of several kinds that it can be."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(each for each in kinds if each is not type(None))
    last = kinds[-1]
    for each in kinds[:-1]:
        if _is(each, value):
            return value
    return decoded(last, value, where)


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"`{where}` must be {_named(kind)}. Received: {value!r:.60}.")
    hints = _hints(kind)
    unknown = [name for name in value if name not in hints]
    if unknown:
        raise ValueError(f"`{where}` must have known entries only. Received: {unknown}.")
    for each in fields(kind):
        needed = each.default is MISSING and each.default_factory is MISSING
        if needed and each.name not in value:
            raise ValueError(f"`{where}` must hold {each.name!r}. Received: {list(value)}.")
    return kind(**{n: decoded(hints[n], each, f"{where}.{n}") for n, each in value.items()})


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is(kind: Any, value: Any) -> bool:
    """Tell whether a value is of a plain kind; True and False are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _named(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
