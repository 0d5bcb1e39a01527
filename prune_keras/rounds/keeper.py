"""Keeper: what is left on disk of rounds; of several processes, only the first one writes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_keras import frontier, processes
from prune_keras.exporting import export
from prune_keras.rounds.round import Round, write_rounds


@dataclass(frozen=True)
class Keeper:
    """Where rounds are written.

    Args:
        log_dir: folder for `rounds.json`, or None.
        models: folder for models and `frontier.json`, or None.
    """

    log_dir: str | Path | None
    models: str | Path | None

    def keep(self, model: Any, number: int) -> str | None:
        """Write the model at the end of a round, and return where."""
        if self.models is None:
            return None
        file = Path(self.models) / f"round-{number:03d}.keras"
        if processes.is_first():
            return str(export(model, file))
        with tempfile.TemporaryDirectory() as folder:  # what is computed takes all processes
            export(model, Path(folder) / file.name)
        return str(file)

    def write(self, done: Sequence[Round], points: Sequence[frontier.Point]) -> None:
        """Write all rounds so far, and the frontier."""
        if not processes.is_first():
            return
        if self.log_dir is not None:
            write_rounds(done, Path(self.log_dir))
        if self.models is not None:
            frontier.write(points, Path(self.models))
