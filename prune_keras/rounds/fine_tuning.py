"""Fine-tuning: at which rates a model is trained after cuts, and what of it as a fit ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.validation import check_choice, check_share

STARTS = ("fit", "round")
_WORDS = {"bias", "beta", "gamma", "scale"}


@dataclass(frozen=True)
class FineTuning:
    """How a `ProgressivePruning` lets a model be trained after its cuts.

    Args:
        rewind: where learning rates go back to after each cut (Renda et al., 2020): `"fit"` for
            where they were as `fit` began, `"round"` for where they were as its first round did,
            None for nowhere. From there a schedule goes its way again, counting the steps since the
            cut, while the optimizer counts all steps as before. A rate that is a number goes back
            to what it was, and callbacks such as `ReduceLROnPlateau` may change it again. A round
            that is undone takes its place in the schedule with it. As `fit` ends, a schedule stands
            where all steps say. Defaults to None.
        scales_only: share of the last epoch of `fit`, in [0, 1], in which only scales and biases
            are trained, at its end: those of normalization and of all other layers. Other weights
            do not move then. With `steps_per_execution`, it begins with an execution. Where another
            callback ends `fit` early, there is no such share. Defaults to 0.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> from prune_keras.callbacks import FineTuning, ProgressivePruning
    >>> tuning = FineTuning(rewind="round", scales_only=0.5)
    >>> pruning = ProgressivePruning(target={"flops": 0.5}, fine_tuning=tuning)

    Reference:

    - Renda et al., 2020, Comparing Rewinding and Fine-tuning in Neural Network Pruning,
      https://arxiv.org/abs/2003.02389
    """

    rewind: str | None = None
    scales_only: float = 0.0

    def __post_init__(self) -> None:
        if self.rewind is not None:
            check_choice("rewind", self.rewind, STARTS)
        if self.scales_only != 0:
            check_share("scales_only", self.scales_only, upto_one=True)


class Tuning:
    """The fine-tuning of one fit.

    Args:
        asked: what the user asked for; None for nothing.
    """

    def __init__(self, asked: FineTuning | None = None) -> None:
        self._asked = FineTuning() if asked is None else asked
        self._start: list[float] | None = None
        self._ends: list[Callable[[], None]] = []
        self._trains_scales = False

    def check(self, model: Any, steps: int | None, callbacks: Iterable[Any]) -> None:
        """Raise a ValueError for what it cannot be done with, before the first batch.

        Args:
            model: the model.
            steps: batches in an epoch; None if that is not known.
            callbacks: all callbacks of the fit.
        """
        if self._asked.rewind is not None:
            _check_rates(model, callbacks)
        if self._asked.scales_only:
            _check_scales(model, self._asked.scales_only, steps)

    def begin(self, model: Any) -> None:
        """Let a fit begin, of which nothing is trained yet."""
        self._start = None
        if self._asked.rewind is not None:
            self._ends.append(_keras.let_be_late(model))
        if self._asked.rewind == "fit":
            self._start = _keras.points(model)

    def cut(self, model: Any) -> None:
        """Bring learning rates back, right after a cut."""
        if self._start is not None:
            _keras.go_to(model, self._start)
        elif self._asked.rewind is not None:
            self._start = _keras.points(model)

    def step(self, model: Any, batch: int, steps: int | None) -> None:
        """Train only scales and biases from now on, if a step of the last epoch is due for that.

        Args:
            model: the model.
            batch: the batch that begins, counted from 0.
            steps: batches in the epoch; None if that is not known.
        """
        share, last = self._asked.scales_only, batch + model.steps_per_execution - 1
        if not share or self._trains_scales:
            return
        if steps is None or last >= int(steps * (1 - share) + 1e-9):
            self._ends.append(_keras.update_only(model, is_scale_or_bias))
            self._trains_scales = True

    def end(self) -> None:
        """Leave the model as it is without."""
        while self._ends:
            self._ends.pop()()
        self._trains_scales = False

    def to_dict(self) -> dict[str, Any]:
        """Return what is not among the variables."""
        return {"start": self._start}

    def resume(self, stored: dict[str, Any]) -> None:
        """Go on where `to_dict` was told."""
        self._start = stored["start"]


def is_scale_or_bias(variable: keras.Variable) -> bool:
    """Tell whether a variable is the scale, the offset or the bias of a layer, by its name."""
    return variable.path.split("/")[-1].split("_")[-1] in _WORDS


def _check_rates(model: Any, callbacks: Iterable[Any]) -> None:
    for each in callbacks:
        if isinstance(each, keras.callbacks.LearningRateScheduler):
            raise ValueError(
                "A learning rate that goes back after cuts must not be set anew each epoch. "
                f"Received: rewind beside {type(each).__name__}. Compile with a schedule of "
                "keras.optimizers.schedules in its place."
            )
    for rate in _keras.rates_of(model):
        if not isinstance(rate, keras.Variable | keras.optimizers.schedules.LearningRateSchedule):
            raise ValueError(
                "A learning rate that goes back after cuts must be a number or a schedule. "
                f"Received: {rate!r}. Compile with a schedule of keras.optimizers.schedules."
            )


def _check_scales(model: Any, share: float, steps: int | None) -> None:
    if not any(map(is_scale_or_bias, model.trainable_variables)):
        raise ValueError(
            "There must be scales or biases to train. Received: "
            f"scales_only={share} for {model.name!r}, none of whose trained variables is called "
            f"one of {sorted(_WORDS)}. Leave it out."
        )
    if steps is None and share < 1:
        raise ValueError(
            "A share of an epoch needs data that tell how many batches there are. Received: "
            f"scales_only={share}, for data of an unknown number. Pass scales_only=1, for a whole "
            "epoch, or steps_per_epoch to fit."
        )
