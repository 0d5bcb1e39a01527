"""Which variables an operation may use: what its attributes, code and arguments lead to."""

from __future__ import annotations

import dis
import functools
import sys
from collections import UserList, deque
from collections.abc import Iterable, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import ref

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.tracing.rules.overriding import WRAPPED
from prune_keras.tracing.rules.registry import ruled_parent

LIBRARIES = sys.stdlib_module_names | frozenset(
    "PIL absl einops flax google h5py jax jaxlib keras keras_hub matplotlib ml_dtypes numpy optree "
    "pandas prune_keras scipy sklearn tensorflow torch tqdm tree wrapt".split()
)
_ENDS = (str, bytes, int, float, complex, type(None), np.ndarray, np.generic, keras.KerasTensor)


def reached_from(*starts: Any) -> dict[int, Any]:
    """Return all objects that some lead to, by their id: held, closed over, or read as globals.

    Libraries are not looked into, a graph's calls are no way from one layer to another, and
    functions of layers' classes count as far as a user wrote them.
    """
    seen: dict[int, Any] = {}
    waiting = [*starts]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or _ends(thing) or _keras.is_node(thing):
            continue
        seen[id(thing)] = thing
        waiting += _led_to(thing)
    return seen


def _ends(thing: Any) -> bool:
    return isinstance(thing, _ENDS) and getattr(thing, "dtype", None) != np.dtype(object)


def holds(reached: Mapping[int, Any], variable: keras.Variable) -> bool:
    """Tell whether a variable, or the backend's one in it, is among what is reached."""
    return id(variable) in reached or id(_keras.held_in(variable)) in reached


def own_code(operation: Any) -> list[Any]:
    """Return what an operation calls that may run code of a user's: activations, regularizers.

    Of layers that a user registered a rule for, that rule knows.
    """
    inside = _keras.all_layers(operation) if _keras.is_layer(operation) else []
    by_keras = [layer for layer in inside if of_library(ruled_parent(layer))]
    held = [v for layer in by_keras for name, v in vars(layer).items() if name not in WRAPPED]
    return [value for value in held if callable(value) and not _keras.is_layer(value)]


def of_library(thing: Any) -> bool:
    """Tell whether a function, or the class of an object, comes from a library."""
    named = thing if isinstance(thing, FunctionType | type) else type(thing)
    if isinstance(thing, functools.partial | MethodType):
        return False
    return _keras.module_of(named).partition(".")[0] in LIBRARIES


def _led_to(thing: Any) -> Iterable[Any]:
    if isinstance(thing, keras.Variable):
        return ()
    if isinstance(thing, Mapping):
        return thing.values()
    if isinstance(thing, list | tuple | set | frozenset | deque | UserList):
        return thing
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist()
    if isinstance(thing, SimpleNamespace):
        return vars(thing).values()
    if isinstance(thing, functools.partial):
        return (thing.func, *thing.args, *thing.keywords.values())
    if isinstance(thing, MethodType):
        return thing.__self__, thing.__func__
    if isinstance(thing, ref):
        return (thing(),)
    if isinstance(thing, FunctionType):
        return _of_function(thing)
    if isinstance(thing, type):
        return () if of_library(thing) else vars(thing).values()
    return () if isinstance(thing, ModuleType) else _of_object(thing)


def _of_function(function: FunctionType) -> Iterable[Any]:
    """Return what a function closes over, its defaults, and the globals that its code loads."""
    held = [*map(_content, function.__closure__ or ())]
    held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    held += vars(function).values()
    if of_library(function):
        return held
    loaded, names = _names(function.__code__)
    for value in (function.__globals__.get(name) for name in loaded):
        if not isinstance(value, ModuleType):
            held.append(value)
        elif value.__name__.partition(".")[0] not in LIBRARIES:
            held += [vars(value)[name] for name in names if name in vars(value)]
    return held


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # of a name that is bound later
        return None


def _names(code: CodeType) -> tuple[set[str], set[str]]:
    """Return the globals that code and functions in it load, and all names in it."""
    loaded, names, codes = set(), set(), [code]
    while codes:
        each = codes.pop()
        names |= {*each.co_names}
        loaded |= {i.argval for i in dis.get_instructions(each) if i.opname == "LOAD_GLOBAL"}
        codes += [constant for constant in each.co_consts if isinstance(constant, CodeType)]
    return loaded, names


def _of_object(thing: Any) -> Iterable[Any]:
    root = _keras.module_of(type(thing)).partition(".")[0]
    if root in LIBRARIES - {"keras", "keras_hub"}:
        # Of a `tf.function`, and of what a decorator made.
        return [getattr(thing, name, None) for name in ("python_function", "__wrapped__")]
    slots = [name for kind in type(thing).__mro__ for name in _slots(kind)]
    held = [*getattr(thing, "__dict__", {}).values(), *(getattr(thing, n, None) for n in slots)]
    kinds = [kind for kind in type(thing).__mro__ if not of_library(kind)]
    return [*held, *(value for kind in kinds for value in _functions(kind))]


def _slots(kind: type) -> tuple[str, ...]:
    given = vars(kind).get("__slots__", ())
    return (given,) if isinstance(given, str) else tuple(given)


def _functions(kind: type) -> Iterable[Any]:
    """Return the functions of a class, those of properties and static methods too."""
    for value in vars(kind).values():
        yield from (getattr(value, name, None) for name in ("fget", "__func__"))
        yield value
