"""What `prune-keras diff` tells of two models: sizes, costs, time, widths, outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import ItemsView
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import tree

import prune_keras
from prune_keras.cli.guarded import read_model
from prune_keras.graph import Producer
from prune_keras.proof import outputs_of
from prune_keras.samples.drawing import OPEN_SIZES, draw, sample_shapes

if TYPE_CHECKING:
    from prune_keras.models.records import Row

DRAWN = 64  # samples to compare outputs on, where none are given


def difference(before: Path, after: Path, data: Any = None, repeats: int = 20) -> dict[str, Any]:
    """Compare two models in files.

    Args:
        before: path of a `.keras` or `.h5` file.
        after: path of another one.
        data: inputs, or `(inputs, targets)`, to compare outputs on. Defaults to None: drawn.
        repeats: calls whose median the latency is; 0 measures none. Defaults to 20.

    Returns:
        A dictionary of `measures` and `widths`, which are rows, and `agreement` in words.
    """
    models = [read_model(before, others=(after,)), read_model(after)]
    return {
        "measures": _measures([before, after], models, repeats),
        "widths": _widths(models[0], models[1]),
        "agreement": _agreement(models[0], models[1], _inputs(models[0], data)),
    }


def _measures(paths: list[Path], models: list[Any], repeats: int) -> list[Row]:
    """Return a row for each measure that is known of both."""
    columns = [dataclasses.asdict(prune_keras.cost(model)) for model in models]
    for column, path, model in zip(columns, paths, models, strict=True):
        column["file_bytes"] = Path(path).stat().st_size
        if repeats:
            column["latency_ms"] = prune_keras.latency(model, repeats=repeats)
    old, new = columns
    return [
        {
            "": name,
            "before": old[name],
            "after": new[name],
            "remains": f"{new[name] / old[name]:.1%}",
        }
        for name in old
        if old[name] and new[name] is not None
    ]


def _widths(before: Any, after: Any) -> list[Row]:
    """Return a row for each layer of one name whose units differ, or that one of both lacks."""
    old, new = ({path: len(p.neurons) for path, p in _producers(m)} for m in (before, after))
    names = [*old, *(name for name in new if name not in old)]
    return [
        {"layer": name, "before": old.get(name, "none"), "after": new.get(name, "none")}
        for name in names
        if old.get(name) != new.get(name)
    ]


def _producers(model: Any) -> ItemsView[str, Producer]:
    return prune_keras.trace(model).producers.items()


def _inputs(model: Any, data: Any) -> Any:
    if data is not None:
        return data[0] if isinstance(data, tuple) else data
    return draw(model, sample_shapes(model, OPEN_SIZES[1]), DRAWN, normal=True)


def _agreement(before: Any, after: Any, inputs: Any) -> str:
    """Say how far outputs are apart, and for how many samples the same class is the first."""
    old, new = (outputs_of(model, inputs) for model in (before, after))
    if [each.shape for each in old] != [each.shape for each in new]:
        return "The outputs have other shapes, and cannot be compared."
    count = len(tree.flatten(inputs)[0])
    apart = [_relative(a, b) for a, b in zip(old, new, strict=True)]
    said = f"On {count:,} samples outputs are {max(apart):.3g} of their length apart"
    same = [np.mean(_first(a) == _first(b)) for a, b in zip(old, new, strict=True) if a.ndim == 2]
    return f"{said}; the same class comes first in {min(same):.1%}." if same else f"{said}."


def _relative(old: np.ndarray, new: np.ndarray) -> float:
    return float(np.linalg.norm(old - new) / max(np.linalg.norm(old), np.finfo(float).tiny))


def _first(outputs: np.ndarray) -> np.ndarray:
    """Return the class that scores highest; of one score, whether it is a half at least."""
    return outputs[:, 0] >= 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
