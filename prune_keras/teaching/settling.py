"""Settling: whether a student's maps are compared, where a `Teacher` leaves that open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras

from prune_keras import _keras
from prune_keras.graph import Graph
from prune_keras.teaching.augmenting import moving_layers
from prune_keras.teaching.ends import is_known
from prune_keras.teaching.stages import stage_ends
from prune_keras.teaching.teacher import Teacher

ATTENTION = 3000.0  # Moonshine's; what it brings is measured in results/teaching
IMAGE_RANK = 4  # of a batch of maps


def settled(asked: Teacher, student: Any, graph: Graph) -> Teacher:
    """Return what is learnt from a teacher, with nothing left open.

    Args:
        asked: what the user asked for.
        student: the model, compiled.
        graph: its trace.
    """
    if asked.attention is not None:
        return asked
    is_compared = _is_open(asked) and _has_maps(student, graph)
    return replace(asked, attention=ATTENTION if is_compared else 0.0)


def _is_open(asked: Teacher) -> bool:
    """Tell whether nothing but outputs is asked for, of what the student was."""
    is_told = asked.compares or asked.layers is not None
    # Stored maps of all samples may be more than a device holds.
    return asked.model == "start" and not (is_told or asked.store)


def _has_maps(student: Any, graph: Graph) -> bool:
    """Tell whether both models have maps of the same images, heard once for each call."""
    if _keras.function_of(student) is None or moving_layers(student):
        return False
    if any(_keras.is_own(student, step) for step in ("train_step", "compute_loss")):
        return False
    places = _keras.places(student)
    if not all(_is_plain(place.operation) for place in places):
        return False
    ends = stage_ends(student, graph)
    maps = [place.tensor for place in places if place.path in ends]
    return bool(maps) and all(len(each.shape) == IMAGE_RANK for each in maps)


def _is_plain(operation: Any) -> bool:
    """Tell whether an operation is known not to move images."""
    return is_known(type(operation)) and not isinstance(operation, keras.layers.Lambda)
