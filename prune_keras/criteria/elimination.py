"""Elimination: units of one family removed one after another, each where the loss grows least.

What a layer responds to the rows that it reads, `x W`, can be brought back in part where entries of
`x` are left out, by least squares on those that stay. With `H` the second moment of the rows and
`A = H^-1`, leaving out the entries of a unit `j` costs `1/2 tr(W_j' [A_jj]^-1 W_j)`, after which
`W -= A_:j [A_jj]^-1 W_j` and `A -= A_:j [A_jj]^-1 A_j:`. Of a wide family some units at a time are
looked at alone, and all others learn at once of those that went, since units that go one by one
would each time take a pass over matrices that no cache holds. Nothing here knows of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

COLUMNS = 4096  # that are looked at together
AT_ONCE = 256  # units that are looked at alone, of which half go before all are looked at again


@dataclass(frozen=True)
class Quadratic:
    """How the loss grows with what one reader's responses miss.

    Args:
        matrix: `(entries, entries)`, the inverse of the second moment of what it reads, or the
            second moment where nothing is made up for.
        weights: `(entries, responses)`, each response scaled by the root of its curvature.
        refits: whether the weights of entries that stay make up for those that go.
    """

    matrix: np.ndarray
    weights: np.ndarray
    refits: bool

    @classmethod
    def of(
        cls, second: np.ndarray, weights: np.ndarray, curvature: np.ndarray, ridge: float | None
    ) -> Quadratic:
        """Look at entries in units of their own size, so that no scale of a channel counts.

        Args:
            second: `(entries, entries)`, mean products of entries, or their covariances.
            weights: `(entries, responses)`.
            curvature: `(responses,)`, mean second derivative of the loss by each response.
            ridge: share of an entry's mean square that no other one is trusted to tell; None where
                weights stay as they are.
        """
        sizes = np.sqrt(np.diag(second).clip(0))
        inverse_sizes = np.divide(1.0, sizes, out=np.zeros_like(sizes), where=sizes > 0)
        alike = second * np.outer(inverse_sizes, inverse_sizes)
        scaled = sizes[:, None] * _narrowed(weights, curvature)
        np.fill_diagonal(alike, 1)  # of entries that are always zero, too
        if ridge is None:
            return cls(alike, scaled, False)
        return cls(_inverse(alike, ridge), scaled, True)


def _inverse(second: np.ndarray, ridge: float) -> np.ndarray:
    """Return the inverse of a second moment and a ridge, which rounding may let be less than zero.

    What is not finite has none.
    """
    if not np.isfinite(second).all():
        return np.full_like(second, np.nan)
    values, vectors = np.linalg.eigh(second)
    return (vectors / (values.clip(0) + ridge)) @ vectors.T


def _narrowed(weights: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Return weights scaled by the roots of curvatures, or as few columns of the same products."""
    if weights.shape[1] <= weights.shape[0]:
        return weights * np.sqrt(curvature.clip(0))
    products = weighted_products(weights, curvature)
    if not np.isfinite(products).all():
        return np.full_like(products, np.nan)
    values, vectors = np.linalg.eigh(products)
    return vectors * np.sqrt(values.clip(0))


