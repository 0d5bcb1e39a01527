"""Averages: an optimizer's means of the weights, shown in place of those that are trained.

With `use_ema`, Keras gives a model its averages as `fit` ends. So they are what a round must be
judged by, and what is to be stored of it, while training goes on with the weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from prune_keras import _keras


class Averages:
    """Shows a model's averages, and brings back its weights; without averages it does nothing."""

    def __init__(self) -> None:
        self._trained: list[tuple[keras.Variable, np.ndarray]] = []

    @property
    def are_shown(self) -> bool:
        """Whether the model holds its averages now."""
        return bool(self._trained)

    def show(self, model: Any) -> None:
        """Give the model its averages, and keep its weights aside."""
        pairs = [] if self.are_shown else _keras.averages_of(model)
        if pairs:
            _keras.sync(model)
            held = [(weight, keras.ops.convert_to_numpy(weight.value)) for weight, _ in pairs]
            # Some backends hand out their own memory, which the averages are written to.
            self._trained = [(weight, np.array(value)) for weight, value in held]
            _keras.finalize(model)

    def hide(self, model: Any) -> None:
        """Give the model back the weights that were kept aside."""
        if self.are_shown:
            _keras.sync(model)
            for weight, value in self._trained:
                weight.assign(value)
            self.forget()

    def forget(self) -> None:
        """Take the weights that the model holds now for those that are trained."""
        self._trained = []

    @contextlib.contextmanager
    def shown(self, model: Any) -> Iterator[None]:
        """Show the averages within."""
        before = self.are_shown
        self.show(model)
        try:
            yield
        finally:
            if not before:
                self.hide(model)

    @contextlib.contextmanager
    def hidden(self, model: Any) -> Iterator[None]:
        """Bring back the weights within."""
        before = self.are_shown
        self.hide(model)
        try:
            yield
        finally:
            if before:
                self.show(model)
