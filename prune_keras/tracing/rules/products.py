"""Rules of products of two activations: what is summed over is united, the rest carried on.

Each tensor's axes have names, as in einsum. An axis that is summed over holds the same channels in
every factor; removing one leaves out its term, which is what silencing it does. Channels along any
other axis go on to the output. An entry of the output belongs to one channel at most: where two
factors bring channels of their own, both stay.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from keras import layers
from keras.src.ops import numpy as raw

from prune_keras.tracing.labels import Labels, varying_axes, vector
from prune_keras.tracing.rule import Found, Trace
from prune_keras.tracing.rules.axes import moves_the_batch
from prune_keras.tracing.rules.constants import Constant, labelled, slice_along
from prune_keras.tracing.rules.registry import register_rule
from prune_keras.tracing.visit import Visit


def contract(visit: Visit, trace: Trace, terms: list[list[str]], output: list[str]) -> np.ndarray:
    """Return the ids of a product of tensors, or constants.

    Args:
        visit: the call; its flat arguments are the factors.
        trace: the `Tracer`.
        terms: names of the axes of each factor, the batch left out.
        output: names of the output's axes, the batch left out.
    """
    factors = list(zip(factors_of(visit), terms, strict=True))
    channels: dict[str, np.ndarray] = {}
    held = [_held(factor, term, output, trace) for factor, term in factors]
    for name, ids in held:
        if name is not None:
            trace.unite(channels.setdefault(name, ids), ids)
    cuts = []
    for (factor, term), (held_name, _) in zip(factors, held, strict=True):
        for axis, (name, size) in enumerate(zip(term, factor.shape, strict=True)):
            if name not in channels or name == held_name or size == 1:
                continue
            if isinstance(factor, Constant):
                cuts.append((factor, axis, channels[name]))
            else:
                reason = f"{visit.path} multiplies them with what cannot lose any"
                trace.fix(channels[name], reason)
    slice_along(visit, trace, cuts)
    return _carried(visit, trace, channels, output)


def _carried(
    visit: Visit, trace: Trace, channels: dict[str, np.ndarray], output: list[str]
) -> np.ndarray:
    names = [name for name in output if name in channels]
    if len(names) == 1:
        return vector(channels[names[0]], output.index(names[0]), len(output))
    for name in names:
        trace.fix(channels[name], f"{visit.path} makes pairs of them and other channels")
    return trace.nothing(len(output), f"{visit.path} leaves no channels")


def _held(factor: Any, term: list[str], output: list[str], trace: Trace) -> tuple[str | None, Any]:
    """Return the axis along which a factor's channels lie, and their ids.

    Where they differ along several axes, they are united to lie along one: one that is summed
    over, if there is any.
    """
    axes = varying_axes(factor.ids) if isinstance(factor, Labels) else []
    if not axes:
        return None, None
    axis = ([axis for axis in axes if term[axis] not in output] or axes)[-1]
    ids = factor.ids
    for other in (other for other in axes if other != axis):
        trace.unite(ids, ids.take([0], other))
        ids = ids.take([0], other)
    return term[axis], ids.reshape(-1)


def factors_of(visit: Visit) -> list[Labels | Constant]:
    """Return the factors in order: labels, or constant arrays."""
    flat: list = []
    for place, value in (*enumerate(visit.args), *visit.kwargs.items()):
        if isinstance(value, list | tuple) and any(isinstance(v, Labels) for v in value):
            flat += value
        else:
            flat.append(value if isinstance(value, Labels) else Constant((place,), value))
    return flat


@register_rule(raw.Matmul)
def matmul(visit: Visit, trace: Trace) -> Found:
    first, second = factors_of(visit)
    ranks = [
        factor.rank if isinstance(factor, Labels) else len(factor.shape)
        for factor in (first, second)
    ]
    batch = [f"batch{number}" for number in range(max(ranks) - 2, 0, -1)]
    both = isinstance(first, Labels) and isinstance(second, Labels)
    if both and ranks[0] == ranks[1] > 1:
        terms, output = [[*batch, "i", "k"], [*batch, "k", "j"]], [*batch, "i", "j"]
    elif not both and isinstance(first, Labels) and ranks[1] == 2:
        rows = [*batch, "i"][-(ranks[0] - 1) :] if ranks[0] > 1 else []
        terms, output = [[*rows, "k"], ["k", "j"]], [*rows, "j"]
    elif not both and isinstance(second, Labels) and ranks[0] == 2 <= ranks[1]:
        terms, output = [["i", "k"], [*batch, "k", "j"]], [*batch, "i", "j"]
    else:
        return moves_the_batch(visit, trace)
    return contract(visit, trace, terms, output)


@register_rule(raw.Einsum)
def einsum(visit: Visit, trace: Trace) -> Found:
    factors, subscripts = factors_of(visit), visit.operation.subscripts.replace(" ", "")
    if "->" not in subscripts:
        return trace.refuse(visit, f"{visit.path} does not name the axes of its output")
    left, right = subscripts.split("->")
    ranks = [f.rank + 1 if isinstance(f, Labels) else len(f.shape) for f in factors]
    terms = [_names(term, rank) for term, rank in zip(left.split(","), ranks, strict=True)]
    output = _names(right, len(visit.shape) + 1)
    if not output:
        return moves_the_batch(visit, trace)
    batch = output[0]
    for factor, term in zip(factors, terms, strict=True):
        sample = term.pop(0) if isinstance(factor, Labels) else batch
        if sample != batch or batch in term or len(set(term)) < len(term):
            return moves_the_batch(visit, trace)
    if batch in output[1:]:
        return moves_the_batch(visit, trace)
    return contract(visit, trace, terms, output[1:])


def _names(term: str, rank: int) -> list[str]:
    """Return one name an axis; those that three dots stand for are counted from the right."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    dots = [f"...{number}" for number in range(rank - len(before) - len(after), 0, -1)]
    return [*before, *dots, *after]


@register_rule(layers.Dot)
def dot(visit: Visit, trace: Trace) -> Found:
    layer, terms = visit.operation, []
    axes = [layer.axes] * 2 if isinstance(layer.axes, int) else layer.axes
    factors = [labelled(visit, trace, each) for each in visit.argument(0, "inputs")]
    visit = dataclasses.replace(visit, args=(factors,), kwargs={})
    for side, labels, axis in zip("xy", factors, axes, strict=True):
        term = [f"{side}{number}" for number in range(labels.rank)]
        term[axis % (labels.rank + 1) - 1] = "k"
        terms.append(term)
    output = [name for term in terms for name in term if name != "k"] or ["one"]
    ids = contract(visit, trace, terms, output)
    if layer.normalize:
        for labels in factors:
            trace.note(labels.ids, f"{visit.path} normalizes over the channels that are left")
    return ids
