"""What a run leaves in its folder: tables, settings and pictures, written with plain names."""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

import prune_keras
from prune_keras import Report, atomic, plots
from prune_keras.models.fingerprints import described

if TYPE_CHECKING:
    from prune_keras.callbacks import ProgressivePruning
    from prune_keras.rounds.round import Round

Row = dict[str, Any]
"""One row of a table: a value by column."""

DRAWN = ("val_accuracy", "neurons", "params", "flops")


class Recorder(keras.callbacks.Callback):
    """Collects the logs of every epoch, with its wall time and what the model costs.

    Put it after the callbacks that add to the logs.

    Args:
        phase: what the epochs are called in the table, e.g. `"prune"`.
        path: CSV file that is written anew after every epoch. Defaults to `None`: none.

    Example:

    >>> recorder = Recorder("dense")
    >>> recorder.rows
    []
    """

    def __init__(self, phase: str, path: Path | None = None):
        super().__init__()
        self.phase = phase
        self.path = path
        self.rows: list[Row] = []

    def add_start(self, model: Any, accuracy: float) -> None:
        """Add a row for the network as it is before the first epoch."""
        row = {"phase": "start", "epoch": 0, "seconds": 0.0, "val_accuracy": accuracy}
        self.rows.append(row | dataclasses.asdict(prune_keras.cost(model)))

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._mark = time.perf_counter()

    def on_backup(self) -> list[Row]:
        """Return the rows so far, for a run that goes on after its process died."""
        return self.rows

    def on_resume(self, rows: list[Row]) -> None:
        """Go on after these rows."""
        self.rows = rows

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        now = time.perf_counter()
        row = {"phase": self.phase, "epoch": epoch + 1, "seconds": round(now - self._mark, 2)}
        # A round that is judged in this epoch may be undone by now; its cost stands in the logs.
        cost = dataclasses.asdict(prune_keras.cost(self.model))
        self.rows.append(row | cost | {name: float(value) for name, value in (logs or {}).items()})
        if self.path is not None:
            write_table(self.path, self.rows)
        self._mark = time.perf_counter()


def write_table(path: str | Path, rows: Sequence[Row]) -> None:
    """Write dictionaries as CSV; a value that a row lacks stays empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({key: _rounded(value) for key, value in row.items()} for row in rows)
    atomic.write_text(path, text.getvalue())


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, objects as `fingerprints.described` tells them."""
    atomic.write_json(path, value, described)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file as dictionaries of strings; none if it is not there."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json(path: str | Path) -> Any:
    return atomic.read_json(path)


def write_run(folder: Path, rows: list[Row], pairs: list[Row], history: list[Row]) -> None:
    """Write `results.csv`, `pairs.csv`, `history.csv` and `history.png`."""
    write_table(folder / "results.csv", rows)
    write_table(folder / "pairs.csv", pairs)
    write_table(folder / "history.csv", history)
    pruned = [row for row in history if row["phase"] in ("start", "prune", "fine-tune")]
    known = [name for name in DRAWN if all(row[name] not in ("", None) for row in pruned)]
    series = {name: [float(row[name]) for row in pruned] for name in known}
    plots.history(series, folder / "history.png", first=int(pruned[0]["epoch"]))


def write_pruning(folder: Path, pruning: ProgressivePruning) -> None:
    """Write `plan.json`, `rounds.json`, the report in all its forms, and the widths."""
    report = pruning.report
    report.plan.save(folder / "plan.json")
    write_json(folder / "rounds.json", [describe(round_) for round_ in pruning.rounds])
    atomic.write_text(folder / "report.txt", report.render() + "\n")
    report.save(folder / "report.json")
    report.to_html(folder / "report.html")
    write_table(folder / "widths.csv", width_rows(report))
    plots.widths(report, folder / "widths.png")


def write_outcomes(
    folder: Path,
    outcomes: Mapping[str, Mapping[str, float | None]],
    latency_ms: tuple[float | None, float | None] = (None, None),
) -> None:
    """Add to the report of a run what its networks came to at the end, and their latency.

    Args:
        folder: the run's folder.
        outcomes: name of a network -> what was measured of it, by name.
        latency_ms: of one image, before and after. Defaults to none.
    """
    report = Report.load(folder / "report.json").with_outcomes(outcomes)
    report = report.measured(latency_ms=latency_ms)
    report.save(folder / "report.json")
    report.to_html(folder / "report.html")


def describe(round_: Round) -> Row:
    """Return a round of pruning as plain numbers, without its plan."""
    return {name: value for name, value in round_.to_dict().items() if name != "plan"}


def width_rows(report: Report) -> list[Row]:
    """Return one row a layer: its name, its width before and after, and the share that is left."""
    return [
        {"layer": path, "before": before, "after": after, "kept": f"{after / before:.0%}"}
        for path, (before, after) in report.widths.items()
    ]


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
