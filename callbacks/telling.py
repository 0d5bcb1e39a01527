"""Telling: what a fit tells of its rounds, on the screen, to TensorBoard, and in the report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prune_keras import processes
from prune_keras.callbacks.board import Board, folder_of
from prune_keras.callbacks.diary import Diary
from prune_keras.callbacks.display import Display
from prune_keras.reporting.parts import Training
from prune_keras.rounds.course import Course
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round, line
from prune_keras.rounds.stopwatch import Shown


class Telling:
    """A diary, a display and a board, told of the same things.

    Args:
        verbose: how much is shown; see `Display`.

    Attributes:
        diary: what was logged.
    """

    def __init__(self, verbose: int) -> None:
        self._display = Display(verbose)
        self.diary, self._board = Diary(), Board()

    def begin(self, folder: str | Path | None, callbacks: Iterable[Any], goes_on: bool) -> None:
        """Tell that a fit begins, the first one of its model or one that goes on."""
        self._board = Board(folder_of(folder, callbacks) if processes.is_first() else None)
        self.diary = self.diary if goes_on else Diary()

    def cut(self, course: Course, monitor: str, share: float) -> None:
        """Tell of the round that a cut opened, in an epoch of which a share is over."""
        opened = course.open[-1]
        self.diary.cut(opened.number, share)
        self._board.cut(opened, course.spread, course.layers, monitor)

    def phases(self, batch: int) -> Shown:
        """Return what shows the phases of a cut; within an epoch, the line is that of the bar."""
        return contextlib.nullcontext if batch else self._display.phase

    def epoch(self, logs: Mapping[str, Any]) -> None:
        """Tell of the end of an epoch."""
        self.diary.end_epoch(logs)

    def end(self, ended: list[Round], course: Course, judge: Judge) -> None:
        """Tell of rounds that were judged."""
        self.diary.end(ended)
        self._board.end(ended, judge.monitor)
        for done in ended:
            self._display.say(line(done, course.original, judge))
            self._display.widths(course.widths, done.widths)

    def flush(self) -> None:
        """Show what waits, as the bar of an epoch has come to its end."""
        self._display.flush()

    def close(self) -> None:
        """Show what waits, as a fit ends."""
        self._display.flush()
        self._board.close()

    def training(self, judge: Judge, rounds: Iterable[Round]) -> Training:
        """Return what a report tells of the fits."""
        return self.diary.training(judge, rounds)
