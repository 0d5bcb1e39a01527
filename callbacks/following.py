"""Following: other callbacks of a fit are told of cuts, and of rounds that are undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prune_keras.rounds.round import Round


class Followers:
    """Callbacks that may have the methods `on_cut` and `on_rollback`.

    Args:
        callbacks: all callbacks of the fit. Defaults to none.
    """

    def __init__(self, callbacks: Iterable[Any] = ()) -> None:
        self._callbacks = tuple(callbacks)
        self._told: set[tuple[int, int]] = set()

    def cut(self, opened: Round, logs: Mapping[str, Any]) -> None:
        """Tell each of them that a round was opened by a cut."""
        for callback in self._callbacks:
            if hasattr(callback, "on_cut"):
                callback.on_cut(opened, logs)
            self._told.add((id(callback), opened.number))

    def rolled_back(self, undone: Round | None, logs: Mapping[str, Any]) -> None:
        """Tell that a round was undone to those that were told of it: a hook may have failed."""
        if undone is None:
            return
        told, number = self._told, undone.number
        self._told = {each for each in told if each[1] < number}
        for callback in self._callbacks:
            if hasattr(callback, "on_rollback") and (id(callback), number) in told:
                callback.on_rollback(undone, logs)
