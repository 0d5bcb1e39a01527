"""Diverse subsets: which neurons of a family stay is drawn so that they differ from each other.

How many stay is up to a plan; which ones is drawn from a determinantal point process (DPP), which
gives a subset the more weight the larger the volume that its activations span.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prune_keras.criteria.activations import pooled
from prune_keras.graph import Family, Graph
from prune_keras.plan import Plan
from prune_keras.samples.batches import Samples
from prune_keras.samples.subject import Subject
from prune_keras.tracing import trace


def diversify(
    model: Any, plan: Plan, data: Any, seed: int | None = None, data_batch_size: int | None = None
) -> Plan:
    r"""Return a plan of the same widths that keeps neurons which differ.

    Of a family of which the plan keeps `k` neurons, a set `S` of `k` is drawn with a probability
    proportional to `det(L_S)`, with `L_ij = exp(-|v_i - v_j|^2 / m)`: `v_i` are the neuron's
    activations on the samples, averaged over positions, and `m` is the median of those squared
    distances in the family that are not zero. Families that no layer shows keep what the plan says.

    Args:
        model: a built functional or Sequential model; it is not changed.
        plan: how many neurons of each family to keep.
        data: inputs, `(inputs, targets)` or a dataset of batches.
        seed: seed of the draw. Defaults to None: different at each call.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.

    Returns:
        A `Plan`.

    Raises:
        ValueError: if the plan does not fit the model, or there are no samples.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    ... )
    >>> plan = prune_keras.select(
    ...     prune_keras.trace(model), {"a": np.array([0.3, 0.1, 0.2])}, fraction=0.4
    ... )
    >>> prune_keras.diversify(model, plan, np.random.rand(16, 4), seed=0).new_widths
    {'a': 2}

    Reference:

    - Mariet and Sra, 2016, Diversity Networks, ICLR, https://arxiv.org/abs/1511.05077
    - Kulesza and Taskar, 2011, k-DPPs: Fixed-Size Determinantal Point Processes, ICML
    """
    graph = trace(model)
    plan.check_fits(graph.widths)
    rng = np.random.default_rng(seed)
    samples = Samples.of(data, data_batch_size)
    features, _ = pooled(Subject(model, graph, samples), "diversify", targets=False)
    gone = [_gone(graph, family, plan, features, rng) for family in graph.families]
    neurons = np.concatenate(gone)
    kept = {
        path: np.flatnonzero(~np.isin(graph.producers[path].neurons, neurons))
        for path in graph.widths
    }
    return Plan(kept, plan.widths)


def _gone(
    graph: Graph,
    family: Family,
    plan: Plan,
    features: dict[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the neurons of a family that go."""
    first = graph.producers[family.paths[0]]
    stays = np.isin(family.neurons, first.neurons[plan.kept[first.path]])
    shown = [path for path in family.paths if path in features]
    if shown and not stays.all():
        columns = [
            features[shown[0]][:, graph.producers[shown[0]].neurons == neuron].mean(axis=1)
            for neuron in family.neurons
        ]
        drawn = sample(gaussian(np.stack(columns)), int(stays.sum()), rng)
        stays = np.isin(np.arange(family.size), drawn)
    return family.neurons[~stays]


def gaussian(vectors: np.ndarray) -> np.ndarray:
    """Return how alike vectors are, as a Gaussian of their distance.

    Args:
        vectors: `(items, features)`.

    Returns:
        `(items, items)`, from 0 to 1.

    Example:

    >>> gaussian(np.array([[0.0], [0.0], [1.0]])).round(2)
    array([[1.  , 1.  , 0.37],
           [1.  , 1.  , 0.37],
           [0.37, 0.37, 1.  ]])
    """
    squares = np.square(vectors).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0)
    typical = distances[~np.eye(len(distances), dtype=bool)]
    positive = typical[typical > 0]
    return np.exp(-distances / (np.median(positive) if positive.size else 1.0))


def sample(likeness: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a subset of a fixed size from a DPP, exactly.

    Args:
        likeness: `(items, items)`, symmetric and positive semi-definite.
        count: size of the subset.
        rng: where the draw comes from.

    Returns:
        `(count,)`, sorted numbers of items.

    Example:

    >>> sample(np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), 2,
    ...        np.random.default_rng(0))[-1]
    np.int64(2)
    """
    values, vectors = np.linalg.eigh(likeness)
    values = np.maximum(values, 1e-10 * max(values.max(), 1e-300))
    return _drawn(vectors[:, _eigenvectors(values / values.max(), count, rng)], rng)


def _drawn(basis: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one item a column of an orthonormal basis `(items, count)`; sorted.

    Each item is drawn by what of it lies outside of the span of those before, `left`, which a
    Cholesky decomposition of the projection `basis @ basis.T` gives row after row.
    """
    items, count = basis.shape
    left, rows = np.square(basis).sum(axis=1), np.zeros((count, items))
    found: list[int] = []
    for step in range(count):
        item = int(rng.choice(items, p=left / left.sum()))
        row = basis @ basis[item] - rows[:step, item] @ rows[:step]
        rows[step] = row / np.sqrt(left[item])
        found.append(item)
        left = np.maximum(left - np.square(rows[step]), 0)
        left[found] = 0
    return np.sort(found)


def _eigenvectors(values: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Draw which eigenvectors span the subset, by elementary symmetric polynomials."""
    # logarithms: products of hundreds of eigenvalues leave the range of floats
    logs = np.log(values)
    sums = np.full((count + 1, len(values) + 1), -np.inf)
    sums[0] = 0.0
    for size in range(1, count + 1):
        sums[size, 1:] = np.logaddexp.accumulate(logs + sums[size - 1, :-1])
    found, left = [], count
    for place in range(len(values), 0, -1):
        if left == 0:
            break
        share = logs[place - 1] + sums[left - 1, place - 1] - sums[left, place]
        if np.log(rng.uniform()) < share:
            found.append(place - 1)
            left -= 1
    return found
