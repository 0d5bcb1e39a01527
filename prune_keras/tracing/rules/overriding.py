"""What a class, or one object, computes in another way than a class of Keras that it comes from.

Keras' layers call many methods and read many attributes of their own while they run. Whatever of
these is not the parent's own counts, except what only describes, saves or loads a layer.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from types import CodeType
from typing import Any

import keras

from prune_keras import _keras

HARMLESS = frozenset(
    "build_from_config compute_output_shape compute_output_spec count_params from_config "
    "get_build_config get_config load_assets load_own_variables save_assets save_own_variables "
    "supports_masking".split()
)
COMPUTING = frozenset("__call__ __delattr__ __getattr__ __getattribute__ __setattr__".split())
WRAPPED = frozenset({"build", "quantize"})  # by Keras, anew for each layer


def overridden(operation: Any, parent: type) -> list[str]:
    """Return the names of what an operation computes, or may compute, unlike a parent of its class.

    Args:
        operation: the layer or raw operation.
        parent: a class that it is an instance of.
    """
    own = (name for name in vars(operation) if _computes(name) and hasattr(parent, name))
    by_class = _by_class(type(operation), parent)  # type: ignore[arg-type]
    return [*by_class, *(name for name in own if name not in WRAPPED)]


def is_plain(operation: Any) -> bool:
    """Tell whether an operation is what a class of Keras makes it, with nothing overridden."""
    kind = type(operation)
    return _keras.module_of(kind).startswith("keras.src.") and not overridden(operation, kind)


@functools.lru_cache(maxsize=1024)
def _by_class(kind: type, parent: type) -> tuple[str, ...]:
    """Return what a class overrides itself, or by a mixin before or behind the parent."""
    if kind is parent:
        return ()
    return tuple(name for name in dir(kind) if _computes(name) and _differs(kind, parent, name))


def _computes(name: str) -> bool:
    special = name.startswith("__") and name.endswith("__")
    return name in COMPUTING if special else name not in HARMLESS


def _differs(kind: type, parent: type, name: str) -> bool:
    found = inspect.getattr_static(kind, name)
    if hasattr(parent, name):
        return found is not inspect.getattr_static(parent, name)
    # A property takes the place of an attribute that the parent's code sets, such as a kernel.
    return name in COMPUTING or (hasattr(found, "__set__") and name in _names_used(parent))


@functools.lru_cache(maxsize=256)
def _names_used(parent: type) -> frozenset[str]:
    """Return all names in the code of a class and of its parents below Keras' base classes."""
    bases = keras.layers.Layer if issubclass(parent, keras.layers.Layer) else keras.Operation
    kinds = [kind for kind in parent.__mro__ if kind not in bases.__mro__]
    return frozenset(
        name for kind in kinds for value in vars(kind).values() for name in _names_in(value)
    )


def _names_in(value: Any) -> Iterable[str]:
    value = inspect.unwrap(getattr(value, "fget", None) or getattr(value, "__func__", value))
    codes = [value.__code__] if inspect.isfunction(value) else []
    while codes:
        code = codes.pop()
        yield from code.co_names
        codes += [each for each in code.co_consts if isinstance(each, CodeType)]
