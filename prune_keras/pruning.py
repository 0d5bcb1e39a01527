"""One call: score, select and shrink a model without training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prune_keras import criteria, processes
from prune_keras.accounting import Cost
from prune_keras.auto import AUTO, Scoring
from prune_keras.copies import lasting, rehearsed
from prune_keras.frontier import Point
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.repair import Refit, Repair, check_readable_again
from prune_keras.report import Report
from prune_keras.reporting.origins import call_of, origin
from prune_keras.reporting.spread import spread
from prune_keras.reporting.start import Start
from prune_keras.rounds.stopwatch import Stopwatch
from prune_keras.samples.batches import Samples, is_read_once
from prune_keras.scoring import indistinct, score_graph
from prune_keras.selection.choice import plan_for
from prune_keras.selection.feasibility import check_reachable
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import SCOPES, Ranking
from prune_keras.selection.stepping import Request
from prune_keras.selection.targets import (
    check_reached,
    check_request,
    check_unmet,
    missed,
    target_of,
)
from prune_keras.surgery import kept_neurons, restore, shrink, thinned
from prune_keras.tracing import trace
from prune_keras.validation import check_choice, check_count, check_seed
from prune_keras.ways import Way


def prune(
    model: Any,
    target: Mapping[str, float] | None = None,
    fraction: float | None = None,
    criterion: Any = "auto",
    debias: Any = "auto",
    combine: str = "mean",
    scope: str = "auto",
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
    steps: int = 1,
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
            to `"auto"`: `"l2"` without `data`, and with it `"reconstruction"` unless it has
            targets and the model is compiled with a loss. Then `"obs"` where the scope is
            `"optimal"`, or is `"auto"` and may be; else the mean of `"taylor"` and
            `"reconstruction"`. The report's notes tell why.
        debias: name or function; see `prune_keras.debias`. Defaults to `"auto"`: `"none"` for
            `"obs"`, whose scores compare as they are, and with `scope="optimal"`, else `"mean"`.
        combine: one of `{"mean", "sum", "max", "min"}`: the score of coupled units. Defaults to
            `"mean"`.
        scope: one of `{"auto", "global", "per_cost", "optimal", "layerwise", "uniform"}`; see
            `select`. Defaults to `"auto"`: `"optimal"` for `"obs"`, named or by itself, else
            `"global"`. By itself, both are where `data` hold at least 256 samples with targets,
            the model is compiled with a loss, weights are fused or fitted anew, no debias is named,
            and the target is on parameters, FLOPs or bytes.
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
            for `"weights"`, False for None. Defaults to `"auto"`: None without `data`, and with it
            `"sequential"` where there are at least 256 samples, else `"weights"`.
        input_shape: shape of one sample, for models that leave spatial sizes open.
        seed: seed of `criterion="random"`.
        of: what shares are of, for a model that was pruned before: `prune_keras.cost(original)`,
            or `report.before`. Defaults to None: the model's own cost.
        data_batch_size: samples a batch where `data` is arrays; memory grows with it. Defaults
            to None: 32.
        steps: in how many steps the cut is made: each one scores what is left, cuts, and repairs,
            and leaves the same share of the target's metrics, or of the neurons where there is
            only a fraction. Takes as many times as long. Defaults to 1.

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
    call = call_of("prune_keras.prune", prune, locals(), named=("model",))
    check_request(target, fraction, of)
    check_count("steps", steps)
    check_seed(seed)
    check_choice("scope", scope, (AUTO, *SCOPES))
    data = Samples.of(data, data_batch_size)
    _check_readable_at_each(steps, data)
    graph = trace(model, input_shape)
    original, (model, made_plain) = model, lasting(model, graph)
    if model is not original:
        graph = trace(model, input_shape)
    way = Way.of(Scoring(criterion, fuse), (scope, debias, combine), model, data, target)
    check_readable_again(model, data)
    limits = Limits(min_units, max_layer_fraction, exclude, round_to)
    goal = target_of(target, of, graph.cost)
    check_reachable(graph, limits, goal)
    check_unmet(goal, graph.cost)
    copied = rehearsed(model, graph, steps > 1 and criteria.needs_loss(way.scoring.criterion))
    cut = _Cut(model, graph, way, data, seed, input_shape)
    scores, ranking = cut.begin()
    plan = plan_for(graph, scores, ranking, limits, goal, fraction)
    turn = 0 if target is None else None
    request = Request(graph, ranking, limits, goal.budget, fraction, turn)
    plan = request.go(plan, steps, scores, cut.score, cut.cut)
    if fraction is None:
        check_reached(goal, cut.costs[-1])
    notes = missed(goal, cut.costs[-1], f"fraction={fraction} was removed first")
    notes += cut.notes + made_plain + copied + graph.notes
    is_read = criteria.needs_data(way.scoring.criterion) or way.scoring.fuse is not None
    notes += data.note if data is not None and is_read else ()
    spreads = spread(graph, scores, ranking, plan)
    told = {"of": of, "distributions": spreads, "origin": origin(call), **cut.told(plan)}
    costs = graph.cost, cut.costs[-1]
    return cut.thin, Report(model.name, plan, *costs, graph.fixed, notes, **told)


def _check_readable_at_each(steps: int, data: Any) -> None:
    """Raise a ValueError if data that are looked at in several steps can be read only once."""
    if steps > 1 and is_read_once(data):
        raise ValueError(
            "`data` must be readable more than once to score at each step. Received: an iterator, "
            f"with steps={steps}. Pass arrays, a PyDataset or a tf.data.Dataset, or steps=1."
        )


class _Cut:
    """A thinner copy, as it comes to be in steps.

    Attributes:
        thin: the copy.
        costs: what the copy cost after each step.
        notes: what is to be said of the scores and the repair.
    """

    def __init__(
        self, model: Any, graph: Graph, way: Way, data: Any, seed: Any, input_shape: Any
    ) -> None:
        self.thin, self._graph, self._way = model, graph, way
        self._dense = model, graph
        self._data, self._seed, self._input_shape = data, seed, input_shape
        self.costs: tuple[Cost, ...] = ()
        self.notes = way.notes
        self._start, self._watch = Start.of(model, graph), Stopwatch()

    def begin(self) -> tuple[Mapping[str, Any], Ranking]:
        """Return scores of the model as it is, and how they are ranked."""
        self._way, scores = self._way.scored(self._scores)
        self.notes = self._way.notes
        self._tell(scores)
        return scores, self._way.ranking

    def score(self) -> Mapping[str, Any]:
        """Score what is left, and keep in mind what is to be said of the scores."""
        scores = self._scores(self._way)
        self._tell(scores)
        return scores

    def _scores(self, way: Way) -> dict[str, Any]:
        criterion = way.scoring.criterion
        with self._watch.phase("score"):
            return score_graph(self.thin, self._graph, criterion, self._data, self._seed)

    def _tell(self, scores: Mapping[str, Any]) -> None:
        new = indistinct(scores, self._way.scoring.criterion)
        self.notes = tuple(dict.fromkeys([*self.notes, *new]))

    def told(self, plan: Plan) -> dict[str, Any]:
        """Return what a report says of the cut, which came to a plan, and of what it cost."""
        ends = (
            Point(0, True, None, self._dense[1].cost, dict(plan.widths)),
            Point(1, True, None, self.costs[-1], plan.new_widths),
        )
        steps = self.costs if len(self.costs) > 1 else ()
        told = {"scores": str(self._way.scoring), "seconds": self._watch.seconds, "steps": steps}
        return {**told, "frontier": ends, **self._start.after(plan)}

    def cut(self, done: Plan, whole: Plan) -> None:
        """Remove what is to go beside what is gone, and repair."""
        model, graph, fuse = self.thin, self._graph, self._way.scoring.fuse
        plan = whole.since(done, graph.widths)
        processes.check_plan(plan.to_dict())
        # A fit aims at the model as it was; what is fused stands for what goes with this step.
        fits = fuse == "sequential" or isinstance(fuse, Refit)
        before, its_plan = (self._dense, whole) if fits else ((model, graph), plan)
        with self._watch.phase("fuse"):
            repair = Repair.of(*before, kept_neurons(before[1], its_plan), self._data, fuse)
        with self._watch.phase("cut"):
            if self.costs:  # the copy is cut in place: a config need not tell widths that are left
                restore(model, thinned(model, graph, plan))
            else:
                self.thin = shrink(model, plan)
        with self._watch.phase("recalibrate"):
            repair.apply(self.thin)
        self.notes = tuple(dict.fromkeys([*self.notes, *repair.notes]))
        self._graph = trace(self.thin, self._input_shape)
        self.costs += (self._graph.cost,)
