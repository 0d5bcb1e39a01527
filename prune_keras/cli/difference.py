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
from prune_keras.teaching.ends import activations

if TYPE_CHECKING:
    from prune_keras.models.records import Row

BATCH = 64  # samples at once
DRAWN = 64  # samples to compare outputs on, where none are given


def difference(
    before: Path,
    after: Path,
    data: Any = None,
    repeats: int = 20,
    input_shape: tuple[int, ...] | None = None,
) -> dict[str, Any]:
    """Compare two models in files.

    Args:
        before: path of a `.keras` or `.h5` file.
        after: path of another one.
        data: inputs, or `(inputs, targets)`, to compare outputs on. Defaults to None: drawn.
        repeats: calls whose median the latency is; 0 measures none. Defaults to 20.
        input_shape: sizes of one sample, for models with open ones. Defaults to None.

    Returns:
        A dictionary of `measures` and `widths`, which are rows, `agreement` in words, and `notes`
        on what was not measured.
    """
    models = [read_model(before, others=(after,)), read_model(after)]
    times, notes = _latencies(models, repeats, input_shape)
    costs = [dataclasses.asdict(prune_keras.cost(model, input_shape)) for model in models]
    for column, path, took in zip(costs, (before, after), times, strict=True):
        column |= {"file_bytes": Path(path).stat().st_size, "latency_ms": took}
    return {
        "measures": _measures(*costs),
        "widths": _widths(models[0], models[1]),
        "agreement": _agreement(models[0], models[1], _inputs(models[0], data)),
        "notes": notes,
    }


def _latencies(
    models: list[Any], repeats: int, shape: tuple[int, ...] | None
) -> tuple[list[float | None], list[str]]:
    """Return the milliseconds of a sample by model, and a note where they cannot be had."""
    if not repeats:
        return [None] * len(models), []
    try:
        found = [prune_keras.latency(each, repeats=repeats, input_shape=shape) for each in models]
    except ValueError as error:
        return [None] * len(models), [f"Latency was not measured: {error}"]
    return [*found], []


def _measures(old: dict[str, Any], new: dict[str, Any]) -> list[Row]:
    """Return a row for each measure that is known of both."""
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
    old, new = (_outputs(model, inputs) for model in (before, after))
    if [each.shape for each in old] != [each.shape for each in new]:
        return "The outputs have other shapes, and cannot be compared."
    count = len(tree.flatten(inputs)[0])
    apart = [_relative(a, b) for a, b in zip(old, new, strict=True)]
    said = f"On {count:,} samples outputs are {max(apart):.3g} of their length apart"
    ends = activations(before)
    outputs = zip(old, new, ends, strict=True)
    same = [np.mean(_first(a) == _first(b)) for a, b, end in outputs if _is_of_classes(a, end)]
    return f"{said}; the same class comes first in {min(same):.1%}." if same else f"{said}."


def _outputs(model: Any, inputs: Any) -> list[np.ndarray]:
    """Return a model's outputs, of as many samples at once as little memory holds."""
    begins = range(0, len(tree.flatten(inputs)[0]), BATCH)
    parts = (tree.map_structure(lambda a, i=i: a[i : i + BATCH], inputs) for i in begins)
    found = [outputs_of(model, part) for part in parts]
    if len(found) == 1:
        return found[0]
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def _is_of_classes(outputs: np.ndarray, activation: str | None) -> bool:
    """Tell whether outputs are scores of classes: of one number, only its activation tells."""
    return outputs.ndim == 2 and (outputs.shape[1] > 1 or activation == "sigmoid")


def _relative(old: np.ndarray, new: np.ndarray) -> float:
    return float(np.linalg.norm(old - new) / max(np.linalg.norm(old), np.finfo(float).tiny))


def _first(outputs: np.ndarray) -> np.ndarray:
    """Return the class that scores highest; of one chance, whether it is a half at least."""
    return outputs[:, 0] >= 0.5 if outputs.shape[1] == 1 else outputs.argmax(axis=1)
