"""Backing up: a fit that is written down while it goes on, and goes on after its process died."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from prune_keras import _keras, processes
from prune_keras.backups import Backup, Kept, Store, check
from prune_keras.callbacks.counting import count_on, counts
from prune_keras.differing import described, shapes_of
from prune_keras.surgery import trained_variables
from prune_keras.teaching.described import taught_by

_IDLE = ("verbose", "log_dir", "keep_rounds", "backup_dir", "tensorboard")
_APART = ("data", "teacher")


class BackingUp:
    """Writes one fit of a `ProgressivePruning`, and finds what an earlier process wrote of it.

    Args:
        backup: where and how often; None for never.
        number: which fit of the callback it is, 1 for the first. Defaults to 0: none yet.

    Attributes:
        kept: the backup that the fit goes on from; None if it begins anew.
    """

    def __init__(self, backup: Backup | None = None, number: int = 0) -> None:
        self.number = number
        self.kept: Kept | None = None
        self._backup = backup
        self._store = None if backup is None else Store(Path(backup.folder), number)
        self._now: dict[str, Any] = {}
        self._fit = _keras.Fit()
        self._random: Any = None  # as the epoch began
        self._start: str | None = None  # what is written down of it once
        self._begun, self._written = False, 0

    def find(self, pruning: Any, fit: Any) -> Kept | None:
        """Look for a backup of this fit, and return it.

        Raises:
            ValueError: if it is of another model or call, or of a newer format, or none is whole.
        """
        self._fit = fit
        if self._store is not None:
            self._now = _description(pruning, fit)
            found = self._store.newest()
            processes.check_same(
                None if found is None else found.file.name,
                "All processes must find the same backup.",
                "Let `backup_dir` be one folder that all of them see.",
            )
            if found is not None:
                check(found, self._now)
            self.kept = found
        return self.kept

    def start_of(self) -> dict[str, Any] | None:
        """Return what the fit began with in an earlier process; None if it begins.

        Raises:
            ValueError: if it is not what was written.
        """
        if self.kept is None or self._store is None:
            return None
        self._start = self.kept.state.get("start")
        return None if self._start is None else self._store.start(self._start)

    def keep_start(self, values: Mapping[str, Any]) -> None:
        """Write down what the fit begins with, unless an earlier process did."""
        first = processes.is_first()
        if self._store is not None and self.kept is None and values and first:
            self._start = self._store.write_start(values)

    def start(self, model: Any) -> None:
        """Let the fit begin where the backup was written."""
        if self.kept is None or self._backup is None:
            return
        epoch = self.kept.state["epoch"]
        if self._backup.replay and self._fit.batches is not None and not self.is_ended:
            _keras.replay(self._fit.batches, epoch - self._fit.initial_epoch)
        _keras.begin_at(model, epoch)
        _keras.on_failure(model, lambda: _keras.begin_at(model, None))

    @property
    def is_ended(self) -> bool:
        """Whether the fit was at its end already in an earlier process, and has no more epochs."""
        return self.kept is not None and self.kept.state["is_ended"] and not self._begun

    def begin_epoch(self, pruning: Any, epoch: int) -> bool:
        """Write a backup as an epoch begins, or come to where the last one was written.

        Returns:
            Whether the epoch goes on in its midst.
        """
        first, self._begun, self._written = not self._begun, True, 0
        if self.kept is not None and first:
            return self._go_on(pruning.model, self.kept)
        if not first:
            self._write(pruning, epoch, 0)
        return False

    def epoch_begun(self) -> None:
        """Remember the random numbers that the order of the epoch's data is drawn from."""
        if self._store is not None:
            self._random = _keras.random_state()

    def begin_batch(self, pruning: Any, epoch: int, batch: int) -> None:
        """Write a backup within an epoch, if one is due."""
        every = None if self._backup is None else self._backup.every
        is_known = self._fit.batches is not None  # in a loop of another make it is not
        if is_known and every is not None and batch - self._written >= every:
            self._write(pruning, epoch, batch)
            self._written = batch

    def end(self, pruning: Any) -> None:
        """Write what the fit came to."""
        _keras.begin_at(pruning.model, None)
        if self.is_ended and self.kept is not None:
            count_on(self._fit.callbacks, self.kept.state["callbacks"])
            _keras.set_random_state(self.kept.state["random"])  # what comes next draws as it did
        elif self._store is not None:
            self._write(pruning, pruning.params.get("epochs", 0), 0, is_ended=True)
        self.forget()

    def forget(self) -> None:
        """Let go of what the fit was given."""
        self._fit = _keras.Fit()

    def _write(self, pruning: Any, epoch: int, batch: int, is_ended: bool = False) -> None:
        if self._store is None:
            return
        state = {**self._now, "epoch": epoch, "batch": batch, "is_ended": is_ended}
        state |= {
            "start": self._start,
            "random": _keras.random_state(),
            "random_of_epoch": self._random,
        }
        state |= {"callbacks": counts(self._fit.callbacks), **pruning.to_dict()}
        values = pruning.values()
        if batch:
            held = enumerate(pruning.model.metrics_variables)
            values |= {f"metric/{n}": keras.ops.convert_to_numpy(v.value) for n, v in held}
        if processes.is_first():
            self._store.write(state, values)

    def _go_on(self, model: Any, kept: Kept) -> bool:
        _keras.begin_at(model, None)
        state, batch = kept.state, kept.state["batch"]
        count_on(self._fit.callbacks, state["callbacks"])
        if not batch:
            _keras.set_random_state(state["random"])
            return False
        self._written = batch
        _keras.set_random_state(state["random_of_epoch"])
        _keras.skip(self._fit.batches, batch, lambda last: _go_on_within(model, kept, last))
        return True


def _go_on_within(model: Any, kept: Kept, last: Any) -> None:
    """Let metrics and random numbers be what they were, after batches that are left out."""
    _keras.build_metrics(model, last)
    for number, variable in enumerate(model.metrics_variables):
        variable.assign(kept.values[f"metric/{number}"])
    _keras.set_random_state(kept.state["random"])


def _description(pruning: Any, fit: Any) -> dict[str, Any]:
    """Return what a backup must have in common with what goes on from it, as JSON gives it back."""
    model = pruning.model
    fields = type(pruning).__dataclass_fields__
    names = [name for name in fields if name not in (*_IDLE, *_APART)]
    told = {
        "weights": {each.path: _weight(each) for each in model.weights},
        "variables": len(trained_variables(model)),
        "layers": {each.name: _layer(each) for each in _keras.all_layers(model)},
        "call": {name: getattr(pruning, name) for name in names},
        "teacher": taught_by(pruning.teacher),
        "data": shapes_of(pruning.data),
        "fit": {"batches": pruning.params.get("steps"), "batch_size": fit.batch_size},
        "optimizer": _layer(getattr(model, "optimizer", None)),
        "backend": keras.backend.backend(),
    }
    return json.loads(json.dumps(told, default=described))


def _weight(variable: Any) -> str:
    return f"{variable.dtype} of shape {tuple(variable.shape)}"


def _layer(layer: Any) -> Any:
    """Return class and config of a layer or an optimizer, those of parts of it aside."""
    if layer is None or getattr(layer, "layers", None):
        return type(layer).__name__
    try:
        config: Mapping = layer.get_config()
        told = json.loads(json.dumps(config, default=described))
    except Exception:  # of an own class, whose code may not be able to tell
        return type(layer).__name__
    return {"class": type(layer).__name__, **{k: v for k, v in told.items() if k != "name"}}
