"""What each network of a folder was made of, so that it never passes for that of another run.

The record of `dense.keras` is `dense.json`: it is written before the network is made, and once more
when it is there, with digests of the files that belong to it. Versions are written down, too, but a
network may be gone on with by other ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras

import prune_keras
from prune_keras import atomic, backups
from prune_keras.differing import differing
from prune_keras.models import fingerprints, records

if TYPE_CHECKING:
    from prune_keras.models.settings import Settings

# Settings that decide nothing of a network.
IDLE = ("verbose", "baseline", "devices", "validation_batch_size", "backup_every")
BEFORE = ("head_epochs", "dense_epochs", "dense_learning_rate")
AFTER = ("epochs", "learning_rate")
PRUNED = ("fine_tune_epochs", "samples", "pruning")
UNDECIDED = {"dense": AFTER + PRUNED, "trained_on": BEFORE + PRUNED, "pruned": BEFORE}
BACKUP = "backup"
PRUNING_FILES = ("report.txt", "rounds.json", "widths.csv")


@dataclasses.dataclass(frozen=True)
class Origin:
    """What a network is to be made of.

    Args:
        file: where it lies, or will lie.
        made_of: name -> what decides the network, as JSON gives it back.
        beside: names of the files that are made with it and read again.
        begun: folder from which making it goes on after an interruption. Defaults to None: none.
    """

    file: Path
    made_of: dict
    beside: tuple[str, ...]
    begun: Path | None = None

    @property
    def is_there(self) -> bool:
        """Whether the network, or a part of the way to it, lies in the folder."""
        begun = self.begun is not None and bool(backups.written(self.begun))
        return self.file.exists() or begun

    @property
    def record(self) -> Path:
        """The file that says what the network was made of."""
        return self.file.with_suffix(".json")

    def begin(self) -> None:
        """Write down what the network will be made of, and by which versions."""
        versions = {"prune_keras": prune_keras.__version__, "keras": keras.__version__}
        made_by = versions | {"backend": keras.backend.backend()}
        atomic.write_json(self.record, {"made_of": self.made_of, "made_by": made_by})

    def finish(self) -> None:
        """Write down, too, which files belong to the network, unless that is there already."""
        stored = records.read_json(self.record)
        if "files" not in stored:
            files = {name: self._digest(name) for name in (self.file.name, *self.beside)}
            atomic.write_json(self.record, stored | {"files": files})

    def objection(self) -> str | None:
        """Return why the network that is there cannot be gone on with; `None` if it can."""
        if not self.record.exists():
            return f"whose {self.file.name} has no {self.record.name} to say what it was made of"
        try:
            stored = records.read_json(self.record)
            before, files = dict(stored["made_of"]), dict(stored.get("files", {}))
        except (ValueError, KeyError, TypeError, AttributeError):
            return f"whose {self.record.name} is damaged"
        then, now = differing({name: before.get(name) for name in self.made_of}, self.made_of)
        if then or now:
            return f"whose {self.file.name} was made with {then}, but now is {now}"
        changed = [name for name, held in files.items() if held != self._digest(name)]
        return f"where {', '.join(changed)} changed since the run wrote it" if changed else None

    def _digest(self, name: str) -> str | None:
        return fingerprints.of_file(self.file.with_name(name))


def clear(origin: Origin, overwrite: bool = False) -> None:
    """Make sure that a network, if it is there, was made as it would be now.

    Args:
        origin: an `Origin`.
        overwrite: whether one that was made otherwise is deleted. Defaults to False.

    Raises:
        ValueError: if it was made otherwise, and is not to be deleted.
    """
    objection = origin.objection() if origin.is_there else None
    if objection and not overwrite:
        raise ValueError(
            "A folder holds the runs of one dense network. Received: output="
            f"'{origin.file.parent}', {objection}. Choose another folder, or have "
            f"{origin.file.name} deleted and made anew (overwrite=True, --overwrite)."
        )
    if objection:
        origin.file.unlink(missing_ok=True)
        origin.record.unlink(missing_ok=True)
        if origin.begun is not None:
            backups.delete(origin.begun)


def of_network(
    data: dict[str, str], network: dict[str, str], settings: Settings, output: Path, name: str
) -> Origin:
    """Return what the network of a name is made of, as the folder is now."""
    undecided = (*IDLE, *UNDECIDED[name])
    chosen = {n: v for n, v in vars(settings).items() if n not in undecided}
    start = {"dense": fingerprints.of_file(output / "dense.keras")}
    made_of = fingerprints.of_value(chosen) | data | (network if name == "dense" else start)
    log = f"{name}.csv"
    beside = (log, *PRUNING_FILES) if name == "pruned" else (log,)
    begun = output / BACKUP if name == "pruned" else None
    return Origin(output / f"{name}.keras", made_of, beside, begun)


def check_fits(dense: Origin) -> None:
    """Raise a ValueError, before anything is deleted, for a network that cannot be made again."""
    objection = dense.objection()
    if objection:
        raise ValueError(
            "A dense network that nothing can build again must be of this run. Received: "
            f"build=None with output='{dense.file.parent}', {objection}. Pass a function that "
            "builds one, or the data and settings that it was made with."
        )


def make(origin: Origin, build: Callable[[], None]) -> None:
    """Make a network if it is not there, and write down what it is made of."""
    if not origin.file.exists():
        origin.begin()
        build()
    origin.finish()
