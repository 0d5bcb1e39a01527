"""A scan of sensitivity: the metric of a model, against the share cut of one family at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from prune_keras import _keras, criteria
from prune_keras.criteria.oracle import readers_of, silenced
from prune_keras.debias import Curve, Sensitivity
from prune_keras.graph import Family, Graph
from prune_keras.plan import Plan
from prune_keras.samples.batches import Samples, check_batch_size, is_arrays
from prune_keras.samples.inputs import check_data
from prune_keras.scoring import score_graph
from prune_keras.selection.scores import combine_members
from prune_keras.surgery import shrink
from prune_keras.tracing import trace
from prune_keras.validation import check_seed, check_share, plain


def sensitivity(
    model: Any,
    data: Any,
    criterion: Any = "l2",
    shares: Sequence[float] = (0.1, 0.3, 0.5, 0.7),
    monitor: str = "accuracy",
    combine: str = "mean",
    seed: int | None = None,
    data_batch_size: int | None = None,
) -> Sensitivity:
    """Measure how the metric falls with the share that is cut of one family at a time.

    The neurons of lowest score are silenced in a copy of the model, which is evaluated once for
    each family and share, and once with the whole family silenced, so that a layer that can lose
    much at no cost is not emptied for it. What comes back is a debias: with it, one global ranking
    cuts every layer by the ratio at which its own metric has fallen as far as that of all others.

    Args:
        model: a built functional or Sequential model, compiled; it is not changed.
        data: `(inputs, targets)`, with `sample_weights` or without, or a dataset of such batches,
            that is neither trained on nor used for the last test.
        criterion: the criterion that neurons go by; data-driven ones look at the same data.
            Defaults to `"l2"`.
        shares: what to cut of a family, rising, each in (0, 1); at least one neuron is cut, and of
            several one stays. Defaults to `(0.1, 0.3, 0.5, 0.7)`.
        monitor: name of what `evaluate` returns. Defaults to `"accuracy"`.
        combine: one of `{"mean", "sum", "max", "min"}`. Defaults to `"mean"`.
        seed: seed of what the criterion draws.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.

    Returns:
        A `prune_keras.debias.Sensitivity` for this model, and for the thinner ones it becomes.

    Raises:
        ValueError: if an argument is out of range, the model is not compiled, or it has no such
            metric.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8, name="a"), keras.layers.Dense(2)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> data = (np.random.rand(16, 4), np.random.rand(16, 2))
    >>> table = prune_keras.sensitivity(model, data, shares=(0.25, 0.5), monitor="loss")
    >>> [(row["family"], row["share"]) for row in table.rows()]
    [('a', 0.25), ('a', 0.5), ('a', 1.0)]
    >>> thin, report = prune_keras.prune(model, target={"params": 0.5}, debias=table)
    """
    shares = _rising(shares)
    _check(model)
    check_seed(seed)
    widths = trace(model).widths
    check_data(data, _keras.graph_of(model).inputs, 1)
    check_batch_size(data_batch_size)
    twin = shrink(model, Plan.everything(widths))
    _check_compiled(twin, model)
    graph = trace(twin)
    scores = score_graph(
        twin, graph, criteria.get(criterion), Samples.of(data, data_batch_size), seed
    )
    measure = partial(_measure, twin, data, data_batch_size, monitor)
    start = measure()
    mode = _keras.direction(twin, monitor)
    sign = 1 if mode == "max" else -1
    curves = {}
    for family, values in zip(graph.families, combine_members(graph, scores, combine), strict=True):
        order = family.neurons[np.argsort(values, kind="stable")]
        counts = sorted({*(_count(share, family) for share in shares), family.size})
        found = [_without(graph, order[:count], measure) for count in counts]
        curves[family.name] = Curve(
            family.size,
            tuple(count / family.size for count in counts),
            tuple(sign * (start - metric) for metric in found),
        )
    return Sensitivity(monitor, mode, start, curves)


def _rising(shares: Any) -> tuple[float, ...]:
    """Return shares that are read once, as Python's numbers."""
    if not isinstance(shares, Iterable) or isinstance(shares, str):
        raise ValueError(f"`shares` must be several shares. Received: shares={shares!r}.")
    shares = tuple(map(plain, shares))
    for share in shares:
        check_share("shares", share)
    if not shares or list(shares) != sorted(set(shares)):
        raise ValueError(f"`shares` must be rising. Received: shares={shares}.")
    return shares


def _check(model: Any) -> None:
    if not getattr(model, "compiled", False):
        raise ValueError(
            "A sensitivity is measured by the model's metrics. Received: a model that is not "
            "compiled. Call model.compile(optimizer, loss, metrics) first."
        )


def _check_compiled(twin: Any, model: Any) -> None:
    if not twin.compiled:
        raise ValueError(
            "A sensitivity is measured with a copy, compiled as the model is. Received: "
            f"{model.name!r}, of which that fails: {_keras.uncompilable(twin, model)} "
            "Compile with an optimizer that has a get_config, such as 'sgd'."
        )


def _count(share: float, family: Family) -> int:
    return max(1, min(round(share * family.size), family.size - 1))


def _without(graph: Graph, neurons: Any, measure: Callable[[], float]) -> float:
    """Return the metric with some neurons silenced; the weights are as before afterwards."""
    with silenced(readers_of(graph, neurons), neurons):
        return measure()


def _measure(twin: Any, data: Any, batch_size: int | None, monitor: str) -> float:
    parts = data if isinstance(data, tuple) else (Listed(data) if _is_listed(data) else data,)
    x, y, weights = (*parts, None, None)[:3]
    size = batch_size if is_arrays(data) else None
    logs = twin.evaluate(x, y, size, sample_weight=weights, verbose=0, return_dict=True)
    if monitor not in logs:
        raise ValueError(
            f"`monitor` must be a metric of the model. Received: monitor={monitor!r}, while it has "
            f"{sorted(logs)}. Choose one of these, or compile the model with it."
        )
    if not np.isfinite(logs[monitor]):
        raise ValueError(
            f"The metric must be finite. Received: {monitor}={logs[monitor]}. Look for NaN or "
            "infinity in the data, targets among it, and in the weights."
        )
    return float(logs[monitor])


def _is_listed(data: Any) -> bool:
    return isinstance(data, list) and not is_arrays(data)


class Listed(keras.utils.PyDataset):
    """A list of batches, as Keras evaluates on batches."""

    def __init__(self, batches: list[tuple]) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, place: int) -> tuple:
        return self._batches[place]
