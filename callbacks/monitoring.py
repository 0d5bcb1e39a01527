"""Monitoring: in which epochs of a fit the monitored metric is there, and how to get it now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from prune_keras import _keras
from prune_keras.accounting import SIZES
from prune_keras.rounds.judge import Judge, missing

# What callbacks of Keras put into the logs of an epoch, and this package.
_LOGGED = ("learning_rate", *SIZES)


@dataclass(frozen=True)
class Monitoring:
    """How one fit measures a metric.

    Args:
        fit: what the fit was given.
        monitor: name of the metric in the logs.
    """

    fit: _keras.Fit
    monitor: str

    @property
    def validates(self) -> bool:
        """Whether the metric is one of validation."""
        return self.monitor.startswith("val_") and self.fit.validation is not None

    def check(self, model: Any, pruning: Any) -> None:
        """Raise a ValueError if the metric cannot be there, or does not measure what stays.

        Args:
            model: the model that is fitted.
            pruning: the callback that judges; another one that logs the metric stands before it.
        """
        logs = _keras.logs_of(model)
        name = self.monitor.removeprefix("val_")
        before = takewhile(lambda each: each is not pruning, self.fit.callbacks)
        if not self.fit.runs or (name not in logs.directions and any(map(_may_log, before))):
            return
        if self.monitor.startswith("val_") and not self.validates:
            raise ValueError(
                "There must be validation data to judge rounds by. Received: "
                f"monitor={self.monitor!r}, while fit has no validation_data. "
                "Pass validation_data or validation_split to fit, or monitor='loss'."
            )
        known = {*logs.directions, *_LOGGED, *(f"val_{each}" for each in logs.directions)}
        if logs.complete and self.monitor not in known:
            raise missing(self.monitor, self._names(logs.directions))
        if self.monitor in logs.directions and _keras.averages_of(model):
            raise ValueError(
                "Rounds must be judged by what stays, the averages of the weights that an "
                f"optimizer with use_ema=True keeps. Received: monitor={self.monitor!r}, which is "
                "measured on the weights in training. Pass a metric of validation, such as "
                f"monitor='val_{self.monitor}'."
            )

    def _names(self, names: Iterable[str]) -> list[str]:
        return [*names, *(f"val_{name}" for name in names if self.fit.validation is not None)]

    def directed(self, judge: Judge, model: Any) -> Judge:
        """Return the judge that knows whether more or less is better, if that can be known yet.

        Raises:
            ValueError: if it has to be told.
        """
        if judge.mode != "auto" or not judge.judges:
            return judge
        logs = _keras.logs_of(model)
        if not logs.complete and self.monitor.removeprefix("val_") not in logs.directions:
            return judge
        return judge.directed(_keras.direction(model, self.monitor))

    def ends(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 0, ends with the metric."""
        return not self.validates or self.fit.validates(epoch)

    def now(self, model: Any) -> float | None:
        """Measure a metric of validation now; None if that cannot be done, or it is none."""
        if not self.validates:
            return None
        value = self.fit.evaluate(model).get(self.monitor.removeprefix("val_"))
        return float(value) if isinstance(value, int | float) else None


def _may_log(callback: Any) -> bool:
    """Tell whether a callback may put a metric of its own into the logs of an epoch."""
    own = "on_epoch_end" in vars(callback)  # as LambdaCallback has it
    module = _keras.module_of(type(callback).on_epoch_end)
    return own or not module.startswith(("keras.", "prune_keras."))
