"""Counting: parameters, FLOPs and bytes as a function of how many neurons each family keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.accounting import CostModel, itemsize
from prune_keras.graph import Weight
from prune_keras.tracing.labels import Labels, product, varying_axes
from prune_keras.tracing.record import Bound, Product


@dataclass(frozen=True)
class Result:
    """What a call returns, as memory: ids along its axes of channels, and what multiplies them."""

    along: list[np.ndarray]
    factor: int
    itemsize: int


@dataclass(frozen=True)
class Group:
    """Neurons of one family; `signature` is `(axes, 2)`: an axis, and entries a neuron on it."""

    signature: np.ndarray
    neurons: list[int]


def key(ids: np.ndarray) -> bytes:
    """Return what tells a vector of neurons along an axis from another one."""
    return np.ascontiguousarray(ids).tobytes()


def cost_model(
    model: Any,
    axes: list[np.ndarray],
    groups: list[Group],
    prunable: np.ndarray,
    weights: tuple[Weight, ...],
    products: list[Product],
    results: list[Result],
    bounded: list[Bound],
    index: dict[bytes, int],
) -> CostModel:
    """Return the costs of a model.

    Args:
        model: the model.
        axes: every distinct vector of neurons along an axis.
        groups: the families' groups.
        prunable: booleans by neuron.
        weights: every variable that carries channels.
        products: axes of tensors that are multiplied with each other, and how often.
        results: what calls return.
        bounded: vectors of neurons, and how many entries of each must be left.
        index: `key` of a vector -> its place in `axes`.
    """
    members = np.zeros((len(axes), len(groups)), np.int64)
    for column, group in enumerate(groups):
        members[group.signature[:, 0], column] = group.signature[:, 1]
    along = [[*w.axes.values()] for w in weights] + [ids for ids, _ in products]
    along += [result.along for result in results]
    times = [w.times for w in weights] + [times for _, times in products] + [0] * len(results)
    factors = [*map(_factor, weights), *(1 for _ in products), *(r.factor for r in results)]
    sizes = [itemsize(w.variable.dtype) for w in weights] + [0] * len(products)
    others = _others(model, weights)
    terms = np.full((len(along), max(map(len, along), default=1)), -1, np.int64)
    for row, vectors in enumerate(along):
        terms[row, : len(vectors)] = [index[key(ids)] for ids in vectors]
    return CostModel(
        constants=np.array([int((~prunable[ids]).sum()) for ids in axes], np.int64),
        members=members,
        terms=terms,
        factors=np.array(factors, np.int64),
        times=np.array([-1 if each is None else each for each in times], np.int64),
        itemsizes=np.array([*sizes, *(result.itemsize for result in results)], np.int64),
        held=len(weights),
        params=sum(math.prod(v.shape) for v in others),
        weight_bytes=sum(math.prod(v.shape) * itemsize(v.dtype) for v in others),
        least=_least(len(axes), [(index[key(ids)], count) for ids, count in bounded]),
    )


def _least(axes: int, bounds: list[tuple[int, int]]) -> np.ndarray:
    """Return the least length of each axis, `(axes,)`."""
    least = np.ones(axes, np.int64)
    for axis, count in bounds:
        least[axis] = max(least[axis], count)
    return least


def _factor(weight: Weight) -> int:
    shape = tuple(weight.variable.shape)
    return math.prod(size for axis, size in enumerate(shape) if axis not in weight.axes)


def _others(model: Any, weights: Iterable[Weight]) -> list[Any]:
    """Return the variables that carry no channels."""
    known = {id(weight.variable) for weight in weights}
    return [variable for variable in model.weights if id(variable) not in known]


def result_of(labels: Labels, dtype: str, roots: np.ndarray) -> Result:
    """Return the axis of channels of what a call returns, and the product of its other axes."""
    ids = roots[labels.ids]
    axes = varying_axes(ids)
    along = [np.moveaxis(ids, axis, -1).reshape(-1, ids.shape[axis])[0] for axis in axes]
    sizes = (size for axis, size in enumerate(labels.shape) if axis not in axes)
    others = product((labels.rows, *sizes))
    return Result(along, -1 if others is None else others, itemsize(dtype))
