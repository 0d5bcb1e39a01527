"""The frontier: what a model could be at each size that pruning came by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prune_keras import atomic, strangers
from prune_keras.accounting import METRICS, Cost
from prune_keras.rounding import at_least, at_most
from prune_keras.text import printable

FILE = "frontier.json"


@dataclass(frozen=True)
class Point:
    """The model at the end of one round, or before the first.

    Args:
        number: the round, 1 for the first; 0 for the model at its start.
        kept: False if the round was undone.
        metric: the monitored metric; None if it was not measured.
        cost: what the model cost.
        widths: path of the layer -> number of units.
        file: where the model is kept; None if it is not. Defaults to None.
        latency_ms: its measured latency; None if it was not measured. Defaults to None.
    """

    number: int
    kept: bool
    metric: float | None
    cost: Cost
    widths: dict[str, int]
    file: str | None = None
    latency_ms: float | None = None

    def load(self) -> Any:
        """Return the model of this round, read from its file; it is not compiled.

        Raises:
            ValueError: if it was not kept on disk.
        """
        if self.file is None:
            raise ValueError(
                f"The model of round {self.number} must be on disk to be read. Received: no file. "
                "Pass keep_rounds=FOLDER; of rounds of batches, the last one of an epoch is kept."
            )
        return strangers.load_model(self.file)

    def to_dict(self) -> dict[str, Any]:
        """Return the point as numbers and strings."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Point:
        """Return the point that `to_dict` told of."""
        return cls(**{**stored, "cost": Cost(**stored["cost"])})


def pick(
    points: Iterable[Point],
    number: int | None = None,
    metric: float | None = None,
    mode: str = "max",
    by: str = "params",
) -> Point:
    """Return one point of a frontier.

    Args:
        points: the frontier.
        number: the round whose model to take.
        metric: instead, the worst metric allowed: of the models that hold it, those of rounds that
            were undone among them, the cheapest is taken.
        mode: one of `{"max", "min"}`: whether more or less of the metric is better. Defaults to
            `"max"`.
        by: what is cheapest: one of `{"params", "flops", "neurons", "weight_bytes",
            "activation_bytes"}`. Defaults to `"params"`.

    Raises:
        ValueError: if not one of `number` and `metric` is given, `mode` or `by` is unknown, no
            point fits, or the model leaves open what is to be cheapest.

    Example:

    >>> start = Point(0, True, 0.9, Cost(100, 10, 8), {"a": 8})
    >>> thin = Point(1, False, 0.8, Cost(50, 6, 4), {"a": 4})
    >>> pick([start, thin], metric=0.8).number, pick([start, thin], metric=0.85).number
    (1, 0)
    """
    points = list(points)
    if metric is not None and mode not in ("max", "min"):
        raise ValueError(f"`mode` must be one of ('max', 'min'). Received: mode={mode!r}.")
    if (number is None) == (metric is None) or by not in METRICS:
        raise ValueError(
            f"Pick by a round's number or by the worst metric, the cheapest by one of {METRICS}. "
            f"Received: number={number}, metric={metric}, by={by!r}."
        )
    fitting = [p for p in points if p.number == number or _holds(p.metric, metric, mode)]
    if not fitting:
        known = {p.number: p.metric for p in points}
        raise ValueError(
            f"A round must fit. Received: number={number}, metric={metric}, while the rounds and "
            f"their metrics are {known}."
        )
    if metric is not None and any(getattr(p.cost, by) is None for p in fitting):
        raise ValueError(
            f"The cheapest by {by!r} needs sizes that are known. Received: by={by!r}, while the "
            'model leaves them open. Take another measure, such as by="params".'
        )
    return min(fitting, key=lambda point: (getattr(point.cost, by), point.number))


def _holds(found: float | None, worst: float | None, mode: str) -> bool:
    if found is None or worst is None:
        return False
    return at_least(found, worst) if mode == "max" else at_most(found, worst)


def write(points: Sequence[Point], folder: Path) -> None:
    """Write a frontier beside its models."""
    stored = [p.to_dict() | {"file": p.file and Path(p.file).name} for p in points]
    atomic.write_json(folder / FILE, stored)


def read(folder: str | Path) -> list[Point]:
    """Return the frontier that `keep_rounds` left in a folder, wherever that lies now.

    Args:
        folder: the folder.

    Raises:
        ValueError: if there is no frontier.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise ValueError(
            f"The folder must hold a frontier. Received: {str(folder)!r} without {FILE}. "
            "Pass keep_rounds=FOLDER to ProgressivePruning to get one."
        )
    try:
        points = [Point.from_dict(stored) for stored in atomic.read_json(file)]
        for name in filter(None, (point.file for point in points)):
            strangers.check_name(name)
        return [replace(p, file=p.file and str(Path(folder) / p.file)) for p in points]
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(
            "A frontier must be one that `keep_rounds` wrote. Received: "
            f"{printable(file)} ({type(error).__name__}: {printable(error)}). Prune anew."
        ) from error


__all__ = ["Point", "pick", "read"]
