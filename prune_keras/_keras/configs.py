"""Private Keras, configs: objects made again from them, and whether a model can be read back."""

from __future__ import annotations

import contextlib
import inspect
import json
import textwrap
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.optimizers.base_optimizer import BaseOptimizer

from prune_keras._keras.graphs import all_layers, is_layer, models_in, module_of, operations_in

_NEEDS = "A copy needs objects that can be made again from their config."
_WAYS_OUT = (
    "Let get_config return all arguments of the constructor, and build all weights; or cut the "
    "model in place, which makes nothing again: ProgressivePruning, prune_keras.shrink_in_place."
)


def is_own(kind: Any) -> bool:
    """Tell whether a class or function is of the user, not of Keras."""
    return module_of(kind).partition(".")[0] not in ("keras", "builtins")


def from_config(layer: Any) -> Any:
    """Make a layer or raw operation again.

    Raises:
        ValueError: if it cannot be made, or comes back with another setting.
    """
    try:
        with keras.saving.custom_object_scope(own_objects([layer])):
            made = _made_again(layer)
    except Exception as error:
        raise ValueError(
            f"{_NEEDS} Received: {described(layer)}, with which that fails: {reason_of(error)} "
            f"{_WAYS_OUT}"
        ) from error
    check_same(layer, made)
    return made


def _made_again(layer: Any) -> Any:
    if isinstance(layer, keras.layers.Lambda):  # Keras would make its functions from bytecode
        base = keras.layers.Layer.get_config(layer)
        mask = layer.mask
        return type(layer)(layer.function, layer._output_shape, mask, layer.arguments, **base)
    if _reads_own_config(type(layer)):
        return type(layer).from_config(layer.get_config())
    with _without_functions(layer) as functions:
        config = layer.get_config()
    same = {name: functions[name] for name in config.keys() & functions.keys()}
    return type(layer).from_config({**config, **same})


def _reads_own_config(kind: type) -> bool:
    owner = next(base for base in kind.__mro__ if "from_config" in vars(base))
    return is_own(owner)


@contextlib.contextmanager
def _without_functions(layer: Any) -> Iterator[dict[str, Any]]:
    """Hide a user's functions, which are arguments as they are and have no config of their own.

    Recurrent layers show those of their cell as properties.
    """
    holder = layer
    if isinstance(layer, keras.layers.RNN) and isinstance(layer.cell, keras.layers.Layer):
        holder = layer.cell if hasattr(type(layer), "activation") else layer
    held = {n: v for n, v in vars(holder).items() if isinstance(v, FunctionType) and is_own(v)}
    vars(holder).update(dict.fromkeys(held, keras.activations.linear))
    try:
        yield held
    finally:
        vars(holder).update(held)


def check_same(old: Any, new: Any) -> None:
    """Raise a ValueError unless an object of a user's class has the settings of the other."""
    if not is_own(type(old)):
        return
    for name in inspect.signature(type(old).__init__).parameters.keys() - {"name", "trainable"}:
        mine, other = vars(old).get(name), vars(new).get(name)
        if _is_plain(mine) and _listed(mine) != _listed(other):
            raise ValueError(
                f"{_NEEDS} Received: {described(old)} with {name}={mine!r}, which comes back with "
                f"{other!r}. {_WAYS_OUT}"
            )


