"""Copies, before any work: can one be made, will it be compiled, can a file of it be read?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from prune_keras import _keras
from prune_keras.graph import Graph, Weight
from prune_keras.plan import Plan
from prune_keras.selection import choose
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking
from prune_keras.surgery import kept_neurons, thin_structure
from prune_keras.tracing.opening.opened import differs_in_training
from prune_keras.tracing.opening.probing import tells
from prune_keras.tracing.opening.settling import thin_graph
from prune_keras.unfolding import unfolded


def rehearsed(model: Any, graph: Graph, needs_loss: bool = False) -> tuple[str, ...]:
    """Make the structure of a thinner copy, and return notes on what it will not be.

    Args:
        model: the model.
        graph: its graph.
        needs_loss: whether the copy has to be compiled, as it is scored by its loss.

    Raises:
        ValueError: if a layer cannot be made again from its config, or the copy cannot be compiled
            and has to be.
    """
    with _keras.discarded():
        twin = _keras.clone_structure(model)
    reason = _keras.uncompilable(twin, model)
    if reason is not None and needs_loss:
        raise ValueError(
            "A copy must be compiled to be scored by its loss at each step. Received: "
            f"{model.name!r}, of which that fails: {reason} "
            "Pass steps=1, or a criterion that needs no loss."
        )
    notes = unreadable_notes(model, graph)
    if reason is None:
        return notes
    return (
        f"the copy is not compiled, as what {model.name!r} is compiled with cannot be made again: "
        f"{reason} Call compile on the copy.",
        *notes,
    )


def lasting(model: Any, graph: Graph) -> tuple[Any, tuple[str, ...]]:
    """Return the model to prune in place of one, and notes on it.

    That is the model itself if its own classes can tell in their configs what a cut leaves; else a
    plain functional copy, which needs none of them.

    Args:
        model: the model; it is not changed.
        graph: its graph.
    """
    if not graph.opened or _tells(model, graph):
        return model, ()
    silent = _silent_in_training(graph)
    try:
        plain = unfolded(model, loses=lambda layer: id(layer) in silent)
    except ValueError as error:
        return model, (f"it keeps its classes: {_keras.reason_of(error)}",)
    _keras.compile_like(plain, model)
    kinds = ", ".join(sorted({type(call.layer).__name__ for call in graph.opened}))
    note = (
        f"the thin model is a plain functional one: no config of {kinds} tells what a cut leaves. "
        "To keep the classes, cut in place: ProgressivePruning, prune_keras.shrink_in_place"
    )
    return plain, (note, *_lost_notes(silent))


def _silent_in_training(graph: Graph) -> dict[int, str]:
    """Return what does something else in training, and can tell no cut, by the layer's id."""
    thin = thin_graph(graph, graph.families)
    return {
        id(call.layer): call.path or call.layer.name
        for call in graph.opened
        if differs_in_training(call.function) and not tells(call, thin, {})
    }


def _lost_notes(names: Mapping[int, str]) -> Iterator[str]:
    if names:
        yield (
            f"what {', '.join(sorted({*names.values()}))} does in training only is not in the thin "
            "model, which does what it does in inference. To keep it, cut in place, or let "
            "get_config tell the widths that are left"
        )


def _tells(model: Any, graph: Graph) -> bool:
    """Tell whether the classes of a model can tell in their configs what a cut leaves."""
    if _keras.function_of(model) is None or not all(call.follows for call in graph.opened):
        return False
    thin = thin_graph(graph, graph.families)
    return all(tells(call, thin, {}) for call in graph.opened)


def unreadable_notes(model: Any, graph: Graph) -> tuple[str, ...]:
    """Return a note if Keras could not read a file of the thinner model back."""
    reason = unreadable_when_thin(model, graph)
    if reason is None:
        return ()
    as_ever = "" if is_readable(model) else ", as one of the model before the cut cannot"
    return (f"a file of the thin model cannot be read{as_ever}: {reason}",)


def unreadable_when_thin(model: Any, graph: Graph) -> str | None:
    """Return why a file of the thinner model could not be read, and the way out; or None.

    Only where a class is not of Keras is that in doubt, and looked at.
    """
    classes = _keras.own_classes(model)
    if not classes:
        return None
    kept = kept_neurons(graph, _half(graph))
    if kept.all():
        return None
    try:
        reason = _unreadable(model, graph, kept)
    except ValueError as error:
        reason = _keras.reason_of(error)
    if reason is None:
        return None
    ways = f"{reason} Let get_config of {', '.join(classes)} tell the widths that are left"
    return f"{ways}, or write files with prune_keras.export, which needs no class of a model."


def is_readable(model: Any) -> bool:
    """Tell whether Keras could read a file of the model, as it is, back."""
    with _keras.discarded(), _keras.uncompiled(model):
        return _keras.unreadable(model) is None


def _unreadable(model: Any, graph: Graph, kept: np.ndarray) -> str | None:
    shapes = {id(weight.variable): _shape_left(weight, kept) for weight in graph.weights}
    with _keras.discarded():
        twin = thin_structure(model, kept)
        for old, new in zip(model.variables, twin.variables, strict=True):
            shape = shapes.get(id(old), tuple(old.shape))
            _keras.set_value_on_exit(new, np.broadcast_to(0, shape))
        return _keras.unreadable(twin)


def _shape_left(weight: Weight, kept: np.ndarray) -> tuple[int, ...]:
    shape = weight.variable.shape
    left = {axis: int(kept[neurons].sum()) for axis, neurons in weight.axes.items()}
    return tuple(left.get(axis, size) for axis, size in enumerate(shape))


def _half(graph: Graph) -> Plan:
    """Return a plan that takes half of each family, as far as that can be."""
    scores = {path: np.arange(1.0, 1 + len(p.neurons)) for path, p in graph.producers.items()}
    ranking = Ranking("uniform", "mean", "mean")
    return choose(graph, scores, ranking, Limits(), {}, fraction=0.5)
