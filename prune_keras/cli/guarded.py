"""Guarded: a model that a command was handed is read by a process that may not take much, first.

A file can be made such that a library of C breaks over it, or that it takes all memory or time. So
it is read twice: by a child that is allowed so much and no more, and if that lived, by the command.
The child is a fork, which has imported all there is to import, and costs little beside reading.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SPARE = 2 * 2**30
"""Bytes beside what the process has already, for libraries and their threads."""
TIMES = 12
"""Bytes for each one of the file."""
SECONDS = 60
"""Of the processor, and one more for each megabyte of the file."""

_may_fork = False


@contextlib.contextmanager
def forks() -> Iterator[None]:
    """Let files be read by a child first: in a process that has run nothing of a backend yet.

    Linux only. Elsewhere a file is checked as in Python, and then read.
    """
    global _may_fork
    _may_fork = sys.platform == "linux"
    try:
        yield
    finally:
        _may_fork = False


def read_model(path: Path, compile: bool = False, others: Sequence[Path] = ()) -> Any:
    """Return the model of a file; see `prune_keras.models.networks.read_model`.

    Args:
        path: the file.
        compile: whether it is compiled as it was when it was saved. Defaults to False.
        others: what the command reads after it. Once a backend has run, a process cannot be forked
            any more. Defaults to none.

    Raises:
        ValueError: if Keras cannot read it, or reading it takes too much memory or time, or breaks.
    """
    from prune_keras.models import networks

    global _may_fork
    if _may_fork:
        for each in filter(Path.is_file, (path, *others)):
            _try(each, compile and each == path)
    _may_fork = False
    return networks.read_model(path, compile)


def _try(path: Path, compile: bool) -> None:
    """Read a file in a child, and raise a ValueError if that did not come to its end."""
    read, write = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _read_and_exit(path, compile, write)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        message = told.read().decode("utf-8", "replace")
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if message:
        raise ValueError(message)
    if ended:
        raise ValueError(
            "A model must be readable with the memory and time that its size asks for. Received: "
            f"model='{path}', over which a process came to its end that was allowed "
            f"{_memory(path) / 2**30:.1f} GB more memory and {_seconds(path)} seconds "
            f"({_reason(ended)}). If you trust it, load it in Python, with Keras."
        )


def _reason(ended: int) -> str:
    return f"exit code {ended}" if ended > 0 else signal.Signals(-ended).name


def _memory(path: Path) -> int:
    return SPARE + TIMES * path.stat().st_size


def _seconds(path: Path) -> int:
    return SECONDS + path.stat().st_size // 2**20


def _read_and_exit(path: Path, compile: bool, write: int) -> None:
    """Read a file within limits; write what is wrong with it, if it can be told."""
    ended = 1
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        _limit(path)
        signal.alarm(10 * _seconds(path))
        from prune_keras.models import networks

        networks.read_model(path, compile)
        ended = 0
    except ValueError as error:
        os.write(write, str(error).encode("utf-8", "backslashreplace"))
    finally:
        os._exit(ended)


def _limit(path: Path) -> None:
    import resource

    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[5])
    for kind, most in (
        (resource.RLIMIT_DATA, used + _memory(path)),
        (resource.RLIMIT_CPU, _seconds(path)),
        (resource.RLIMIT_CORE, 0),
    ):
        allowed = resource.getrlimit(kind)[1]
        most = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(kind, (most, allowed))
