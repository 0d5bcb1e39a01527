"""Debiasing: make the scores of different families comparable before they are ranked together.

A debias is a function from the scores of one family, `(neurons,)`, to scores of the same shape; one
with a second parameter is also given the family's `Saving`. It must keep the order within the
family.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from prune_keras.debias.affine import Affine
from prune_keras.debias.functions import (
    Saving,
    flops,
    l2,
    max,
    mean,
    median,
    minmax,
    none,
    params,
    rank,
    robust,
    sum,
    zscore,
)
from prune_keras.debias.sensitive import Curve, Sensitivity
from prune_keras.validation import named

Debias = Callable[..., np.ndarray]
DEBIASES: dict[str, Debias] = {
    function.__name__: function
    for function in (
        *(none, sum, mean, max, median, l2, zscore, minmax, rank, robust),
        *(flops, params),
    )
}


def get(identifier: Any) -> Debias:
    """Return a debias by name, or a callable as it is.

    Args:
        identifier: one of `{"none", "sum", "mean", "max", "median", "l2", "zscore", "minmax",
            "rank", "robust", "flops", "params"}`, a function from `(neurons,)` scores, and
            optionally the family's `Saving`, to `(neurons,)` scores, an `Affine`, or a config from
            `serialize`.

    Raises:
        ValueError: if the name is unknown.

    Example:

    >>> get("mean").__name__
    'mean'
    """
    if isinstance(identifier, dict):
        return _from_config(identifier)
    if callable(identifier):
        return identifier
    return named("debias", identifier, DEBIASES, "a function of scores")


def _from_config(config: dict[str, Any]) -> Debias:
    if config.get("name") == "affine":
        return Affine({family: tuple(pair) for family, pair in config["families"].items()})
    if config.get("name") == "sensitivity":
        curves = {f: Curve(n, tuple(s), tuple(d)) for f, (n, s, d) in config["curves"].items()}
        return Sensitivity(config["monitor"], config["mode"], config["start"], curves)
    return get(config.get("name"))


def serialize(debias: Debias) -> dict[str, Any]:
    """Return a config from which `get` makes the same debias."""
    if isinstance(debias, Affine):
        return {"name": "affine", "families": dict(debias.families)}
    if isinstance(debias, Sensitivity):
        curves = {f: [c.size, [*c.shares], [*c.drops]] for f, c in debias.curves.items()}
        measured = {"monitor": debias.monitor, "mode": debias.mode, "start": debias.start}
        return {"name": "sensitivity", **measured, "curves": curves}
    return {"name": debias.__name__}


def apply(debias: Debias, scores: np.ndarray, saving: Saving) -> np.ndarray:
    """Call a debias with what it takes.

    Args:
        debias: the function.
        scores: `(neurons,)`, scores of one family.
        saving: what goes with one neuron of the family.

    Returns:
        `(neurons,)`.

    Example:

    >>> apply(np.sqrt, np.array([4.0, 9.0]), Saving("conv", params=10, flops=1000))
    array([2., 3.])
    """
    return debias(scores, saving) if _takes_two(debias) else debias(scores)


def _takes_two(debias: Debias) -> bool:
    try:
        parameters = inspect.signature(debias).parameters.values()
    except ValueError:  # written in C
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(required) == 2


__all__ = [
    "Affine",
    "Curve",
    "Saving",
    "Sensitivity",
    "apply",
    "flops",
    "get",
    "l2",
    "max",
    "mean",
    "median",
    "minmax",
    "none",
    "params",
    "rank",
    "robust",
    "serialize",
    "sum",
    "zscore",
]
