"""Private Keras, held: optimizers that a model has beside the one that it was compiled with."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

import keras

from prune_keras import _backend
from prune_keras._keras.graphs import all_layers, module_of
from prune_keras._keras.optimizers import optimizers_of


@dataclass(frozen=True)
class Held:
    """An optimizer that a model has, and that a cut of the model does not follow.

    Args:
        where: how it is got at from the model, for messages.
        optimizer: the optimizer.
        weights: the variables that it trains; None if that cannot be told before it trains.
    """

    where: str
    optimizer: Any
    weights: tuple[Any, ...] | None


def other_optimizers(model: Any) -> list[Held]:
    """Return optimizers in attributes of the model and its layers, and in its own methods.

    Containers and plain objects are looked into, and so are the variables that methods written by a
    user read from around them.
    """
    seen = {id(optimizer) for optimizer in optimizers_of(model)}
    found = []
    for layer in all_layers(model):
        for where, value in [*_attributes(layer), *_around_methods(layer)]:
            for path, optimizer in _optimizers_in(where, value, seen):
                found.append(Held(f"{layer.name}.{path}", optimizer, _weights(optimizer, layer)))
    return found


def _weights(optimizer: Any, layer: Any) -> tuple[Any, ...] | None:
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        return None
    if optimizer.built:
        return tuple(optimizer._trainable_variables)
    of_model = getattr(layer, "optimizer", None) is optimizer
    return tuple(layer.trainable_variables) if of_model else None


def _attributes(owner: Any) -> list[tuple[str, Any]]:
    own = (name for kind in type(owner).__mro__ for name in getattr(kind, "__slots__", ()))
    slots = {name: getattr(owner, name) for name in own if hasattr(owner, name)}
    held = {**getattr(owner, "__dict__", {}), **slots}
    # What a backend tracks is held under a name of the user's too, which tells more.
    return sorted((x for x in held.items() if not x[0].startswith("_self_")), key=_is_private)


def _is_private(attribute: tuple[str, Any]) -> bool:
    return attribute[0].startswith("_")


def _around_methods(layer: Any) -> Iterator[tuple[str, Any]]:
    """Yield what methods that Keras does not define read from modules and functions around them."""
    kinds = [kind for kind in type(layer).__mro__ if not module_of(kind).startswith("keras.")]
    held = [*vars(layer).values(), *(value for kind in kinds for value in vars(kind).values())]
    for method in held:
        function = getattr(method, "__func__", method)
        function = inspect.unwrap(function) if callable(function) else function
        if isinstance(function, FunctionType) and not module_of(function).startswith("keras."):
            for name, value in _around(function):
                yield f"{function.__name__}: {name}", value


def _around(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # an empty cell
            yield name, cell.cell_contents
    for name in sorted(_names(function.__code__) & function.__globals__.keys()):
        yield name, function.__globals__[name]


def _names(code: CodeType) -> set[str]:
    inner = [each for each in code.co_consts if isinstance(each, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _optimizers_in(
    where: str, value: Any, seen: set[int], depth: int = 4
) -> Iterator[tuple[str, Any]]:
    """Yield optimizers in a value, with how each is got at."""
    if isinstance(value, _PLAIN) or id(value) in seen:
        return
    if isinstance(value, _backend.optimizer_types()):
        seen.add(id(value))
        yield where, value
    elif depth and (isinstance(value, Mapping | list | tuple | Set) or _is_looked_into(value)):
        for name, inner in _inside(value):
            yield from _optimizers_in(f"{where}{name}", inner, seen, depth - 1)


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(f"[{key!r}]", inner) for key, inner in value.items()]
    if isinstance(value, list | tuple | Set):
        return [(f"[{place}]", inner) for place, inner in enumerate(value)]
    return [(f".{name}", inner) for name, inner in _attributes(value)]


def _is_looked_into(value: Any) -> bool:
    """Tell whether a value is an object of a user's own class that is no layer."""
    return not isinstance(value, keras.layers.Layer | type) and not (
        f"{module_of(type(value))}.".startswith(_FOREIGN)
    )


_PLAIN = (str, bytes, int, float, type(None))
_FOREIGN = (
    "builtins.",
    "jax.",
    "jaxlib.",
    "keras.",
    "numpy.",
    "prune_keras.",
    "tensorflow.",
    "torch.",
)
