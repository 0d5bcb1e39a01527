"""Diary: what a fit logged, epoch by epoch, and where in it rounds began and ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import keras

from prune_keras.reporting.parts import Cut, Training
from prune_keras.rounds.judge import Judge
from prune_keras.rounds.round import Round


class Diary:
    """The epochs of all fits of one model, counted on from fit to fit."""

    def __init__(self) -> None:
        self._epochs: list[dict[str, float]] = []
        self._cuts: dict[int, float] = {}
        self._ends: dict[int, float] = {}

    def to_dict(self) -> dict[str, Any]:
        """Return all notes as lists, texts and numbers."""
        return {
            "epochs": self._epochs,
            "cuts": [*self._cuts.items()],
            "ends": [*self._ends.items()],
        }

    def resume(self, stored: Mapping[str, Any]) -> None:
        """Go on after what `to_dict` returned."""
        self._epochs = [*stored["epochs"]]
        self._cuts, self._ends = dict(stored["cuts"]), dict(stored["ends"])

    def cut(self, number: int, share: float) -> None:
        """Note where a round begins: in the epoch that runs, a share of which is over."""
        self._cuts[number] = len(self._epochs) + share

    def end_epoch(self, logs: Mapping[str, Any]) -> None:
        """Note the numbers that an epoch ends with."""
        numbers = {name: _number(value) for name, value in logs.items()}
        self._epochs.append({n: value for n, value in numbers.items() if value is not None})

    def end(self, rounds: Iterable[Round]) -> None:
        """Note that rounds were judged after the last epoch."""
        self._ends |= {each.number: float(len(self._epochs)) for each in rounds}

    def training(self, judge: Judge, rounds: Iterable[Round]) -> Training:
        """Return what a report tells of the fits."""
        cuts = (
            Cut(
                each.number,
                self._cuts[each.number],
                self._ends.get(each.number, float(len(self._epochs))),
                each.kept,
                each.metric_before,
                each.metric_cut,
            )
            for each in rounds
            if each.number in self._cuts
        )
        told = judge.monitor, judge.mode, judge.bound
        return Training(*told, tuple(map(dict, self._epochs)), tuple(cuts))


def _number(value: Any) -> float | None:
    """Return a metric as a number; None for one that is several, or none."""
    try:
        return float(keras.ops.convert_to_numpy(value).reshape(()))
    except (TypeError, ValueError):
        return None
