"""Backups: what a run needs to go on, in files that are whole or not there, the two newest of them.

A backup is an `.npz` file: arrays, and one text of JSON beside them. Its name ends in a digest of
what it holds. Nothing in it is code.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_keras import arrays, atomic
from prune_keras.differing import described, differing
from prune_keras.text import printable
from prune_keras.validation import check_count

FORMAT = 1
"""Rises when older versions cannot read what this one writes."""
KEPT = 2
_STATE = "state"
_NAME = re.compile(r"fit-(\d+)-(\d+)-([0-9a-f]{16})\.npz")


@dataclass(frozen=True)
class Backup:
    """Where a run is written down while it goes on, and how often.

    Args:
        folder: the folder, of one run alone; made if it is not there.
        every: batches from one write to the next within an epoch; a write takes as long as one of
            the model with its optimizer's state. Defaults to None: at each epoch's end.
        replay: whether a run that goes on reads the batches of the epochs that were done again, to
            have the same order of data from there. Pass False where reading takes long and a run
            need not end as it would have. Defaults to True.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> Backup("backup", every=100).replay
    True
    """

    folder: str | Path
    every: int | None = None
    replay: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str | Path) or not str(self.folder):
            raise ValueError(
                "A backup must have a folder. Received: "
                f"backup_dir={self.folder!r}. Write backup_dir='backup'."
            )
        if self.every is not None:
            check_count("every", self.every)

    @classmethod
    def of(cls, given: Any) -> Backup | None:
        """Return the backup for an argument: a folder, a `Backup`, or None."""
        return given if given is None or isinstance(given, Backup) else cls(given)


@dataclass(frozen=True)
class Kept:
    """What a backup holds.

    Args:
        file: the backup.
        state: lists, texts and numbers.
        values: name -> array.
    """

    file: Path
    state: dict[str, Any]
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Store:
    """The backups of one `fit` in a folder.

    Args:
        folder: the folder.
        fit: which `fit` of the same callback it is, 1 for the first.
    """

    folder: Path
    fit: int

    def write(self, state: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> Path:
        """Write a backup, and delete all but the newest two.

        Raises:
            OSError: if the disk is full, say; all older backups are whole then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **state}, default=described).encode()
        held = {_STATE: np.frombuffer(text, np.uint8), **values}
        number = 1 + max(map(_number, self._files()), default=0)
        start = f"fit-{self.fit}-{number:06}"
        with atomic.written(self.folder / start, lambda f: f"{start}-{_digest(f)}.npz") as file:
            arrays.write(file, held)
        *older, new = self._files()
        for old in older[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        return new

    def write_start(self, values: Mapping[str, np.ndarray]) -> str:
        """Write what a run began with and never changes, once; return the file's name.

        Raises:
            OSError: if the disk is full, say.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        start = f"start-{self.fit}"
        for left in self.folder.glob(f"{start}-*.npz"):
            left.unlink(missing_ok=True)  # of a run of which no backup is left
        with atomic.written(self.folder / start, lambda f: f"{start}-{_digest(f)}.npz") as file:
            arrays.write(file, values)
        return max(self.folder.glob(f"{start}-*.npz")).name

    def start(self, name: str) -> dict[str, np.ndarray]:
        """Return what `write_start` wrote under a name.

        Raises:
            ValueError: if it is not what was written.
        """
        file = self.folder / Path(name).name
        try:
            return _values(file, file.stem.rpartition("-")[2])
        except _Damaged as error:
            raise ValueError(
                "What a run began with must be whole to go on. Received: "
                f"{printable(file)} ({printable(error)}). Delete the folder to begin anew."
            ) from error

    def newest(self) -> Kept | None:
        """Return the newest backup that is whole; damaged ones are named in a warning.

        Raises:
            ValueError: if there are backups, of which none is whole.
        """
        for start in (f".fit-{self.fit}-", f".start-{self.fit}."):
            for left in self.folder.glob(f"{start}*{atomic.PARTIAL}"):
                left.unlink(missing_ok=True)  # of a process that was killed as it wrote
        damaged = []
        for file in reversed(self._files()):
            try:
                return _read(file)
            except _Damaged as error:
                damaged.append(f"{file.name} ({error})")
                warnings.warn(
                    f"The backup {printable(file)} is damaged, and the one before it is used: "
                    f"{printable(error)}.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if damaged:
            raise ValueError(
                "One backup must be whole to go on from. Received: "
                f"{printable(self.folder)} with {printable(', '.join(damaged))}. "
                "Delete the folder to begin anew."
            )
        return None

    def _files(self) -> list[Path]:
        """Return the backups, oldest first."""
        found = [each for each in self.folder.glob("fit-*.npz") if _NAME.fullmatch(each.name)]
        mine = [each for each in found if _fit(each) == self.fit]
        return sorted(mine, key=_number)


_WRITTEN = re.compile(
    r"(fit-\d+-\d+|start-\d+)-[0-9a-f]{16}\.npz|"
    rf"\.(fit-\d+-\d+|start-\d+)\.\d+{re.escape(atomic.PARTIAL)}"
)


def written(folder: Path) -> list[Path]:
    """Return what runs wrote into a folder as backups, those that were being written, too."""
    return [each for each in folder.glob("*") if each.is_file() and _WRITTEN.fullmatch(each.name)]


def delete(folder: Path) -> None:
    """Delete backups, and the folder of them unless something else lies in it."""
    for file in written(folder):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def check(kept: Kept, now: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a backup is of a known format, and of what goes on now.

    Args:
        kept: the backup.
        now: name -> description, of the model and of the call.
    """
    written = kept.state.get("format")
    if written != FORMAT:
        raise ValueError(
            f"A backup must be of format {FORMAT}, which this version of prune_keras reads. "
            f"Received: {printable(kept.file)} of format {printable(written)}. Go on with the "
            "version that wrote it, or delete it to begin anew."
        )
    then, new = differing({name: kept.state.get(name) for name in now}, dict(now))
    if then or new:
        found = _leaves(then, new)
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ValueError(
            "A backup must be of the same model and the same call. Received: "
            f"{printable(kept.file)}, written with other values: "
            f"{printable('; '.join(found[:SHOWN]))}{more}. "
            "Choose another folder, or delete this one to begin anew."
        )


SHOWN = 3
"""Differences that a message shows."""


def _leaves(then: Any, now: Any, name: str = "") -> list[str]:
    """Return a line for each difference."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [f"{name} was {_text(then)}, now {_text(now)}"]
    names = dict.fromkeys([*then, *now])
    return [
        line
        for each in names
        for line in _leaves(then.get(each, _MISSING), now.get(each, _MISSING), f"{name} {each}")
    ]


_MISSING = "missing"


def _text(value: Any) -> str:
    text = value if value is _MISSING else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


class _Damaged(Exception):
    """A file is not what was written."""


def _values(file: Path, digest: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file that holds what its digest tells."""
    try:
        with open(file, "rb") as opened:
            found = _digest(opened)
    except OSError as error:
        raise _Damaged(error) from error
    if found != digest:
        raise _Damaged("it does not hold what was written")
    try:
        return arrays.read(file)
    except ValueError as error:
        raise _Damaged(error) from error


def _read(file: Path) -> Kept:
    values = _values(file, _match(file)[3])
    try:
        state = json.loads(values.pop(_STATE).tobytes())
    except (ValueError, KeyError, RecursionError) as error:
        raise _Damaged(error) from error
    if not isinstance(state, dict):
        raise _Damaged("it holds no state")
    return Kept(file, state, values)


def _digest(file: Any) -> str:
    file.seek(0)
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _match(file: Path) -> Any:
    return _NAME.fullmatch(file.name)


def _fit(file: Path) -> int:
    return int(_match(file)[1])


def _number(file: Path) -> int:
    return int(_match(file)[2])
