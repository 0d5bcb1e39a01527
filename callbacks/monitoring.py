"""Monitoring: in which epochs of a fit the monitored metric is there, and how to get it now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prune_keras import _keras


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
        return self.monitor.startswith("val_")

    def check(self) -> None:
        """Raise a ValueError if there is nothing to measure it on."""
        if self.fit.runs and self.validates and self.fit.validation is None:
            raise ValueError(
                "There must be validation data to judge rounds by. Received: "
                f"monitor={self.monitor!r}, while fit has no validation_data. "
                "Pass validation_data or validation_split to fit, or monitor='loss'."
            )

    def ends(self, epoch: int) -> bool:
        """Tell whether an epoch, counted from 0, ends with the metric."""
        return not self.validates or self.fit.validates(epoch)

    def now(self, model: Any) -> float | None:
        """Measure a metric of validation now; None if that cannot be done, or it is none."""
        if not self.validates:
            return None
        return self.fit.evaluate(model).get(self.monitor.removeprefix("val_"))
