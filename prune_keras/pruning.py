"""One call: score, select and shrink a model without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_keras.accounting import Cost
from prune_keras.auto import Scoring
from prune_keras.copies import lasting, rehearsed
from prune_keras.repair import Refit, Repair, check_readable_again
from prune_keras.report import Report
from prune_keras.samples.batches import Samples
from prune_keras.scoring import indistinct, score_graph
from prune_keras.selection import select
from prune_keras.selection.targets import check_request, missed, target_of
from prune_keras.surgery import kept_neurons, shrink
from prune_keras.tracing import trace


def prune(
    model: Any,
    target: Mapping[str, float] | None = None,
    fraction: float | None = None,
    criterion: Any = "auto",
    debias: Any = "mean",
    combine: str = "mean",
    scope: str = "global",
    data: Any = None,
    min_units: int | Mapping[str, int] = 1,
    max_layer_fraction: float | Mapping[str, float] = 1.0,
    exclude: Any = (),
    round_to: int | Mapping[str, int] = 1,
    fuse: str | bool | Refit | None = "auto",
    input_shape: tuple[int | None, ...] | None = None,
    seed: int | None = None,
    of: Cost | None = None,
    data_batch_size: int | None = None,
) -> tuple[Any, Report]:
    """Return a thinner copy of a model, and what was done.

    Args:
        model: a built model; it is not changed. Of one with a `call` of its own, or layers made of
            layers whose configs cannot tell what a cut leaves, the thin model is a plain functional
            one; see `prune_keras.unfold`.
        target: what may remain, at most, of one or more of `{"params", "flops", "neurons",
            "weight_bytes", "activation_bytes"}`: a share in (0, 1), or a whole number above 1 for
            an amount; see `Cost`.
        fraction: share of the neurons to remove, in (0, 1). Give `target`, `fraction` or both.
        criterion: name of a criterion, or what else `prune_keras.criteria.get` takes. Defaults
            to `"auto"`: `"l2"` without `data`, the mean of `"taylor"` and `"reconstruction"` where
            it has targets and the model is compiled with a loss, else `"reconstruction"`.
        debias: name or function; see `prune_keras.debias`. Defaults to `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of coupled units. Defaults to
            `"mean"`.
        scope: one of `{"global", "layerwise", "uniform"}`. Defaults to `"global"`.
        data: samples to score and to fuse with, and to measure batch normalization's statistics
            anew, for which 1,280 samples are used: inputs, `(inputs, targets)`, with sample
            weights too if the loss is to be weighted, or a dataset of batches. Of arrays, 4,096
            samples are looked at. Defaults to None.
        min_units: units that a layer keeps at least; one number, or numbers by path, pattern or
            type of layer: `{"block1_*": 16, "Dense": 8}`. Defaults to 1.
        max_layer_fraction: share of its units that a layer loses at most; one number, or several
            as above. Defaults to 1.
        exclude: layers that keep all units: path, pattern, several of them, or a function of the
            path. Defaults to none.
        round_to: neurons are removed so that a family keeps a multiple of this many; one number,
            or several as above, all of which hold. Defaults to 1.
        fuse: one of `{"auto", "weights", "bias", "sequential", None}`: let the weights that read
            neurons that stay make up for those that go, or only the bias, for their mean; or fit
            all weights behind the cut anew, layer after layer, which takes longer and leaves a
            better model, and of which `prune_keras.repair.Refit` bounds the memory. True stands
            for `"weights"`, False for None. Defaults to `"auto"`: `"weights"` where
            there is `data`, else None.
        input_shape: shape of one sample, for models that leave spatial sizes open.
        seed: seed of `criterion="random"`.
        of: what shares are of, for a model that was pruned before: `prune_keras.cost(original)`,
            or `report.before`. Defaults to None: the model's own cost.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.

    Returns:
        `(thin, report)`: the thin model, compiled as the model is, and a
        `Report`, which tells what `"auto"` stood for. Its notes say where the copy could not be
        compiled, or a file of it not be read.

    Raises:
        ValueError: if an argument is out of range, the target is met already or cannot be reached,
            or, before anything is scored, a layer cannot be made again from its config.

    Example:

    >>> import keras, prune_keras
    >>> model = keras.Sequential(
    ...     [keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)]
    ... )
    >>> thin, report = prune_keras.prune(model, target={"params": 0.5})
    >>> report.before.params, report.after.params
    (58, 23)
    >>> report.scores
    'l2'
    """
    check_request(target, fraction, of)
    data = Samples.of(data, data_batch_size)
    graph = trace(model, input_shape)
    original, (model, made_plain) = model, lasting(model, graph)
    if model is not original:
        graph = trace(model, input_shape)
    scoring = Scoring(criterion, fuse).settled(model, data)
    check_readable_again(model, data)
    copied = rehearsed(model, graph)
    scores = score_graph(model, graph, scoring.criterion, data, seed)
    plan = select(
        graph,
        scores,
        target=target,
        fraction=fraction,
        scope=scope,
        debias=debias,
        combine=combine,
        min_units=min_units,
        max_layer_fraction=max_layer_fraction,
        exclude=exclude,
        round_to=round_to,
        of=of,
    )
    thin = shrink(model, plan)
    repair = Repair.of(model, graph, kept_neurons(graph, plan), data, scoring.fuse)
    repair.apply(thin)
    after = trace(thin, input_shape).cost
    goal = target_of(target, of, graph.cost)
    notes = missed(goal, after, f"fraction={fraction} was removed first")
    notes += indistinct(scores, scoring.criterion) + repair.notes + made_plain + copied
    notes += graph.notes
    notes += () if data is None else data.note
    fixed, scored = graph.fixed, str(scoring)
    return thin, Report(model.name, plan, graph.cost, after, fixed, notes, scores=scored, of=of)