def weighted_products(weights: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """Return `W F W'` in float64, `(entries, entries)`; no copy of all weights is made.

    Args:
        weights: `(entries, responses)`.
        curvature: `(responses,)`.
    """
    total = np.zeros((len(weights), len(weights)))
    for begin in range(0, weights.shape[1], COLUMNS):
        part = weights[:, begin : begin + COLUMNS].astype(np.float64)
        total += (part * curvature[begin : begin + COLUMNS].clip(0)) @ part.T
    return total


class Elimination:
    """The state of one quadratic while units go, and the others make up for them.

    Args:
        quadratic: how the loss grows.
        entries: `(units, size)`, places of each unit's entries.
    """

    def __init__(self, quadratic: Quadratic, entries: np.ndarray):
        self.units, self.size = entries.shape
        places = entries.reshape(-1)
        self.inverse = quadratic.matrix[np.ix_(places, places)]
        self.weights = quadratic.weights[places]
        tiles = self.inverse.reshape(self.units, self.size, self.units, self.size)
        self.blocks = np.einsum("iaib->iab", tiles).copy()
        self._steps = np.empty((len(places), len(places)))  # a factor of what was taken off
        self._done = 0

    def costs(self) -> np.ndarray:
        """Return what leaving out each unit next would add to the loss, `(units,)`."""
        weights = self.weights.reshape(self.units, self.size, -1)
        products = weights @ weights.transpose(0, 2, 1)
        return np.trace(np.linalg.solve(self.blocks, products), axis1=1, axis2=2) / 2

    def part(self, units: np.ndarray) -> Elimination:
        """Return the state of some units alone; the others stay."""
        own = _places(units, self.size)
        taken = self._steps[own, : self._done]
        inverse = self.inverse[np.ix_(own, own)] - taken @ taken.T
        weights = _narrowed(self.weights[own], np.ones(self.weights.shape[1]))
        entries = np.arange(len(own)).reshape(-1, self.size)
        return Elimination(Quadratic(inverse, weights, True), entries)

    def remove(self, units: np.ndarray) -> None:
        """Leave out units, and let those that stay make up for them."""
        own = _places(units, self.size)
        taken = self._steps[:, : self._done]
        column = self.inverse[:, own] - taken @ taken[own].T
        root = np.linalg.cholesky((column[own] + column[own].T) / 2)
        step = np.linalg.solve(root, column.T).T
        self.weights -= step @ np.linalg.solve(root, self.weights[own])
        by_unit = step.reshape(self.units, self.size, len(own))
        self.blocks -= by_unit @ by_unit.transpose(0, 2, 1)
        # What is gone has no inverse; it is looked at no more.
        self.weights[own], self.blocks[units] = 0, np.eye(self.size)
        self._steps[:, self._done : self._done + len(own)] = step
        self._done += len(own)


class Loss:
    """The state of one quadratic while units go, and nothing is made up for.

    Args:
        quadratic: how the loss grows.
        entries: `(units, size)`, places of each unit's entries.
    """

    def __init__(self, quadratic: Quadratic, entries: np.ndarray):
        places = entries.reshape(-1)
        self.units, self.size = entries.shape
        self.second = quadratic.matrix[np.ix_(places, places)]
        self.weights = quadratic.weights[places]
        self.missing = np.zeros_like(self.weights)

    def part(self, units: np.ndarray) -> Loss:
        """Return the state of some units alone; the others stay."""
        own = _places(units, self.size)
        quadratic = Quadratic(self.second[np.ix_(own, own)], self.weights[own], False)
        found = Loss(quadratic, np.arange(len(own)).reshape(-1, self.size))
        found.missing += self.missing[own]
        return found

    def costs(self) -> np.ndarray:
        """Return what leaving out each unit next would add to the loss, `(units,)`."""
        shape = (self.units, self.size, -1)
        tiles = self.second.reshape(self.units, self.size, self.units, self.size)
        weights, missing = self.weights.reshape(shape), self.missing.reshape(shape)
        own = np.einsum("iaib->iab", tiles) @ weights
        return ((own / 2 + missing) * weights).sum(axis=(1, 2))

    def remove(self, units: np.ndarray) -> None:
        """Leave out units."""
        own = _places(units, self.size)
        self.missing += self.second[:, own] @ self.weights[own]


def _places(units: np.ndarray, size: int) -> np.ndarray:
    """Return where the entries of units lie, those of one after another."""
    return (units[:, None] * size + np.arange(size)).reshape(-1)


def elimination(quadratic: Quadratic, entries: np.ndarray) -> Elimination | Loss:
    """Return the state of a quadratic from which no unit has gone."""
    return (Elimination if quadratic.refits else Loss)(quadratic, entries)


def eliminated(
    eliminations: Sequence[Elimination | Loss], constant: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Remove all units of a family, each time the one that adds least to the loss.

    Of more than 256 units, half of the 256 that would add least go so, then all are looked at anew.

    Args:
        eliminations: one for each quadratic that the family takes part in.
        constant: `(units,)`, what each unit adds beside these, whatever else goes.

    Returns:
        `(units,)` in the order of removal: the units, and what each one adds.

    Example: the first two of three units are twins, so that one of them is free.

    >>> second = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    >>> both = Quadratic.of(second, np.array([[1.0], [1.0], [1.5]]), np.ones(1), ridge=1e-9)
    >>> order, added = eliminated([elimination(both, np.arange(3)[:, None])], np.zeros(3))
    >>> order, added.round(3)
    (array([0, 2, 1]), array([0.   , 1.125, 2.   ]))
    """
    left, order, added = np.arange(len(constant)), [], []
    while len(left) > AT_ONCE:
        costs = (constant + sum(each.costs() for each in eliminations))[left]
        few = np.sort(left[np.argsort(costs, kind="stable")[:AT_ONCE]])  # ties go by position
        alone = [each.part(few) for each in eliminations]
        gone, lost = _one_by_one(alone, constant[few], AT_ONCE // 2)
        if not np.isfinite(lost).all():
            break
        for each in eliminations:
            each.remove(few[gone])
        order.append(few[gone])
        added.append(lost)
        left = np.setdiff1d(left, few[gone])
    rest = [each.part(left) for each in eliminations] if order else eliminations
    gone, lost = _one_by_one(rest, constant[left], len(left))
    return np.concatenate([*order, left[gone]]), np.concatenate([*added, lost])


def _one_by_one(
    eliminations: Sequence[Elimination | Loss], constant: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Remove some units, each time the one that adds least: return which, and what each adds."""
    stays = np.ones(len(constant), bool)
    order, added = np.zeros(count, int), np.zeros(count)
    for step in range(count):
        costs = constant + sum(each.costs() for each in eliminations)
        if not np.isfinite(costs).all():  # for those who check scores to tell
            added[step:], order[step:] = np.nan, np.flatnonzero(stays)[: count - step]
            break
        unit = int(np.where(stays, costs, np.inf).argmin())
        order[step], added[step], stays[unit] = unit, max(costs[unit], 0.0), False
        for each in eliminations:
            each.remove(np.array([unit]))
    return order, added
