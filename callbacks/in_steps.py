"""In steps: callbacks whose work is compiled into the training step, and leaves with the fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.callbacks.copying import Copied
from prune_keras.graph import Graph
from prune_keras.interrupts import deferred
from prune_keras.tracing import trace


class InSteps(Copied, keras.callbacks.Callback):
    """A callback that shows training steps another model than there is.

    What it shows is made for the graph that the model has; after a cut, or one that was undone, it
    is made anew. Whatever ends `fit`, nothing of it stays with the model.
    """

    data: Any = None

    def _made(self, graph: Graph) -> _keras.View:
        """Return what training steps see of the model."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__init__()
        self._view: _keras.View | None = None

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        _keras.on_failure(self.model, self._leave)
        self._leave()  # a loop of another make that never came to its end
        self._enter()

    def on_cut(self, opened: Any, logs: Mapping[str, Any] | None = None) -> None:
        """Follow a cut of `ProgressivePruning`."""
        if self._view is not None:
            self._enter()

    def on_rollback(self, undone: Any, logs: Mapping[str, Any] | None = None) -> None:
        """Follow `ProgressivePruning` back."""
        self.on_cut(undone, logs)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self._leave()

    def _enter(self) -> None:
        graph = trace(self.model)
        with _keras.strategy_scope(self.model):
            view = self._made(graph)
        with deferred():
            self._leave()
            _keras.show(self.model, view)
            self._view = view

    def _leave(self) -> None:
        with deferred():
            if self._view is not None:
                _keras.hide(self.model, self._view)
            self._view = None


# At import: `model.fit(..., callbacks=[...])` looks up `fit` before it makes one.
_keras.watch_fits()
