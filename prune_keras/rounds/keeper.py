"""Keeper: what is left on disk of rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_keras import frontier
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
        return str(export(model, Path(self.models) / f"round-{number:03d}.keras"))

    def write(self, done: Sequence[Round], points: Sequence[frontier.Point]) -> None:
        """Write all rounds so far, and the frontier."""
        if self.log_dir is not None:
            write_rounds(done, Path(self.log_dir))
        if self.models is not None:
            frontier.write(points, Path(self.models))
