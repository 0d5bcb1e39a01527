"""Factoring: a convolution's kernel as a product of cheaper ones, by least squares over samples."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

RIDGE = 1e-6
NOTHING = 1e-3  # of what other channels come to


@dataclass(frozen=True)
class Factors:
    """Kernels that are applied one after another.

    Args:
        reduce: `(channels, middle)`, at each position; None where channels are read as they are.
        grouped: `(taps, middle / groups, middle)`.
        mix: `(middle, units)`, at each position.
        bias: `(units,)`.
    """

    reduce: np.ndarray | None
    grouped: np.ndarray
    mix: np.ndarray
    bias: np.ndarray


def factored(
    rows: np.ndarray, responses: np.ndarray, taps: int, middle: int, groups: int, reduces: bool
) -> Factors:
    r"""Return factors whose responses miss least of given ones, as far as one pass finds them.

    Channels are reduced to the directions that the least squares solution reads most of. Of each
    group, what is read is reduced to as many numbers as the group has channels left, by the best
    approximation of that rank under the covariance of what is read: of the group's part in the
    solution for all, which is exact where such factors are, or of the solution for it alone,
    whichever misses less. What mixes these is the least squares solution for all groups at once.

    Args:
        rows: `(rows, taps * channels)`, what each response reads, tap by tap.
        responses: `(rows, units)`.
        taps: number of positions that a response reads.
        middle: number of channels of the grouped convolution.
        groups: number of its groups.
        reduces: whether channels are mixed before, too.

    Example:

    >>> rng = np.random.default_rng(0)
    >>> rows, kernel = rng.normal(size=(200, 8)), rng.normal(size=(8, 3))
    >>> found = factored(rows, rows @ kernel, taps=2, middle=4, groups=1, reduces=False)
    >>> bool(np.abs(applied(found, rows, groups=1) - rows @ kernel).max() < 1e-2)
    True
    """
    about = responses - responses.mean(0)
    reduce = _directions(rows - rows.mean(0), about, taps, middle) if reduces else None
    if reduce is not None:
        rows = (rows.reshape(len(rows), taps, -1) @ reduce).reshape(len(rows), -1)
    centred = rows - rows.mean(0)
    parts = _parts(centred, taps, groups)
    solutions = [_parts(_solved(centred, about).T, taps, groups)]
    if groups > 1:
        solutions.append([_solved(part, about).T for part in parts])
    kernels = [_rank_bests(parts, each, middle // groups) for each in solutions]
    grouped = [each.reshape(taps, -1, middle) for each in kernels]
    mixes = [_affine(_grouped(rows, each, groups), responses) for each in grouped]
    found = [Factors(None, each, *mix) for each, mix in zip(grouped, mixes, strict=True)]
    best = min(found, key=lambda each: np.sum((applied(each, rows, groups) - responses) ** 2))
    return balanced(replace(best, reduce=reduce))


def balanced(factors: Factors) -> Factors:
    """Return factors of the same product of which those that meet are as large, channel by channel.

    Else the smaller one has gradients as much larger, and training at a usual rate diverges. Where
    one is zero, as what mixes channels that are zero for all samples, the other one becomes as
    large as those of other channels are.

    Example:

    >>> grouped, mix = 100 * np.ones((9, 1, 2)), np.ones((2, 4)) / 100
    >>> found = balanced(Factors(None, grouped, mix, np.zeros(4)))
    >>> bool(np.isclose(np.linalg.norm(found.grouped[..., 0]), np.linalg.norm(found.mix[0])))
    True
    """
    reduce, grouped, mix = factors.reduce, factors.grouped, factors.mix
    scales = _ratios(mix.T, grouped.reshape(-1, grouped.shape[-1]))
    grouped, mix = grouped * scales, mix / scales[:, None]
    if reduce is not None:
        groups = grouped.shape[-1] // (inner := grouped.shape[1])
        by_group = grouped.reshape(len(grouped), inner, groups, -1)
        read = by_group.transpose(0, 3, 2, 1).reshape(-1, groups * inner)
        scales = _ratios(read, reduce)
        by_group = by_group / scales.reshape(groups, inner).T[None, :, :, None]
        reduce, grouped = reduce * scales, by_group.reshape(grouped.shape)
    return Factors(reduce, grouped, mix, factors.bias)


def _ratios(wanted: np.ndarray, had: np.ndarray) -> np.ndarray:
    """Return by how much columns are scaled to meet others half-way.

    A column whose product with the other one is nothing becomes as large as others end; one that is
    zero lets the other one become so.
    """
    other, own = np.linalg.norm(wanted, axis=0), np.linalg.norm(had, axis=0)
    met = np.sqrt(other * own)
    usual = met[met > 0].mean() if met.any() else 1.0
    met = np.where(met > NOTHING * usual, met, usual)
    up = met / np.where(own > 0, own, 1.0)
    return np.where(own > 0, up, np.where(other > 0, other, met) / met)


def applied(factors: Factors, rows: np.ndarray, groups: int) -> np.ndarray:
    """Return the responses of factors, `(rows, units)`."""
    if factors.reduce is not None:
        taps = len(factors.grouped)
        rows = (rows.reshape(len(rows), taps, -1) @ factors.reduce).reshape(len(rows), -1)
    return _grouped(rows, factors.grouped, groups) @ factors.mix + factors.bias


def _parts(rows: np.ndarray, taps: int, groups: int) -> list[np.ndarray]:
    """Return what each group of channels reads: `(rows, taps * channels / groups)` each."""
    split = rows.reshape(len(rows), taps, groups, -1)
    return [split[:, :, group].reshape(len(rows), -1) for group in range(groups)]


def _grouped(rows: np.ndarray, kernel: np.ndarray, groups: int) -> np.ndarray:
    taps, _, middle = kernel.shape
    flat = kernel.reshape(-1, groups, middle // groups)
    parts = _parts(rows, taps, groups)
    return np.concatenate([part @ flat[:, group] for group, part in enumerate(parts)], axis=1)


def _affine(rows: np.ndarray, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weights and a bias by ridge regression."""
    means = rows.mean(0), responses.mean(0)
    weights = _solved(rows - means[0], responses - means[1])
    return weights, means[1] - means[0] @ weights


