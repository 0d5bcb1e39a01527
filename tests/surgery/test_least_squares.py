"""Least squares of a refit: what is gathered as rows or as sums, and what held-out rows decide."""

import numpy as np
import pytest

from prune_keras.repair.gathering import Gathered, Gathering
from prune_keras.repair.least_squares import fitted
from prune_keras.repair.sums import Sums


def rows_of(count, read, units=3, groups=2, noise=0.1):
    """Return rows `[read, missed]`, what is missed a sum of what is read and of noise."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(groups, count, read)) + 2
    missed = x @ draw.normal(size=(groups, read, units)) / read
    missed += noise * draw.normal(size=missed.shape)
    return np.concatenate([x, missed], axis=-1)


def gathered(rows, read, batches=4, held=None):
    gathering = Gathering(read)
    held = np.arange(rows.shape[1]) % 4 == 3 if held is None else held
    places = np.array_split(np.arange(rows.shape[1]), batches)
    for each in places:
        gathering.add(rows[:, each], held[each])
    return gathering.gathered()


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_few_rows_are_fitted_as_many_entries_would_be(shifts, learns):
    rows, held = rows_of(20, 32), np.arange(20) % 4 == 3
    few, many = gathered(rows, 32), Gathered(Sums.of(rows[:, ~held]), Sums.of(rows[:, held]), 32)
    assert (few.read, many.read, few.entries, many.entries) == (20, 32, 32, 32)
    found, expected = (fitted(each, shifts, learns) for each in (few, many))
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.shift, expected.shift, rtol=1e-6, atol=1e-9)
    assert found.before == pytest.approx(expected.before)
    assert found.after == pytest.approx(expected.after)


@pytest.mark.parametrize("count", [20, 200])
def test_what_is_allowed_is_a_change_of_all_entries(count):
    rows, seen = rows_of(count, 32), []

    def allowed(weights):
        seen.append(weights.shape)
        return weights.clip(-0.01, 0.01)

    fit = fitted(gathered(rows, 32), True, True, allowed)
    assert {*seen} == {(2, 32, 3)}
    assert np.abs(fit.weights).max() <= 0.01
    assert fit.after < fit.before


@pytest.mark.parametrize("count", [12, 200])
def test_nothing_changes_where_held_out_rows_would_only_lose(count):
    """Rows to fit on miss one way, those held out the other way."""
    rows = rows_of(count, 32, noise=0)
    held = np.arange(count) % 4 == 3
    rows[..., 32:] = np.where(held, -1, 1)[:, None]
    for shifts in (True, False):
        fit = fitted(gathered(rows, 32, held=held), shifts)
        assert not fit.weights.any() and not fit.shift.any()
        assert fit.after == fit.before == 1


def test_a_shift_alone_is_judged_too():
    rows = rows_of(200, 4, noise=0)
    rows[..., 4:] = 1
    fit = fitted(gathered(rows, 4), shifts=True, learns=False)
    np.testing.assert_allclose(fit.shift, 1)
    assert fit.before == pytest.approx(1) and fit.after == pytest.approx(0)


def test_rows_of_one_kind_tell_nothing():
    assert gathered(rows_of(8, 4), 4, held=np.zeros(8, bool)) is None
    assert gathered(rows_of(2, 4), 4, held=np.ones(2, bool)) is None
