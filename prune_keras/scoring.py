"""Scoring: one score a unit of every prunable layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from prune_keras import criteria
from prune_keras.graph import Graph
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.tracing import trace
from prune_keras.validation import check_seed


def score(
    model: Any,
    criterion: Any = "l2",
    data: Any = None,
    seed: int | None = None,
    data_batch_size: int | None = None,
) -> dict[str, np.ndarray]:
    """Score the units of every prunable layer.

    Units that no output shows, such as the heads of an attention or the units of a cell below
    another one, are scored by `"l2"` where the criterion looks at activations.

    Args:
        model: a built functional or Sequential model; compiled, for criteria that look at the loss
            (`"taylor"`, `"taylor_weights"`, `"oracle"`).
        criterion: name of a criterion, or what else `prune_keras.criteria.get` takes. Defaults
            to `"l2"`.
        data: samples for a data-driven criterion: inputs, `(inputs, targets)` or a dataset of
            batches; with targets where it looks at the loss, or at classes, and sample weights
            if the loss is to be weighted. Of arrays, 4,096 samples are looked at. Defaults to None.
        seed: seed of what a criterion draws. Defaults to None: different at each call.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.

    Returns:
        Path of the layer -> `(units,)` float64 scores, higher = keep.

    Raises:
        ValueError: if the criterion needs data, targets or a compiled loss that are not there, or
            a score is not finite.

    Example:

    >>> import keras, prune_keras
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> {path: scores.shape for path, scores in prune_keras.score(model, "l1").items()}
    {'a': (3,)}
    """
    data = Samples.of(data, data_batch_size)
    check_seed(seed)
    return score_graph(model, trace(model), criteria.get(criterion), data, seed)


def score_graph(
    model: Any,
    graph: Graph,
    criterion: Any,
    data: Any = None,
    seed: int | None = None,
    round: int = 0,
) -> dict[str, np.ndarray]:
    """Score with a graph and a criterion that are at hand already, in a round counted from 0."""
    criterion = criteria.at_round(criterion, round)
    check_needs(model, criterion, data)
    scores = criteria.measured(criterion, Subject(model, graph, data, seed))
    for path, values in scores.items():
        _check_finite(path, values, criterion)
    return scores


def indistinct(scores: Mapping[str, np.ndarray], criterion: Any) -> tuple[str, ...]:
    """Return a note on layers of whose units all have the same score, if there are any.

    Args:
        scores: path of the layer -> `(units,)` scores.
        criterion: what they are scores of.

    Example:

    >>> indistinct({"a": np.zeros(3), "b": np.arange(3.0)}, criteria.taylor)
    ("scores of 'taylor' tell no units apart in: a; there, units go by position",)
    """
    equal = [path for path, each in scores.items() if len(each) > 1 and np.ptp(each) == 0]
    name = getattr(criterion, "__name__", repr(criterion))
    why = f"scores of {name!r} tell no units apart in: {', '.join(equal)}"
    return (f"{why}; there, units go by position",) if equal else ()


def check_needs(model: Any, criterion: Any, data: Any) -> None:
    """Raise a ValueError unless there are the data and the loss that a criterion looks at."""
    check_samples(criterion, data)
    if criteria.needs_loss(criterion) and not getattr(model, "compiled", False):
        raise ValueError(
            f"The criterion {criterion.__name__!r} needs the model's loss. Received: a model that "
            "is not compiled. Call model.compile(optimizer, loss) first."
        )


def check_samples(criterion: Any, data: Any) -> None:
    """Raise a ValueError unless there are the data that a criterion looks at."""
    if criteria.needs_data(criterion) and data is None:
        raise ValueError(
            f"The criterion {criterion.__name__!r} looks at samples. Received: data=None. "
            "Pass data=inputs, (inputs, targets), or a dataset of batches."
        )


def _check_finite(path: str, values: np.ndarray, criterion: Any) -> None:
    if not np.isfinite(values).all():
        raise ValueError(
            f"Scores must be finite. Received: {int((~np.isfinite(values)).sum())} NaN or infinite "
            f"scores of {criterion.__name__!r} for {path!r}. "
            "Look for NaN or infinity in the data and in the weights."
        )
