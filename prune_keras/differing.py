"""Differing: in what two descriptions differ, and how any object is described.

Descriptions are dictionaries, lists, texts and numbers, equal in another process, too.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def of_array(array: Any) -> str:
    """Return the shape, the type and a digest of all entries.

    Example:

    >>> of_array(np.zeros((2, 3), "uint8"))
    '2x3 uint8 3346a0d3f9b3a626'
    """
    array = np.asarray(array)
    shape = "x".join(map(str, array.shape))
    return f"{shape} {array.dtype} {digest(np.ravel(array).view('uint8'))}"


def described(value: Any) -> Any:
    """Return what JSON can hold of any other object; a `default` for `json.dumps`."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return of_array(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if dataclasses.is_dataclass(value):
        return {
            "class": name,
            **{f.name: getattr(value, f.name) for f in dataclasses.fields(value)},
        }
    if hasattr(value, "get_config"):
        return {"class": name, "config": value.get_config()}
    if hasattr(value, "__code__"):
        return _function(value)
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "__qualname__"):  # a built-in function
        return f"{value.__module__}.{value.__qualname__}"
    return {"class": name, **getattr(value, "__dict__", {})}


def _function(function: Any) -> list:
    """Return a function's name, what it does, and the values that it holds."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    name = f"{function.__module__}.{function.__qualname__}"
    owner = getattr(function, "__self__", None)
    further = function.__kwdefaults__, None if owner is None else _state(owner)
    defaults = [function.__defaults__, *(each for each in further if each)]
    return [name, _code(function.__code__), cells, *defaults]


def _state(owner: Any) -> str:
    """Return what the object of a method holds; its class alone if it leads back to itself."""
    try:
        return json.dumps(owner, default=described, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return type(owner).__qualname__


def _code(code: Any) -> str:
    inner = [_code(c) if hasattr(c, "co_code") else _constant(c) for c in code.co_consts]
    return digest(repr((code.co_code, code.co_names, inner)).encode())


def _constant(value: Any) -> str:
    # The order of a set is another one in each process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def shapes_of(data: Any) -> Any:
    """Return types and shapes of arrays, and the type of what else holds data.

    Example:

    >>> shapes_of((np.zeros((2, 3)), {"y": np.zeros(2, int)}, iter([])))
    ['float64 of shape (2, 3)', {'y': 'int64 of shape (2,)'}, 'list_iterator']
    """
    if isinstance(data, list | tuple):
        return [shapes_of(each) for each in data]
    if isinstance(data, dict):
        return {str(name): shapes_of(each) for name, each in data.items()}
    if isinstance(data, np.ndarray):
        return f"{data.dtype} of shape {data.shape}"
    return type(data).__name__


def differing(before: dict, now: dict) -> tuple[dict, dict]:
    """Return the entries in which two dictionaries differ, as each of them has them.

    Example:

    >>> differing({"seed": 0, "pruning": {"a": 1, "b": 2}}, {"seed": 0, "pruning": {"a": 1}})
    ({'pruning': {'b': 2}}, {'pruning': {}})
    """
    names = [n for n in {**before, **now} if n not in before or n not in now or before[n] != now[n]]
    then = {name: before[name] for name in names if name in before}
    new = {name: now[name] for name in names if name in now}
    for name in names:
        if isinstance(then.get(name), dict) and isinstance(new.get(name), dict):
            then[name], new[name] = differing(then[name], new[name])
    return then, new


def digest(content: Any) -> str:
    """Return a short text that other bytes do not have."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