def _solved(rows: np.ndarray, responses: np.ndarray) -> np.ndarray:
    return np.linalg.solve(_second(rows), rows.T @ responses / len(rows))


def _second(rows: np.ndarray) -> np.ndarray:
    """Return second moments, lifted a little so that they can be inverted."""
    moments = rows.T @ rows / len(rows)
    return moments + RIDGE * (np.trace(moments) / len(moments) + 1e-12) * np.eye(len(moments))


def _rank_bests(parts: list[np.ndarray], weights: list[np.ndarray], rank: int) -> np.ndarray:
    """Return `(read, groups * rank)`: for each group, what so few numbers hold of its weights.

    Args:
        parts: `(rows, read)` of each group.
        weights: `(units, read)` of each group.
        rank: numbers of each group.
    """
    pairs = zip(parts, weights, strict=True)
    return np.concatenate([_rank_best(part, each.T, rank) for part, each in pairs], axis=1)


def _rank_best(rows: np.ndarray, weights: np.ndarray, rank: int) -> np.ndarray:
    """Return `(read, rank)`: of all that rows tell by weights, what so few numbers can hold."""
    root = np.linalg.cholesky(_second(rows))
    return _read_most(root, root.T @ weights, rank)


def _read_most(root: np.ndarray, told: np.ndarray, rank: int, again: bool = False) -> np.ndarray:
    """Return `(read, rank)`: what makes the directions that are told most, by a root of moments.

    Those of which nothing is told, as of inputs that are zero, are as large as the others; or the
    others again, where what is read does not vary in more.
    """
    left, values, _ = np.linalg.svd(told, full_matrices=False)
    left, values = _filled(left[:, :rank], rank), np.append(values, np.zeros(rank))[:rank]
    found = np.linalg.solve(root.T, left)
    norms, are_told = np.linalg.norm(found, axis=0), values > NOTHING * values[0]
    if not are_told.any():
        return found / norms
    if again:
        return np.resize(found[:, are_told].T, (rank, len(found))).T
    return np.where(are_told, found, found * norms[are_told].mean() / norms)


def _filled(left: np.ndarray, rank: int) -> np.ndarray:
    """Return orthonormal columns with others beside them, orthonormal as long as these can be."""
    size, count = left.shape
    if count >= rank:
        return left
    drawn = np.random.default_rng(0).normal(size=(size, rank))
    whole = np.linalg.qr(np.concatenate([left, drawn], axis=1))[0][:, :rank]
    more = drawn[:, : rank - whole.shape[1]]
    return np.concatenate([whole, more / np.linalg.norm(more, axis=0)], axis=1)


def _directions(rows: np.ndarray, responses: np.ndarray, taps: int, middle: int) -> np.ndarray:
    """Return `(channels, middle)`: the directions of channels that responses read most of."""
    channels = rows.shape[1] // taps
    weights = _solved(rows, responses).reshape(taps, channels, -1)
    root = np.linalg.cholesky(_second(rows.reshape(-1, channels)))
    read = np.einsum("dc,tcu->dtu", root.T, weights).reshape(channels, -1)
    return _read_most(root, read, middle, again=True)
