"""Criteria: how much each unit of a layer matters; higher = keep.

A criterion is a function of a kernel laid out as `(inputs, units)` that returns scores `(units,)`,
or a frozen record of what is to be measured, which `prune_keras.score` does for all layers at once.
Those that look at samples reduce what they see while samples pass, so that no activations are kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from prune_keras.criteria.data_driven import (
    Activations,
    Discrimination,
    Gradients,
    Oracle,
    Reconstruction,
    WeightGradients,
    activation_std,
    apoz,
    mean_activation,
    sensitivity,
    taylor,
    taylor_weights,
)
from prune_keras.criteria.data_free import BatchNormScale, Random, geometric_median, l1, l2
from prune_keras.criteria.mixed import Mean, Switch
from prune_keras.validation import named

Criterion = Callable[..., Any]

CRITERIA: dict[str, Any] = {
    criterion.__name__: criterion
    for criterion in (
        *(l1, l2, BatchNormScale(), geometric_median, Random()),
        *(apoz, mean_activation, activation_std, Reconstruction()),
        *(taylor, taylor_weights, sensitivity, Discrimination(), Oracle()),
    )
}
WITH_LOSS = (Gradients, Oracle)
WITH_DATA = (Activations, Gradients, WeightGradients, Reconstruction, Discrimination, Oracle)
WITH_ARGUMENTS: dict[str, Any] = {
    "random": Random,
    "discrimination": Discrimination,
    "mean": Mean,
    "switch": Switch,
}
RECORDS = (*WITH_DATA, BatchNormScale, Random, Mean, Switch)


def get(identifier: Any) -> Any:
    """Return a criterion by name, or one as it is.

    Args:
        identifier: one of `{"l1", "l2", "bn_scale", "geometric_median", "random", "apoz",
            "mean_activation", "activation_std", "reconstruction", "taylor", "taylor_weights",
            "sensitivity", "discrimination", "oracle"}`, several of them as in
            `"mean(taylor, l2)"`, a function from a kernel `(inputs, units)` to scores `(units,)`, a
            record such as `Activations`, `Mean` or `Switch`, or a config from `serialize`.

    Raises:
        ValueError: if the name is unknown.

    Example:

    >>> get("mean(taylor, l2)") == Mean(["taylor", "l2"])
    True
    """
    several = re.fullmatch(r"mean\((.+)\)", identifier) if isinstance(identifier, str) else None
    if several:
        return Mean([name.strip() for name in several[1].split(",")])
    if isinstance(identifier, dict):
        return _from_config(identifier)
    if callable(identifier) or isinstance(identifier, RECORDS):
        return identifier
    return named("criterion", identifier, CRITERIA, "a function of a kernel")


def serialize(criterion: Any) -> dict[str, Any]:
    """Return a config from which `get` makes the same criterion.

    Raises:
        ValueError: if the criterion, or a part of it, is not one of prune_keras' own.

    Example:

    >>> serialize(Switch("taylor", "l2", after=3))
    {'name': 'switch', 'first': {'name': 'taylor'}, 'then': {'name': 'l2'}, 'after': 3}
    """
    for name, kind in WITH_ARGUMENTS.items():
        if isinstance(criterion, kind):
            held = {field.name: getattr(criterion, field.name) for field in fields(kind)}
            return {"name": name} | {key: _serialized(value) for key, value in held.items()}
    own = getattr(criterion, "__name__", "")
    known = CRITERIA.get(own)
    if known == criterion:
        return {"name": own}
    if (
        isinstance(known, WeightGradients)
        and replace(known, outputs=criterion.outputs) == criterion
    ):
        return {"name": own, "outputs": criterion.outputs}
    raise ValueError(
        f"Only criteria of prune_keras can be stored by name. Received: {criterion!r}. "
        "Keep a criterion of your own in code."
    )


def _serialized(value: Any) -> Any:
    if isinstance(value, tuple):
        return [serialize(each) for each in value]
    return value if value is None or isinstance(value, int) else serialize(value)


def _from_config(config: dict[str, Any]) -> Any:
    arguments = dict(config)
    kind = WITH_ARGUMENTS.get(arguments.pop("name", ""))
    if kind:
        return kind(**arguments)
    found = get(config.get("name"))
    return replace(found, **arguments) if arguments else found


def parts(criterion: Any) -> tuple:
    """Return the criteria that a criterion is made of, or itself."""
    if isinstance(criterion, Mean):
        return tuple(part for each in criterion.criteria for part in parts(each))
    if isinstance(criterion, Switch):
        return (*parts(criterion.first), *parts(criterion.then))
    return (criterion,)


def needs_data(criterion: Any) -> bool:
    """Tell whether a criterion looks at samples."""
    return any(isinstance(part, WITH_DATA) for part in parts(criterion))


def needs_loss(criterion: Any) -> bool:
    """Tell whether a criterion looks at the loss that the model is compiled with."""
    return any(
        isinstance(part, WITH_LOSS) or (isinstance(part, WeightGradients) and part.of == "loss")
        for part in parts(criterion)
    )


def needs_targets(criterion: Any) -> bool:
    """Tell whether a criterion looks at the targets of samples."""
    return needs_loss(criterion) or any(isinstance(p, Discrimination) for p in parts(criterion))


def at_round(criterion: Any, round: int) -> Any:
    """Return what a criterion is in a round, counted from 0."""
    return at_round(criterion.at(round), round) if isinstance(criterion, Switch) else criterion


__all__ = [
    "Activations",
    "BatchNormScale",
    "Discrimination",
    "Gradients",
    "Mean",
    "Oracle",
    "Random",
    "Reconstruction",
    "Switch",
    "WeightGradients",
    "activation_std",
    "apoz",
    "geometric_median",
    "get",
    "l1",
    "l2",
    "mean_activation",
    "needs_data",
    "sensitivity",
    "serialize",
    "taylor",
    "taylor_weights",
]
