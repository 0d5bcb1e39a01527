"""Described: a teacher in texts and numbers, equal in another process if it teaches the same."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from keras import ops

from prune_keras.differing import described, shapes_of
from prune_keras.teaching.teacher import Teacher


def taught_by(teacher: Any) -> Any:
    """Return a description of a `Teacher`, of what its `model` may be, or of None.

    Of a model that is the name, and a digest of all weights with their shapes.
    """
    if teacher is None:
        return None
    teacher = teacher if isinstance(teacher, Teacher) else Teacher(teacher)
    told = {field.name: getattr(teacher, field.name) for field in dataclasses.fields(teacher)}
    told["model"] = teacher.model if teacher.model == "start" else _model(teacher.model)
    if teacher.factors is not None:
        factors = teacher.factors
        fields = {each.name: getattr(factors, each.name) for each in dataclasses.fields(factors)}
        optimizer = factors.new_optimizer()
        config = {k: v for k, v in optimizer.get_config().items() if k != "name"}
        learnt = {"optimizer": [type(optimizer).__name__, config]}
        told["factors"] = fields | learnt | {"data": shapes_of(factors.data)}
    return json.loads(json.dumps(told, default=described))


def _model(model: Any) -> list[str]:
    found = hashlib.blake2b(digest_size=8)
    for weight in model.weights:
        value = ops.convert_to_numpy(weight.value)
        found.update(f"{value.dtype} {value.shape}".encode())
        found.update(value.tobytes())
    return [type(model).__name__, model.name, found.hexdigest()]