def same_layers(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Return the layers in a layer, each with that in its copy.

    Raises:
        ValueError: if there are more or fewer of them in the copy.
    """
    layers, made = all_layers(old), all_layers(new)
    if len(layers) != len(made):
        raise ValueError(
            f"{_NEEDS} Received: {described(old)} with {len(layers)} layers in it, while that of "
            f"its config has {len(made)}. {_WAYS_OUT}"
        )
    return list(zip(layers, made, strict=True))


def check_weights(old: Any, new: Any) -> None:
    """Raise a ValueError unless a layer and its copy have weights of the same shapes."""
    shapes, made = (
        [tuple(variable.shape) for variable in getattr(layer, "variables", ())]
        for layer in (old, new)
    )
    if shapes != made:
        raise ValueError(
            f"{_NEEDS} Received: {described(old)} with weights of shapes {shapes}, while that of "
            f"its config has {made}. {_WAYS_OUT}"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _listed(value: Any) -> Any:
    return [*map(_listed, value)] if isinstance(value, list | tuple) else value


def described(operation: Any) -> str:
    return f"{operation.name!r} ({type(operation).__name__})"


def fresh_optimizer(optimizer: Any) -> Any:
    """Make an optimizer again, without its state; schedules, which have none, are shared."""
    if type(optimizer) is keras.optimizers.LossScaleOptimizer:
        return keras.optimizers.LossScaleOptimizer(
            fresh_optimizer(optimizer.inner_optimizer),
            initial_scale=optimizer.initial_scale,
            dynamic_growth_steps=optimizer.dynamic_growth_steps,
            name=optimizer.name,
        )
    with keras.saving.custom_object_scope(own_objects([optimizer])), _in_no_scope():
        with _without_schedule(optimizer) as schedule:
            config = optimizer.get_config()
        made = type(optimizer).from_config({**config, **schedule})
    check_same(optimizer, made)
    return made


@contextlib.contextmanager
def _in_no_scope() -> Iterator[None]:
    """Leave a `keras.StatelessScope`, in which optimizers cannot be made."""
    scope = global_state.get_global_attribute("stateless_scope")
    global_state.set_global_attribute("stateless_scope", None)
    try:
        yield
    finally:
        global_state.set_global_attribute("stateless_scope", scope)


@contextlib.contextmanager
def _without_schedule(optimizer: Any) -> Iterator[dict[str, Any]]:
    """Hide a schedule, which may have no config; yields it as an argument of the constructor."""
    rate = vars(optimizer).get("_learning_rate")
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        yield {}
        return
    vars(optimizer)["_learning_rate"] = None
    try:
        yield {"learning_rate": rate}
    finally:
        vars(optimizer)["_learning_rate"] = rate


def own_objects(operations: Iterable[Any]) -> dict[str, Any]:
    """Return the user's classes and functions that objects are or hold, by name."""
    found: dict[str, Any] = {}
    for operation in operations:
        for each in all_layers(operation) if is_layer(operation) else [operation]:
            for value in (each, *vars(each).values()):
                kind = value if isinstance(value, type | FunctionType) else type(value)
                if is_own(kind):
                    found[kind.__name__] = kind
    return found


def own_classes(model: Any) -> list[str]:
    """Return the names of the user's classes of layers and models in a model."""
    layers = {id(layer): layer for layer in [*models_in(model), *all_layers(model)]}
    return sorted({type(layer).__name__ for layer in layers.values() if is_own(type(layer))})


def unreadable(model: Any) -> str | None:
    """Return why Keras could not read a model back from a file with its config, or None."""
    objects = own_objects([*models_in(model), *operations_in(model)])
    try:
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
        read = keras.saving.deserialize_keras_object(config, objects, safe_mode=False)
    except Exception as error:
        return reason_of(error)
    written, made = ([tuple(v.shape) for v in each.variables] for each in (model, read))
    if written == made:
        return None
    if len(written) != len(made):
        return f"{len(written)} weights are written, and the model made anew has {len(made)}."
    path, old, new = next(
        (v.path, s, m) for v, s, m in zip(model.variables, written, made, strict=True) if s != m
    )
    return f"{path} has shape {old}, and {new} in the model made anew."


def reason_of(error: Exception) -> str:
    """Return in a line what an error says; Keras wraps the cause behind a config."""
    told = str(error).rpartition("Exception encountered: ")[2]
    return textwrap.shorten(told, 240, placeholder=" ...").rstrip(".") + "."


def is_optimizer(value: Any) -> bool:
    return isinstance(value, BaseOptimizer)
