"""Criteria: how much each unit of a layer matters; higher = keep.

A data-free criterion is a function of a kernel laid out as `(inputs, units)` and returns scores
`(units,)`. A data-driven one is an `Activations` or a `Gradients` criterion; its statistic is
reduced over the positions of a feature map while samples pass, so that no activations are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prune_keras.criteria.data_driven import (
    Activations,
    Gradients,
    apoz,
    mean_activation,
    taylor,
)
from prune_keras.criteria.data_free import Random, l1, l2

Criterion = Callable[..., Any]

CRITERIA: dict[str, Any] = {
    "l1": l1,
    "l2": l2,
    "random": Random(),
    "apoz": apoz,
    "mean_activation": mean_activation,
    "taylor": taylor,
}


def get(identifier: Any) -> Any:
    """Return a criterion by name, or a callable as it is.

    Args:
        identifier: one of `{"l1", "l2", "random", "apoz", "mean_activation", "taylor"}`, a
            function from a kernel `(inputs, units)` to scores `(units,)`, an `Activations` or
            `Gradients` criterion, or a config from `serialize`.

    Raises:
        ValueError: if the name is unknown.

    Example:

    >>> get("l2").__name__
    'l2'
    """
    if isinstance(identifier, dict):
        return _from_config(identifier)
    if callable(identifier):
        return identifier
    if identifier in CRITERIA:
        return CRITERIA[identifier]
    raise ValueError(
        f"`criterion` must be one of {sorted(CRITERIA)} or a function of a kernel. "
        f"Received: criterion={identifier!r}."
    )


def serialize(criterion: Any) -> dict[str, Any]:
    """Return a config from which `get` makes the same criterion."""
    if isinstance(criterion, Random):
        return {"name": "random", "seed": criterion.seed}
    return {"name": criterion.__name__}


def _from_config(config: dict[str, Any]) -> Any:
    if config.get("name") == "random":
        return Random(config.get("seed"))
    return get(config.get("name"))


def needs_data(criterion: Any) -> bool:
    """Tell whether a criterion looks at samples."""
    return isinstance(criterion, Activations | Gradients)


__all__ = [
    "Activations",
    "Gradients",
    "Random",
    "apoz",
    "get",
    "l1",
    "l2",
    "mean_activation",
    "needs_data",
    "serialize",
    "taylor",
]
