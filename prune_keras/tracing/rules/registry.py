"""Which rule an operation has: the table that rules register in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import keras

from prune_keras.tracing.rule import Rule
from prune_keras.tracing.rules.overriding import overridden
from prune_keras.tracing.visit import Visit

Counts = Callable[[Any, Any], None]
AnyRule = TypeVar("AnyRule", bound=Rule)

_RULES: dict[type, Rule] = {}
# Those of classes in libraries that nobody has to have, by module and name.
_RULES_BY_NAME: dict[str, Rule] = {}
_COUNTS_BY_NAME: dict[str, Counts] = {}


def register_rule(*operations: type) -> Callable[[AnyRule], AnyRule]:
    """Register a rule for one or more operation classes.

    Args:
        *operations: subclasses of `keras.layers.Layer` or `keras.Operation`.

    Returns:
        A decorator for the rule, a function of a `Visit` and a `Tracer` that returns the ids of
        the output, or a list of those of all outputs. It replaces an older rule.

    Raises:
        ValueError: if something else than such classes is given.

    Example:

    >>> import keras, prune_keras
    >>> class Twice(keras.layers.Layer):
    ...     def call(self, x):
    ...         return 2 * x
    >>> @prune_keras.register_rule(Twice)
    ... def twice(visit, trace):
    ...     return trace.pointwise(visit)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3), Twice(), keras.layers.Dense(2)]
    ... )
    >>> prune_keras.trace(model).neurons
    3
    """

    if not operations or not all(
        isinstance(each, type) and issubclass(each, keras.Operation) for each in operations
    ):
        raise ValueError(
            "A rule must be registered for at least one class, all of them classes of layers or "
            f"operations. Received: {operations}. Write @register_rule(YourLayer)."
        )

    def register(rule: AnyRule) -> AnyRule:
        _RULES.update(dict.fromkeys(operations, rule))
        return rule

    return register


def register_by_name(*names: str) -> Callable[[AnyRule], AnyRule]:
    """Register a rule for classes that are not imported.

    Args:
        *names: the module and the name of each, e.g. `"library.layers.Block"`.
    """

    def register(rule: AnyRule) -> AnyRule:
        _RULES_BY_NAME.update(dict.fromkeys(names, rule))
        return rule

    return register


def register_counts(*names: str) -> Callable[[Counts], Counts]:
    """Register what classes of models count themselves, in attributes of their own.

    Args:
        *names: the module and the name of each class, which is not imported.

    Returns:
        A decorator for a function of such a model and a `Tracer` that has seen all of its layers.
    """

    def register(counts: Counts) -> Counts:
        _COUNTS_BY_NAME.update(dict.fromkeys(names, counts))
        return counts

    return register


def counts_of(model: Any) -> list[Counts]:
    """Return what tells of the attributes of a model that count channels."""
    names = (_full_name(kind) for kind in type(model).__mro__)
    return [_COUNTS_BY_NAME[name] for name in names if name in _COUNTS_BY_NAME]


def rule_for(operation: Any) -> Rule | None:
    """Return the rule of an operation, or None.

    A subclass shares its parent's rule as long as it changes nothing that computes.
    """
    parent = ruled_parent(operation)
    return None if parent is None or overridden(operation, parent) else _RULES[parent]


def ruled_parent(operation: Any) -> type | None:
    """Return the class that an operation would share the rule of, or None."""
    return next((parent for parent in type(operation).__mro__ if _has_rule(parent)), None)


def _has_rule(kind: type) -> bool:
    rule = _RULES_BY_NAME.get(_full_name(kind))
    if kind not in _RULES and rule is not None:
        _RULES[kind] = rule
    return kind in _RULES


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def ruled_by_name(operation: Any) -> bool:
    """Tell whether the rule of an operation came with its class' name, and not from a user."""
    parent = ruled_parent(operation)
    return parent is not None and _RULES[parent] is _RULES_BY_NAME.get(_full_name(parent))


def why_unruled(visit: Visit) -> str:
    """Say that an operation has no rule, and what of its parent's it changes."""
    parent, kind = ruled_parent(visit.operation), type(visit.operation).__name__
    reason = f"no rule for the operation {visit.path} ({kind})"
    if parent is None:
        return reason
    names = ", ".join(overridden(visit.operation, parent))
    return f"{reason}, which overrides {names} of {parent.__name__}"


def named(module: Any, names: str) -> tuple[type, ...]:
    """Return the classes of these names, separated by spaces; older Keras has fewer."""
    return tuple(getattr(module, name) for name in names.split() if hasattr(module, name))
