"""Origins: the call that a report comes from, and the environment it was made in."""

from __future__ import annotations

import datetime
import functools
import inspect
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import keras
import numpy

from prune_keras import _backend
from prune_keras.reporting.parts import Origin

_PATH = re.compile(r"(?:Posix|Windows)Path\(('[^']*'|\"[^\"]*\")\)")  # also within records
_PLAIN = (str, int, float, bool, type(None), Path)


def origin(call: str) -> Origin:
    """Return where a report comes from that is made now."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return Origin(call, {**_environment(), "made": now})


@functools.cache
def _environment() -> dict[str, str]:
    """Return versions, backend and processor by name."""
    backend = keras.backend.backend()
    version = getattr(sys.modules.get(backend), "__version__", "")
    return {
        "prune_keras": sys.modules["prune_keras"].__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {version}".strip(),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "system": platform.platform(),
        "processor": _processor(),
        "devices": ", ".join(_backend.devices()),
    }


def _processor() -> str:
    """Return the processor's name; Python knows it on some systems only."""
    cpus = Path("/proc/cpuinfo")
    lines = cpus.read_text(errors="replace").splitlines() if cpus.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def call_of(name: str, function: Any, given: Mapping[str, Any], named: tuple[str, ...] = ()) -> str:
    """Return a call as Python, without the arguments that are as by default.

    Args:
        name: what is called.
        function: the function or class, whose signature tells the defaults.
        given: argument -> value.
        named: arguments for which a variable of their name stands. Defaults to none.

    Example:

    >>> def prune(model, target=None, data=None, seed=None): ...
    >>> given = {"model": object(), "target": {"flops": 0.5}, "data": object(), "seed": None}
    >>> call_of("prune", prune, given, named=("model",))
    "prune(model, target={'flops': 0.5}, data=...)"
    """
    parameters = inspect.signature(function).parameters
    told = [
        f"{each}={_told(value)}"
        for each, value in given.items()
        if each in parameters and each not in named
        if not _same(value, parameters[each].default)
    ]
    return f"{name}({', '.join([*named, *told])})"


def _same(value: Any, default: Any) -> bool:
    """Tell whether a value is the default; arrays would answer one by one."""
    return value is default or (
        type(value) is type(default) and _is_plain(value) and value == default
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or _is_record(value)


def _is_record(value: Any) -> bool:
    """Tell whether a value is a record of this library, whose `repr` makes it again."""
    known = is_dataclass(value) and type(value).__module__.startswith("prune_keras.")
    return known and not isinstance(value, keras.callbacks.Callback) and _all_plain(vars(value))


def _all_plain(values: Mapping[str, Any]) -> bool:
    return all(map(_is_plain, values.values()))


def _told(value: Any) -> str:
    if _is_plain(value):
        return _PATH.sub(r"\1", repr(value))
    name = getattr(value, "__name__", None)
    return str(name) if isinstance(name, str) and name.isidentifier() else "..."
