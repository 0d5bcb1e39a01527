"""ScoreHistory: record scores while `model.fit` runs, without cutting anything."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from prune_keras import _keras, criteria, processes
from prune_keras.callbacks.copying import Copied
from prune_keras.callbacks.progressive_pruning import ProgressivePruning
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.samples.batches import Samples, check_batch_size
from prune_keras.samples.inputs import check_data
from prune_keras.scoring import check_needs, score_graph
from prune_keras.tracing import trace
from prune_keras.validation import check_count

SUFFIXES = (".npz", ".csv")


@dataclass(eq=False, repr=False)
class ScoreHistory(Copied, keras.callbacks.Callback):
    """Record the scores of all neurons before training and at the end of epochs.

    It changes nothing. Beside a `ProgressivePruning`, units stay at their place in the model that
    pruning began with, and those that are gone have NaN from then on.

    Args:
        criteria: names of criteria, or what else `prune_keras.criteria.get` takes; one, or several
            of different names. Defaults to `"l2"`.
        every: number of epochs from one record to the next. Defaults to 1.
        data: samples for data-driven criteria; see `prune_keras.score`. Losses are weighted by its
            sample weights, or else by the `class_weight` of `fit`. Defaults to None.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: that of `fit`, or 32 where `fit` is given batches.
        seed: seed of what a criterion draws, the same in each record. Defaults to None: different
            each time.
        file: `.npz` or `.csv` to write as `fit` ends; see `save`. Defaults to None: no file.

    Attributes:
        epochs: number of epochs that were trained before each record, over all fits; 0 for the one
            before training.
        scores: name of the criterion -> path of the layer -> `(records, units)` scores.

    Raises:
        ValueError: at construction or before the first batch, if an argument is out of range, or a
            criterion needs data or a loss that are not there.

    Example:

    >>> import keras, numpy as np
    >>> from prune_keras.callbacks import ScoreHistory
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> history = ScoreHistory(["l1", "l2"], every=2)
    >>> fitted = model.fit(
    ...     np.ones((8, 4)), np.ones((8, 2)), epochs=4, callbacks=[history], verbose=0
    ... )
    >>> history.epochs, history.scores["l2"]["a"].shape
    ([0, 2, 4], (3, 3))
    """

    criteria: Any = "l2"
    every: int = 1
    data: Any = None
    seed: int | None = None
    file: str | Path | None = None
    data_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__init__()
        several = isinstance(self.criteria, Sequence) and not isinstance(self.criteria, str)
        chosen = [criteria.get(each) for each in (self.criteria if several else [self.criteria])]
        self._criteria = {criterion.__name__: criterion for criterion in chosen}
        if not chosen or len(self._criteria) < len(chosen):
            raise ValueError(
                "`criteria` must be one criterion, or several of different names. "
                f"Received: criteria={self.criteria!r}."
            )
        check_count("every", self.every)
        check_batch_size(self.data_batch_size)
        if self.file is not None:
            _check_suffix(self.file)
        self.epochs: list[int] = []
        self._samples: Any = None
        self._records: list[dict[str, dict[str, np.ndarray]]] = []
        self._trained = 0
        self._fitted: Callable[[], Any] = lambda: None
        self._pruning: ProgressivePruning | None = None
        self._widths: Mapping[str, int] = {}

    @property
    def scores(self) -> dict[str, dict[str, np.ndarray]]:
        """Name of the criterion -> path of the layer -> `(records, units)` scores."""
        if not self._records:
            return {name: {} for name in self._criteria}
        return {
            name: {path: np.stack([r[name][path] for r in self._records]) for path in paths}
            for name, paths in self._records[0].items()
        }

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        for criterion in self._criteria.values():
            check_needs(self.model, criterion, self.data)
        graph = trace(self.model)
        if self.data is not None:
            check_data(self.data, _keras.graph_of(self.model).inputs, 1)
        fit = _keras.running_fit(self.model)
        size = self.data_batch_size or fit.batch_size
        self._samples = Samples.of(self.data, size, fit.class_weight)
        found = [each for each in fit.callbacks if isinstance(each, ProgressivePruning)]
        self._pruning = found[0] if found else None
        if self._fitted() is not self.model:
            self._start_over(graph)
            self._record(graph)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._trained += 1
        if self._trained % self.every == 0:
            self._record(trace(self.model))

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self.file is not None and processes.is_first():
            self.save(self.file)

    def save(self, file: str | Path) -> None:
        """Write all records.

        Args:
            file: a `.npz` with `epochs` and, as `criterion/path`, `(records, units)` arrays, or a
                `.csv` with a row for each record, criterion, layer and unit that is there.
        """
        file = Path(file)
        _check_suffix(file)
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".csv":
            with file.open("w", newline="", encoding="utf-8") as written:
                csv.writer(written).writerows([_HEADER, *self._rows()])
            return
        arrays = {f"{n}/{path}": a for n, each in self.scores.items() for path, a in each.items()}
        # The type says that a name may be that of another argument; these have a slash.
        np.savez_compressed(file, epochs=np.array(self.epochs), **arrays)  # type: ignore[arg-type]

    def _rows(self) -> Iterator[tuple]:
        for name, paths in self.scores.items():
            for path, records in paths.items():
                for record, unit in np.argwhere(np.isfinite(records)).tolist():
                    yield self.epochs[record], name, path, unit, float(records[record, unit])

    def _start_over(self, graph: Graph) -> None:
        self._fitted = weakref.ref(self.model)
        self._widths = self._original(graph)
        self._trained, self.epochs, self._records = 0, [], []

    def _original(self, graph: Graph) -> Mapping[str, int]:
        """Return the widths that a pruning of this model counts from, if one has begun before."""
        if self._pruning is not None and self._pruning.rounds:
            plan = self._pruning.report.plan
            if graph.widths.items() <= plan.new_widths.items():
                return plan.widths
        return graph.widths

    def _record(self, graph: Graph) -> None:
        plan, cuts = self._kept(graph), 0 if self._pruning is None else len(self._pruning.rounds)
        self.epochs.append(self._trained)
        scored = {
            name: score_graph(self.model, graph, criterion, self._samples, self.seed, cuts)
            for name, criterion in self._criteria.items()
        }
        self._records.append({name: self._placed(each, plan) for name, each in scored.items()})

    def _kept(self, graph: Graph) -> Plan:
        """Return what is left of the model that records began with."""
        if graph.widths == dict(self._widths):
            return Plan.everything(self._widths)
        if self._pruning is None:
            raise ValueError(
                "The model must keep its widths, or be cut by a ProgressivePruning in the same "
                f"fit. Received: widths {graph.widths}, while records began with {self._widths}. "
                "Take a new ScoreHistory."
            )
        plan = self._pruning.report.plan
        plan.check_fits(self._widths)
        return plan

    def _placed(self, scores: Mapping[str, np.ndarray], plan: Plan) -> dict[str, np.ndarray]:
        placed = {path: np.full(width, np.nan) for path, width in self._widths.items()}
        for path, values in scores.items():
            if path in placed:
                placed[path][plan.kept[path]] = values
        return placed


_HEADER = ("epoch", "criterion", "path", "unit", "score")


def _check_suffix(file: str | Path) -> None:
    if Path(file).suffix not in SUFFIXES:
        raise ValueError(f"`file` must end in one of {SUFFIXES}. Received: file={str(file)!r}.")
