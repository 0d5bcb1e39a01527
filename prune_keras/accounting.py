"""Parameters, FLOPs and bytes of a model, and of the same model with other widths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

SIZES = ("neurons", "params", "flops")
METRICS = ("params", "flops", "neurons", "weight_bytes", "activation_bytes")


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Args:
        params: number of parameters, trainable or not.
        flops: floating-point operations for one sample: two for each multiply-add of dense,
            convolution and recurrent kernels and of the products of attention; nothing else.
            `None` where sizes of space or time are unknown.
        neurons: number of neurons that can be pruned.
        weight_bytes: memory of all parameters, each in the dtype of its variable. Defaults to
            None: not counted.
        activation_bytes: memory of the model's inputs and of what each call of its layers and
            operations returns, for one sample: their sum, not their peak, as training has to keep
            them. Defaults to None: not counted, or sizes of space or time are unknown.
    """

    params: int
    flops: int | None
    neurons: int
    weight_bytes: int | None = None
    activation_bytes: int | None = None

    def share_of(self, other: Cost) -> dict[str, float]:
        """Return this cost divided by another one, metric by metric, unknown ones left out."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in METRICS}
        return {name: a / b for name, (a, b) in pairs.items() if a is not None and b}


@dataclass(frozen=True)
class CostModel:
    """Costs as a function of how many neurons each family keeps.

    The length of an axis is `constants + members @ sizes`; a weight's size is the product over its
    axes, its FLOPs are `2 * times * size`, and its memory is `itemsize * size`. Terms are weights,
    products of tensors, and tensors.

    Args:
        constants: `(axes,)`, fixed entries along each distinct axis.
        members: `(axes, families)`, entries that one neuron of a family takes along an axis.
        terms: `(terms, rank)`, the axes of each weight; `-1` is an axis of length 1.
        factors: `(terms,)`, product of the axes that carry no neurons; -1 where unknown.
        times: `(terms,)`, multiplications of the weight for one sample, 0 for tensors; -1 where
            unknown.
        itemsizes: `(terms,)`, bytes of an entry; 0 for products, which are not kept.
        held: how many of the terms, the first ones, are weights.
        params: parameters of all other variables.
        weight_bytes: their memory.
        least: `(axes,)`, entries that must be left along each axis.
    """

    constants: np.ndarray
    members: np.ndarray
    terms: np.ndarray
    factors: np.ndarray
    times: np.ndarray
    itemsizes: np.ndarray
    held: int
    params: int
    weight_bytes: int
    least: np.ndarray

    def lengths(self, sizes: np.ndarray) -> np.ndarray:
        """Return the length of every axis, `(axes,)`, for `(families,)` sizes."""
        return self.constants + self.members @ np.asarray(sizes, int)

    def at(self, sizes: np.ndarray) -> Cost:
        """Return the cost with `(families,)` neurons kept."""
        amounts = self.amounts(np.asarray(sizes, int)[None])
        known: dict[str, Any] = {m: a if a is None else int(a[0]) for m, a in amounts.items()}
        return Cost(**known)

    def amounts(self, sizes: np.ndarray) -> dict[str, Any]:
        """Return metric -> `(cases,)` amounts with `(cases, families)` neurons kept.

        What a `Cost` does not know is None.
        """
        ends = np.ones((len(sizes), 1), np.int64)
        lengths = np.hstack([self.constants + sizes @ self.members.T, ends])
        entries = self.factors * np.prod(lengths[:, self.terms], axis=2, dtype=np.int64)
        memory = self.itemsizes * entries
        known, sized = (bool((each >= 0).all()) for each in (self.times, self.factors))
        return {
            "params": entries[:, : self.held].sum(axis=1) + self.params,
            "flops": (2 * self.times * entries).sum(axis=1) if known else None,
            "neurons": np.sum(sizes, axis=1),
            "weight_bytes": memory[:, : self.held].sum(axis=1) + self.weight_bytes,
            "activation_bytes": memory[:, self.held :].sum(axis=1) if sized else None,
        }


def itemsize(dtype: str) -> int:
    """Return the bytes of an entry of a Keras dtype.

    Example:

    >>> itemsize("bfloat16"), itemsize("float64"), itemsize("bool")
    (2, 8, 1)
    """
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) // 8 if digits else 1
