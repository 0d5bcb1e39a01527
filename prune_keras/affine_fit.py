"""Fit a debias to measured changes of the loss, of a few neurons of each family."""

from __future__ import annotations

from typing import Any

import numpy as np

from prune_keras import criteria
from prune_keras.criteria.oracle import loss_changes
from prune_keras.debias import Affine
from prune_keras.debias.affine import fit
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.scoring import check_needs, score_graph
from prune_keras.selection.scores import combine_members
from prune_keras.tracing import trace
from prune_keras.validation import check_count


def fit_affine(
    model: Any,
    criterion: Any = "l2",
    data: Any = None,
    combine: str = "mean",
    per_family: int = 16,
    seed: int | None = None,
    data_batch_size: int | None = None,
) -> Affine:
    """Fit a scale and a shift for each family, so that scores foretell what losing a neuron costs.

    Of each family, some neurons are silenced in turn and the change of the loss is measured, one
    forward pass each; scale and shift are those of least squares.

    Args:
        model: a built functional or Sequential model, compiled; it is not changed.
        criterion: the criterion that the debias is for; give it to `prune`, too. Defaults to
            `"l2"`.
        data: `(inputs, targets)` or a dataset of such batches.
        combine: one of `{"mean", "sum", "max", "min"}`. Defaults to `"mean"`.
        per_family: how many neurons of a family to silence at most, spread evenly over the order of
            its scores; with 1, only a shift is fitted. Defaults to 16.
        seed: seed of what the criterion draws.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.

    Returns:
        An `Affine` debias for this model, and for the thinner ones that it becomes.

    Raises:
        ValueError: if an argument is out of range, or there are no data, targets or loss.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> keras.utils.set_random_seed(0)
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> data = (np.random.rand(16, 4), np.random.rand(16, 2))
    >>> debias = prune_keras.fit_affine(model, "l2", data)
    >>> thin, report = prune_keras.prune(model, fraction=0.5, debias=debias)
    """
    check_count("per_family", per_family)
    data = Samples.of(data, data_batch_size)
    graph = trace(model)
    subject = Subject(model, graph, data, seed)
    scores = score_graph(model, graph, criteria.get(criterion), data, seed)
    combined = combine_members(graph, scores, combine)
    chosen = [_spread(values, per_family) for values in combined]
    neurons = [f.neurons[c].tolist() for f, c in zip(graph.families, chosen, strict=True)]
    check_needs(model, criteria.Oracle(), data)
    changes = loss_changes(subject, neurons)
    families = {}
    for family, values, places, known in zip(
        graph.families, combined, chosen, neurons, strict=True
    ):
        families[family.name] = fit(values[places], np.array([changes[n] for n in known]))
    return Affine(families)


def _spread(scores: np.ndarray, count: int) -> np.ndarray:
    """Return the positions of scores from the lowest to the highest, evenly spread."""
    order = np.argsort(scores, kind="stable")
    return order[np.unique(np.linspace(0, len(scores) - 1, count).round().astype(int))]
