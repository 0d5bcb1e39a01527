"""Other callbacks: those beside `ProgressivePruning` that a change of shapes would break."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from prune_keras.copies import is_readable, unreadable_notes
from prune_keras.graph import Graph

_BACKED_UP = (
    "Pass backup_dir='backup' to ProgressivePruning, which takes its place: it stores the "
    "structure too, and the same script goes on from there."
)
_INSTEAD = {
    "EarlyStopping(restore_best_weights=True)": (
        "Pass restore_best_weights=False; with max_drop or floor, the model ends at its last good "
        "round."
    ),
    "ModelCheckpoint(save_weights_only=True)": (
        "Pass save_weights_only=False, which stores the structure too."
    ),
    "SwapEMAWeights": (
        "Leave it out: with use_ema=True, Keras gives the model its averages when fit ends."
    ),
    "BackupAndRestore": _BACKED_UP,
    "OrbaxCheckpoint": _BACKED_UP,
    "ProgressivePruning": "Pass one, with all that it is to do.",
}


def check_other_callbacks(callback: Any, callbacks: Iterable[Any]) -> None:
    """Raise a ValueError for a callback that keeps weights for a model of the older shape.

    Args:
        callback: the one that cuts.
        callbacks: all callbacks of the same `fit`.
    """
    for other in callbacks:
        name = None if other is callback else _refused(other, type(callback))
        if name is not None:
            raise ValueError(
                "Callbacks beside ProgressivePruning must not keep weights without the structure "
                f"they belong to, which a cut changes. Received: {name}. {_INSTEAD[name]}"
            )


def check_files(
    model: Any, graph: Graph, callbacks: Iterable[Any], folder: str | Path | None
) -> tuple[str, ...]:
    """Return a note if a file of the thinner model could not be read back.

    Args:
        model: the model, before the first cut.
        graph: its trace.
        callbacks: all callbacks of the same `fit`.
        folder: where models of rounds are written; None for nowhere.

    Raises:
        ValueError: if such files would be written, and only the cut makes them unreadable.
    """
    notes = unreadable_notes(model, graph)
    checkpoints = [c for c in callbacks if isinstance(c, keras.callbacks.ModelCheckpoint)]
    writers = [type(checkpoint).__name__ for checkpoint in checkpoints]
    writers += [] if folder is None else [f"keep_rounds={str(folder)!r}"]
    if notes and writers and is_readable(model):
        raise ValueError(
            f"Files of the model must be readable once it is cut. Received: {', '.join(writers)}, "
            f"while of {model.name!r} {notes[0]}"
        )
    return notes


def _refused(other: Any, pruning: type) -> str | None:
    """Return the name under which a callback is refused, or None."""
    if isinstance(other, pruning):
        return "ProgressivePruning"
    if isinstance(other, keras.callbacks.EarlyStopping) and other.restore_best_weights:
        return "EarlyStopping(restore_best_weights=True)"
    if isinstance(other, keras.callbacks.ModelCheckpoint) and other.save_weights_only:
        return "ModelCheckpoint(save_weights_only=True)"
    for name in ("SwapEMAWeights", "BackupAndRestore", "OrbaxCheckpoint"):
        if isinstance(other, getattr(keras.callbacks, name)):
            return name
    return None
