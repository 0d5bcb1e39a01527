"""Parameters and FLOPs of a model, and of the same model with other widths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

METRICS = ("params", "flops", "neurons")


@dataclass(frozen=True)
class Cost:
    """What a model costs.

    Args:
        params: number of parameters, trainable or not.
        flops: floating-point operations for one sample: two for each multiply-add of dense,
            convolution and recurrent kernels and of the products of attention; nothing else.
            `None` where sizes of space or time are unknown.
        neurons: number of neurons that can be pruned.
    """

    params: int
    flops: int | None
    neurons: int

    def share_of(self, other: Cost) -> dict[str, float]:
        """Return this cost divided by another one, metric by metric, unknown ones left out."""
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in METRICS}
        return {name: a / b for name, (a, b) in pairs.items() if a is not None and b}


@dataclass(frozen=True)
class CostModel:
    """Costs as a function of how many neurons each family keeps.

    The length of an axis is `constants + members @ sizes`; a weight's size is the product over its
    axes, and its FLOPs are `2 * times * size`.

    Args:
        constants: `(axes,)`, fixed entries along each distinct axis.
        members: `(axes, families)`, entries that one neuron of a family takes along an axis.
        terms: `(terms, rank)`, the axes of each weight; `-1` is an axis of length 1.
        factors: `(terms,)`, product of the weight's axes that carry no neurons.
        times: `(terms,)`, multiplications of the weight for one sample; -1 where unknown.
        held: how many of the terms are weights; the others are products of tensors, which have no
            parameters.
        params: parameters of all other variables.
        least: `(axes,)`, entries that must be left along each axis.
    """

    constants: np.ndarray
    members: np.ndarray
    terms: np.ndarray
    factors: np.ndarray
    times: np.ndarray
    held: int
    params: int
    least: np.ndarray

    def lengths(self, sizes: np.ndarray) -> np.ndarray:
        """Return the length of every axis, `(axes,)`, for `(families,)` sizes."""
        return self.constants + self.members @ np.asarray(sizes, int)

    def at(self, sizes: np.ndarray) -> Cost:
        """Return the cost with `(families,)` neurons kept."""
        lengths = np.append(self.lengths(sizes), 1)
        weights = self.factors * np.prod(lengths[self.terms], axis=1, dtype=np.int64)
        known = bool((self.times >= 0).all())
        return Cost(
            params=int(weights[: self.held].sum()) + self.params,
            flops=int((2 * self.times * weights).sum()) if known else None,
            neurons=int(np.sum(sizes)),
        )
