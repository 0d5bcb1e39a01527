"""Least squares of responses on what is read, and of how much to believe them.

Everything is decided from sums of products: those of rows to fit on, and of rows held out, by
which a ridge is chosen and a change is judged. Sums are of float64 and centred.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_keras.repair.gathering import Gathered
from prune_keras.repair.ridged import Ridged
from prune_keras.repair.sums import Sums

Allowed = Callable[[np.ndarray], np.ndarray] | None

RIDGES = (1e1, 1e-14)  # the largest and the least, of the mean second moment

UNITS = 256  # of each group, by which a ridge is chosen


@dataclass(frozen=True)
class Fit:
    """What is added to the weights of a layer.

    Args:
        weights: `(groups, read, units)`.
        shift: `(groups, units)`, what is added to each response.
        before, after: mean square of what responses miss on rows held out, without and with it.
        ridge: the ridge that was chosen.
    """

    weights: np.ndarray
    shift: np.ndarray
    before: float
    after: float
    ridge: float = 0.0


def fitted(
    rows: Gathered,
    shifts: bool,
    learns: bool = True,
    allowed: Allowed = None,
) -> Fit:
    """Return what is best added to the weights by which responses are made of what is read.

    Args:
        rows: what a layer reads, and what its responses miss.
        shifts: whether responses can be shifted for free.
        learns: whether weights may change.
        allowed: what becomes of a change that a constraint is put on, `(groups, read, units)`.
            Defaults to None: the change itself.
    """
    fit, held, joint = rows.fit, rows.held, rows.joint
    none = np.zeros_like(fit.toward)
    before = _error(held, none, np.zeros_like(fit.missed))
    shifted = _error(held, none, shift_of(fit, none, shifts))

    def error(ridged: Ridged, own: Sums = fit, out: Sums = held) -> float:
        weights = within(ridged.solve(own), rows, allowed)
        return _error(out, weights, shift_of(own, weights, shifts))

    ridge, after = 0.0, np.inf
    if learns and np.isfinite(before) and np.isfinite(joint.inner).all():
        some = [sums.of_units(UNITS) if allowed is None else sums for sums in (fit, held)]
        tried = functools.partial(Ridged.of, fit, rows, centred=shifts)
        best, after = _descended(tried, lambda ridged: error(ridged, *some))
        after = after if some[0].missed.shape == fit.missed.shape else error(best)
        ridge = best.ridge
    weights = none
    if after < min(before, shifted):
        weights = Ridged.of(joint, rows, ridge, shifts).solve(joint)
    elif not shifted < before:
        return Fit(rows.widened(none), np.zeros_like(fit.missed), before, before)
    shift = shift_of(joint, within(weights, rows, allowed), shifts)
    whole = rows.widened(weights)
    whole = whole if allowed is None else allowed(whole)
    return Fit(whole, shift, before, min(after, shifted), ridge)


def within(weights: np.ndarray, rows: Gathered, allowed: Allowed) -> np.ndarray:
    """Return what becomes of a change by a constraint, as of what stands for the entries."""
    return weights if allowed is None else rows.narrowed(allowed(rows.widened(weights)))


def _descended(
    tried: Callable[[float], Ridged], error: Callable[[Ridged], float]
) -> tuple[Ridged, float]:
    """Return what has the least error, and that: a way down from the middle, by tens."""
    best = start = tried(1e-2)
    least = error(best)
    for step in (0.1, 10.0):
        while RIDGES[-1] <= best.ridge * step <= RIDGES[0]:
            other = tried(best.ridge * step)
            found = error(other)
            if found >= least:
                break
            best, least = other, found
        if best is not start:  # the other way lies what it came by
            break
    return best, least


def shift_of(sums: Sums, weights: np.ndarray, shifts: bool) -> np.ndarray:
    """Return by how much responses are missed on average."""
    missed = sums.missed - np.matmul(sums.read[:, None], weights)[:, 0]
    return missed if shifts else np.zeros_like(missed)


def _error(sums: Sums, weights: np.ndarray, shift: np.ndarray) -> float:
    """Return the mean square, over rows and units, of what is missed with some weights more."""
    explained: Any = 0.0
    if weights.any():
        explained = ((2 * sums.toward - np.matmul(sums.inner, weights)) * weights).sum(axis=1)
    mean = shift_of(sums, weights, True) - shift
    return float(np.mean((sums.power - explained) / sums.count + np.square(mean)))
