"""Private Keras, own attributes: what a class of models gave a model, taken over by its copy."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import keras
import numpy as np

from prune_keras._keras.configs import check_same, fresh_optimizer, is_optimizer
from prune_keras._keras.steps import is_surrounded

_SETTINGS = ("_dtype_policy", "autocast", "supports_jit")
_OF_TRAINING = {
    "_compile_config",
    "_compiled_trainable_state",
    "_epoch_iterator",
    "_eval_epoch_iterator",
    "_jax_state",
    "_jax_state_synced",
    "_torch_params",
    "history",
    "optimizer",
    "stop_evaluating",
    "stop_predicting",
    "stop_training",
}

Beside = Callable[[Any], Any]
"""From a layer that stands in no graph to the one that takes its place in a copy."""


def take_over(new: Any, old: Any, twins: dict[int, Any], beside: Beside) -> None:
    """Give a copy of a model the attributes that no constructor of Keras gives.

    Args:
        new: the copy, with a graph of its own.
        old: the model.
        twins: id of an object -> what takes its place in the copy; grows.
        beside: what to do with layers that are not in it.
    """
    for name in _SETTINGS:
        setattr(new, name, getattr(old, name))
    arguments = getattr(old, "_auto_config", None)
    if arguments is not None:
        arguments = type(arguments)(**copied(arguments.config, twins, beside))
    new._auto_config = arguments
    _set_all(new, old, twins, beside)
    if not isinstance(old, keras.Sequential):
        _track_alike(new, old, twins, beside)


def _set_all(new: Any, old: Any, twins: dict[int, Any], beside: Beside) -> None:
    known, locked = _held(new).keys() | _OF_TRAINING, new._tracker.locked
    new._tracker.unlock()
    for name, value in _held(old).items():
        if name not in known and not name.startswith("_self_") and not is_surrounded(value):
            setattr(new, name, copied(value, twins, beside))
    new._tracker.locked = locked


def _held(model: Any) -> dict[str, Any]:
    """Return a model's attributes by name; PyTorch keeps those that are modules apart."""
    return {**vars(model), **vars(model).get("_modules", {})}


def _track_alike(new: Any, old: Any, twins: dict[int, Any], beside: Beside) -> None:
    """Let layers, and with them weights, follow one another as they do in the model."""
    places = {}
    for place, layer in enumerate(old._layers):
        twin = copied(layer, twins, beside)
        new._tracker.track(twin)  # if no attribute holds it anymore
        places[id(twin)] = place
    new._layers.sort(key=lambda layer: places[id(layer)])


def copied(value: Any, twins: dict[int, Any], beside: Beside) -> Any:
    """Return what takes the place of a value in a copy; what holds no state is shared."""
    if id(value) in twins:
        return twins[id(value)]
    if isinstance(value, MethodType):
        return MethodType(value.__func__, copied(value.__self__, twins, beside))
    made = _made(value, twins, beside)
    if made is not value:
        twins[id(value)] = made
    return made


def _made(value: Any, twins: dict[int, Any], beside: Beside) -> Any:
    match value:
        case keras.metrics.Metric():
            return _metric(value, twins, beside)
        case keras.layers.Layer():
            return beside(value)
        case keras.Variable():
            return _variable(value)
        case keras.random.SeedGenerator():
            return _seed_generator(value)
        case dict():
            return {key: copied(each, twins, beside) for key, each in value.items()}
        case list() | set():
            kind = list if isinstance(value, list) else set
            return kind(copied(each, twins, beside) for each in value)
        case tuple():
            parts = [copied(each, twins, beside) for each in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        case np.ndarray():
            return value.copy()
        case _:
            return fresh_optimizer(value) if is_optimizer(value) else value


def _metric(metric: Any, twins: dict[int, Any], beside: Beside) -> Any:
    """Copy a metric attribute by attribute: few have a config that tells everything."""
    made = object.__new__(type(metric))
    keras.metrics.Metric.__init__(made, dtype=metric._dtype_policy, name=metric.name)
    twins[id(metric)] = made
    for name, value in list(vars(metric).items()):
        if name not in vars(made):
            setattr(made, name, copied(value, twins, beside))
    return made


def _variable(variable: Any) -> Any:
    value = variable.value

    def initial(shape: Any, dtype: Any) -> Any:
        # Some backends would share the memory, and write to it or free it in a training step.
        return keras.ops.copy(keras.ops.cast(value, dtype))

    made = keras.Variable(
        initial, variable.shape, variable.dtype, variable.trainable, name=variable.name
    )
    made._path = variable.path  # that of the scope it was made in
    return made


def _seed_generator(generator: Any) -> Any:
    made = type(generator).from_config(generator.get_config())
    check_same(generator, made)
    return made
