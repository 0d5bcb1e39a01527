r"""Allocation: how many neurons each family keeps, for the least loss of scores at the true cost.

What is sought are widths `w` with the least `sum_f E_f(w_f)` whose cost is within the budget, where
`E_f(w)` is the sum of the scores that family `f` loses. Neurons of a family go from the lowest up,
so that `E_f` is convex; were the cost a sum over families, a Lagrangian would find them by taking
blocks in the order of their scores over what they save. But FLOPs and parameters are products of
neighbouring widths: what a block saves depends on what is left of its neighbours. So that is
counted anew at the widths that were found, again and again, and blocks are exchanged at the end, as
long as that loses less at a cost within the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from prune_keras import debias as debiasing
from prune_keras.graph import Graph
from prune_keras.selection.blocks import (
    Block,
    begins_of,
    blocks_of,
    floors_of,
    needed,
    offered,
    ordered,
    removable,
    sizes_after,
    steps,
)
from prune_keras.selection.limits import Limits
from prune_keras.selection.scores import Ranking

ROUNDS = 6  # of counting anew what blocks save
STARTS = 3
EXCHANGES = 100
WORTH = 1e-4  # of the loss, what an exchange has to spare
AT_ONCE = 256  # cases whose costs are counted together
MOVES = ((1, 1), (2, 1), (1, 2))  # blocks that one family loses more, and another one less


@dataclass(frozen=True)
class Allocation:
    """Widths to search for; the arguments are those of `choose`, with scores as it has them."""

    graph: Graph
    combined: list[np.ndarray]
    values: list[np.ndarray]
    ranking: Ranking
    limits: Limits
    original: Mapping[str, int]
    budget: Mapping[str, float]
    fraction: float | None

    @property
    def present(self) -> np.ndarray:
        """`(families,)`, neurons that are left by now."""
        return np.array([np.isfinite(scores).sum() for scores in self.combined], int)

    def per_cost(self) -> list[Block]:
        """Return blocks to remove, by their scores over what each saves of the model as it is."""
        return self._at(self.present, self._weights())

    def optimal(self) -> list[Block]:
        """Return blocks to remove that lose the least scores, as far as the search finds them.

        Of several metrics, all are weighed together, and each alone. What the plain order of
        scores comes to is looked at as well, so that no other scope loses less. Where a fraction
        ends it before the budget is met, blocks go by what they save at the widths they leave.
        """
        weights, table = self._weights(), Table.of(self)
        ways = [weights, *({m: w} for m, w in weights.items() if len(weights) > 1)]
        found = [removed for way in ways for removed in self._settling(way)]
        starts = np.unique([table.counts(each) for each in [*found, self._in_order()]], axis=0)
        reached = starts[self.are_met(table.sizes(starts))]
        if not self.budget or not len(reached):
            return found[ROUNDS - 1]
        nearest = sorted(reached, key=table.error)[:STARTS]
        return table.blocks(min(map(table.exchanged, nearest), key=table.error))

    def _settling(self, weights: Mapping[str, float]) -> Iterator[list[Block]]:
        """Yield what goes by costs at the widths that went before."""
        point = self.present
        for number in range(ROUNDS):
            removed = self._at(point, weights)
            yield removed
            sizes = sizes_after(self.graph, removed)
            point = (point + sizes) // 2 if number else sizes

    def _at(self, point: np.ndarray, weights: Mapping[str, float]) -> list[Block]:
        """Return blocks to remove, by what they save where all other families have these sizes."""
        pairs = zip(self.graph.sizes.tolist(), steps(self.graph, self.limits), strict=True)
        begins = [begins_of(size, step) for size, step in pairs]
        return self._in_order(
            [self._saved(family, each, point, weights) for family, each in enumerate(begins)]
        )

    def _in_order(self, saved: list[np.ndarray] | None = None) -> list[Block]:
        """Return blocks to remove, by their scores over what they save, or by their mean scores."""
        graph, ranking, multiples = self.graph, self.ranking, steps(self.graph, self.limits)
        scored = graph.families, self.combined, self.values
        blocks = ordered(blocks_of(*scored, ranking, multiples, self.fraction, 0, saved))
        blocks, allowed = offered(graph, blocks, ranking.scope, self.fraction)
        removed = removable(graph, blocks, self.limits, self.original, allowed)
        return removed[: needed(graph, removed, self.budget)]

    def _saved(
        self, family: int, begins: list[int], point: np.ndarray, weights: Mapping[str, float]
    ) -> np.ndarray:
        """Return `(blocks,)`, what each block of a family saves."""
        size = self.graph.sizes[family]
        sizes = np.tile(point, (len(begins) + 1, 1))
        sizes[:, family] = size - np.array([*begins, size])
        amounts = self.graph.costs.amounts(sizes)
        saved = -sum(weight * np.diff(amounts[metric]) for metric, weight in weights.items())
        return np.maximum(saved, 1e-12)

    def _weights(self) -> dict[str, float]:
        """Return metric -> one over what is to be saved of it, for those that are not met yet."""
        now = self.graph.costs.at(self.present)
        over = {m: getattr(now, m) - most for m, most in self.budget.items()}
        return {m: 1 / more for m, more in over.items() if more > 0} or {self.ranking.measure: 1.0}

    def are_met(self, sizes: np.ndarray) -> np.ndarray:
        """Tell of `(cases, families)` sizes whether they are within budget, fraction and limits."""
        costs = self.graph.costs
        floors = floors_of(self.graph, self.limits, self.original)
        floors = np.minimum(floors, costs.lengths(self.present))  # what is narrower stays so
        met = (costs.constants + sizes @ costs.members.T >= floors).all(axis=1)
        amounts = costs.amounts(sizes)
        for metric, most in self.budget.items():
            met &= amounts[metric] <= most
        if self.fraction is not None:
            most_gone = int(self.fraction * self.graph.neurons + 1e-9)
            met &= self.graph.neurons - sizes.sum(axis=1) <= most_gone
        return met


@dataclass(frozen=True)
class Table:
    """What families lose, by how many of their blocks go.

    Args:
        allocation: what is searched for.
        ascending: positions of each family's neurons, from the lowest score up.
        ends: how many neurons have gone with each count of blocks, `(counts,)` a family.
        errors: `(families, counts)`, sums of their scores; infinite where there are no more blocks.
        least: `(families,)`, blocks that are gone by now.
        most: `(families,)`, blocks that may go.
    """

    allocation: Allocation
    ascending: list[np.ndarray]
    ends: list[np.ndarray]
    errors: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @classmethod
    def of(cls, allocation: Allocation) -> Table:
        ascending = [np.argsort(debiasing.rank(scores)) for scores in allocation.combined]
        multiples = steps(allocation.graph, allocation.limits)
        pairs = zip(ascending, multiples, strict=True)
        ends = [np.array([*begins_of(len(each), step), len(each)]) for each, step in pairs]
        errors = np.full((len(ends), max(map(len, ends))), np.inf)
        for row, values, order, end in zip(errors, allocation.values, ascending, ends, strict=True):
            lost = np.where(np.isfinite(values), values, 0)[order]
            row[: len(end)] = np.append(0, np.cumsum(lost))[end]
        gone = allocation.graph.sizes - allocation.present
        least = np.array([np.searchsorted(end, each) for end, each in zip(ends, gone, strict=True)])
        stays = allocation.limits.excluded(allocation.graph.widths)
        free = [stays.isdisjoint(family.paths) for family in allocation.graph.families]
        most = np.where(free, [len(end) - 1 for end in ends], least)
        return cls(allocation, ascending, ends, errors, least, most)

    def error(self, counts: np.ndarray) -> float:
        return float(self.errors[np.arange(len(counts)), counts].sum())

    def counts(self, removed: list[Block]) -> np.ndarray:
        """Return `(families,)`, how many blocks of each go."""
        return np.bincount([block.family for block in removed], minlength=len(self.ends))

    def sizes(self, counts: np.ndarray) -> np.ndarray:
        """Return `(cases, families)` neurons that are left, for as many counts of blocks."""
        gone = [end[column] for end, column in zip(self.ends, counts.T, strict=True)]
        return self.allocation.graph.sizes - np.stack(gone, axis=1)

    def blocks(self, counts: np.ndarray) -> list[Block]:
        """Return the lowest blocks of each family."""
        found = []
        for family, count in enumerate(counts):
            begins = self.ends[family][: count + 1]
            for begin, end in zip(begins, begins[1:], strict=False):
                found.append(Block(family, tuple(self.ascending[family][begin:end].tolist()), ()))
        return found

    def exchanged(self, counts: np.ndarray) -> np.ndarray:
        """Return counts of blocks that no exchange of a few blocks makes better."""
        for _ in range(EXCHANGES):
            better = self._better(counts)
            if better is None:
                return counts
            counts = better
        return counts

    def _better(self, counts: np.ndarray) -> np.ndarray | None:
        changes, now = self._changes(counts), self.error(counts)
        better = np.flatnonzero(changes < -WORTH * abs(now))
        better = better[np.argsort(changes[better], kind="stable")]
        for begin in range(0, len(better), AT_ONCE):
            some = counts + self._moves(better[begin : begin + AT_ONCE])
            met = np.flatnonzero(self.allocation.are_met(self.sizes(some)))
            if len(met):
                return some[met[0]]
        return None

    def _changes(self, counts: np.ndarray) -> np.ndarray:
        """Return `(moves,)`: what the error grows by with each, infinite for what may not be.

        Some kinds of moves by all pairs of families: of hundreds, only what is tried is laid out.
        """
        changes = [self._change(counts, -1)]
        for more, less in MOVES:
            pairs = self._change(counts, more)[:, None] + self._change(counts, -less)
            np.fill_diagonal(pairs, np.inf)
            changes.append(pairs.reshape(-1))
        return np.concatenate(changes)

    def _change(self, counts: np.ndarray, by: int) -> np.ndarray:
        """Return `(families,)`, what the error grows by as each loses so many blocks more."""
        families, moved = np.arange(len(counts)), counts + by
        may = (moved >= self.least) & (moved <= self.most)
        grows = self.errors[families, np.where(may, moved, counts)] - self.errors[families, counts]
        return np.where(may, grows, np.inf)

    def _moves(self, numbers: np.ndarray) -> np.ndarray:
        """Return `(moves, families)`: one family loses less, and another one more or none does."""
        families = len(self.ends)
        moves, places = np.zeros((len(numbers), families), int), np.arange(len(numbers))
        kinds, pairs = np.divmod(numbers - families, families**2)
        losing, sparing = np.divmod(pairs, families)
        is_single = numbers < families
        sparing = np.where(is_single, numbers, sparing)
        steps_of = np.array([*MOVES, (0, 1)])[kinds]  # the last one is -1: of single ones
        moves[places, losing] += steps_of[:, 0]
        moves[places, sparing] -= steps_of[:, 1]
        return moves
