"""The whole recipe: heads, a greedy choice family after family, and the model that is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from prune_keras import _keras
from prune_keras.accounting import Cost
from prune_keras.copies import lasting, rehearsed
from prune_keras.discriminating.greedy import NAME, Choosing, Sizes
from prune_keras.discriminating.learner import Learner, heads_for
from prune_keras.discriminating.options import DiscriminationAware
from prune_keras.discriminating.wiring import Wiring, wired
from prune_keras.frontier import Point
from prune_keras.graph import Graph
from prune_keras.plan import Plan
from prune_keras.repair import Repair
from prune_keras.report import Report
from prune_keras.reporting.origins import call_of, origin
from prune_keras.reporting.start import Start
from prune_keras.rounds.stopwatch import Stopwatch
from prune_keras.samples.batches import Samples, check_targets
from prune_keras.samples.inputs import check_data
from prune_keras.samples.subject import Subject
from prune_keras.selection.blocks import steps
from prune_keras.selection.choice import choose, plan_for, sizes_left
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking
from prune_keras.selection.targets import Target, check_request, missed, target_of
from prune_keras.surgery import kept_neurons, shrink
from prune_keras.teaching.ends import activations
from prune_keras.teaching.outputs import losses
from prune_keras.tracing import trace


def discriminate(
    model: Any,
    target: Mapping[str, float] | None = None,
    data: Any = None,
    fraction: float | None = None,
    how: DiscriminationAware | None = None,
    min_units: int | Mapping[str, int] = 1,
    max_layer_fraction: float | Mapping[str, float] = 1.0,
    exclude: Any = (),
    round_to: int | Mapping[str, int] = 1,
    of: Cost | None = None,
    data_batch_size: int | None = None,
) -> tuple[Any, Report]:
    r"""Return a thinner copy of a classifier, chosen and trained by discrimination-aware pruning.

    Auxiliary heads behind intermediate layers learn to tell the classes. Then one family of coupled
    neurons after another is begun with none of them, and those are picked whose `g_j = sum_r |dL /
    dW_rj|_F` is largest: `r` are the weights that read the family, `W_rj` what of them reads neuron
    `j`, zero as yet. `L = 1/2 MSE + weight CE` is the mean over the data; the first term compares
    what these weights give with the same in the model as it was, the second one is the compiled
    loss of the first head behind them, or of the model's outputs. After each pick, the weights that
    read what was picked are trained by `L`. Statistics of batch normalization are measured anew at
    last. The model is to be fine-tuned afterwards.

    Args:
        model: a built model, compiled with a loss for classes, with one output `(batch, classes)`;
            it is not changed.
        target: what may remain, at most; see `prune`. All families are left the same share of their
            neurons, within limits.
        data: `(inputs, targets)`, with sample weights or without, or a dataset of batches that can
            be read again and again. Of arrays, 4,096 samples are looked at.
        fraction: share of the neurons of each family to remove, in (0, 1). Give `target`,
            `fraction`, or `how.tolerance`, by which each family ends; of several, what ends first.
        how: a `DiscriminationAware`. Defaults to None: `DiscriminationAware()`.
        min_units: see `prune`, as for all that follow.
        max_layer_fraction: share of its units that a layer loses at most.
        exclude: layers that keep all units.
        round_to: multiples of this many are kept.
        of: what shares are of, for a model that was pruned before.
        data_batch_size: samples a batch where `data` is arrays. Defaults to None: 32.

    Returns:
        `(thin, report)`: the thin model, compiled as the model is, and a `Report`, whose notes tell
        how many passes over the data it took.

    Raises:
        ValueError: if an argument is out of range, the target is met already or cannot be reached,
            the model does not tell classes, there are no targets, or nothing would be removed.

    Example:

    >>> import keras, numpy as np, prune_keras
    >>> keras.utils.set_random_seed(0)
    >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    >>> y = (x[:, 0] > 0).astype("int32")
    >>> layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(2, "softmax")]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> model.compile("sgd", "sparse_categorical_crossentropy")
    >>> thin, report = prune_keras.discriminate(model, data=(x, y), fraction=0.5)
    >>> thin.layers[0].units, report.before.params, report.after.params
    (4, 58, 30)

    Reference:

    - Zhuang et al., 2018, Discrimination-aware Channel Pruning for Deep Neural Networks, NeurIPS,
      https://arxiv.org/abs/1810.11809
    """
    call = call_of("prune_keras.discriminate", discriminate, locals(), named=("model",))
    how = _checked(how, target, fraction, of)
    _check_classifies(model)
    samples = Samples.of(data, data_batch_size)
    graph = trace(model)
    original, (model, made_plain) = model, lasting(model, graph)
    graph = graph if model is original else trace(model)
    _check_data(model, samples)
    copied = rehearsed(model, graph, True)
    limits = Limits(min_units, max_layer_fraction, exclude, round_to)
    goal = target_of(target, of, graph.cost)
    sizes = _sizes(graph, limits, goal, fraction, how)
    watch = Stopwatch()
    with watch.phase("choose"):
        learned, plan, passes = _chosen(model, sizes, samples, how)
    with watch.phase("cut"):
        thin = shrink(learned, plan)
    with watch.phase("recalibrate"):
        learned_graph = trace(learned)
        kept = kept_neurons(learned_graph, plan)
        Repair.of(learned, learned_graph, kept, samples, None).apply(thin)
    after = trace(thin).cost
    notes = missed(goal, after, "limits or a fraction came first")
    notes += (f"{passes} passes over the data were made to choose and to train",)
    notes += made_plain + copied + graph.notes + samples.note
    told: dict[str, Any] = {
        "of": of,
        "scores": "discrimination-aware",
        "seconds": watch.seconds,
        "origin": origin(call),
    }
    told |= {"frontier": _ends(graph, plan, after), **Start.of(model, graph).after(plan)}
    return thin, Report(model.name, plan, graph.cost, after, graph.fixed, notes, **told)


def _checked(how: Any, target: Any, fraction: Any, of: Any) -> DiscriminationAware:
    how = DiscriminationAware() if how is None else how
    if not isinstance(how, DiscriminationAware):
        raise ValueError(
            "`how` must be a prune_keras.DiscriminationAware. Received: "
            f"how={how!r}. Write how=DiscriminationAware(picks=8)."
        )
    if how.tolerance is None or target is not None or fraction is not None:
        check_request(target, fraction, of)
    return how


def _check_classifies(model: Any) -> None:
    """Raise a ValueError unless a model is compiled to tell classes, by one output."""
    _keras.check_model(model)
    if not getattr(model, "compiled", False) or getattr(model, "loss", None) is None:
        raise ValueError(
            "A model that is pruned by what it tells of classes must be compiled with a loss. "
            f"Received: {model.name!r}, which is not. Call compile(loss=...)."
        )
    if _keras.graph_of(model) is None:
        trace(model)  # which looks into a `call` of its own
    outputs, told = _keras.graph_of(model).outputs, losses(model)
    if len(outputs) != 1 or len(outputs[0].shape) != 2 or "values" in told:
        raise ValueError(
            "A model that is pruned by what it tells of classes must have one output of classes, "
            "and a cross-entropy for its loss. Received: outputs of shapes "
            f"{[tuple(each.shape) for each in outputs]}, with loss={model.loss!r}, for "
            f"{model.name!r}. Use prune_keras.prune."
        )


def _check_data(model: Any, samples: Any) -> None:
    """Raise a ValueError unless there are samples with targets, which can be read again."""
    if samples is None:
        raise ValueError(
            "There must be samples and their classes. Received: data=None. "
            "Pass data=(inputs, targets), or a dataset of batches."
        )
    check_data(samples, _keras.graph_of(model).inputs, 1)
    _, targets, _ = next(iter(Subject(model, trace(model), samples).batches()))
    check_targets(targets, NAME)


def _sizes(
    graph: Graph, limits: Limits, goal: Target, fraction: float | None, how: DiscriminationAware
) -> list[Sizes]:
    """Return how many neurons each family is left with."""
    even = {path: np.zeros(len(p.neurons)) for path, p in graph.producers.items()}
    ranking, most = Ranking("uniform", "none"), graph.sizes
    if goal.asked or fraction is not None:
        most = sizes_left(graph, plan_for(graph, even, ranking, limits, goal, fraction))
    least = np.zeros_like(most)
    if how.tolerance is not None:
        least = sizes_left(graph, choose(graph, even, ranking, limits, {}))
    rows = zip(least.tolist(), most.tolist(), steps(graph, limits), strict=True)
    return [Sizes(*row) for row in rows]


def _chosen(
    model: Any, sizes: list[Sizes], samples: Any, how: DiscriminationAware
) -> tuple[Any, Plan, int]:
    """Return a copy whose readers were trained, what of it stays, and the passes that took."""
    everything = Plan.everything(trace(model).widths)
    dense, thin = shrink(model, everything), shrink(model, everything)
    trace(dense)
    graph = trace(thin)
    wiring = wired(thin, graph, how.layers)
    classes = int(_keras.graph_of(model).outputs[0].shape[1])
    heads = heads_for(wiring, classes, activations(model)[0])
    with training_readers(dense, thin, wiring):
        learner = Learner(dense, thin, wiring, heads)
        rate = keras.optimizers.SGD(how.learning_rate, momentum=0.9, nesterov=True)
        learner.compile(rate, run_eagerly=thin.run_eagerly, jit_compile=thin.jit_compile)
        choosing = Choosing(learner, wiring, Subject(thin, graph, samples), how)
        choosing.train_heads()
        stays = np.ones(graph.ids + 1, bool)
        with choosing.compiled():
            for family, each in zip(graph.families, sizes, strict=True):
                if each.least < family.size and (how.tolerance or each.most < family.size):
                    stays[family.neurons] = choosing.choose(family, each)
    plan = _plan(graph, stays)
    return thin, plan, choosing.passes


def _plan(graph: Graph, stays: np.ndarray) -> Plan:
    kept = {path: np.flatnonzero(stays[graph.producers[path].neurons]) for path in graph.widths}
    plan = Plan(kept, graph.widths)
    if plan.removed == 0:
        raise ValueError(
            "A plan must remove at least one neuron. Received: a tolerance at which all families "
            "keep all of theirs. Raise it, or give a target."
        )
    return plan


@contextlib.contextmanager
def training_readers(dense: Any, thin: Any, wiring: Wiring) -> Iterator[None]:
    """Let only what reads neurons be trained of both within."""
    readers = {id(reader.variable) for reader in wiring.readers}
    others = [
        v for v in [*dense.variables, *thin.variables] if id(v) not in readers and v.trainable
    ]
    for variable in others:
        variable.trainable = False
    try:
        yield
    finally:
        for variable in others:
            variable.trainable = True


def _ends(graph: Graph, plan: Plan, after: Cost) -> tuple[Point, ...]:
    before = Point(0, True, None, graph.cost, dict(plan.widths))
    return before, Point(1, True, None, after, plan.new_widths)
