"""Least squares of a refit: what is gathered as rows or as sums, and what held-out rows decide."""

import numpy as np
import pytest

from prune_keras.repair.gathering import Gathered, Gathering
from prune_keras.repair.least_squares import fitted
from prune_keras.repair.ridged import Ridged
from prune_keras.repair.sums import Sums


def rows_of(count, read, units=3, groups=2, noise=0.1):
    """Return rows of what is read and missed, the latter a sum of the former and of noise."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(groups, count, read)) + 2
    missed = x @ draw.normal(size=(groups, read, units)) / read
    missed += noise * draw.normal(size=missed.shape)
    return x, missed


def gathered(read, missed, held=None):
    """Gather rows in four batches; every fourth row is held out."""
    gathering = Gathering(read.shape[2])
    held = np.arange(read.shape[1]) % 4 == 3 if held is None else held
    for places in np.array_split(np.arange(read.shape[1]), 4):
        gathering.add(read[:, places], missed[:, places], held[places])
    return gathering.gathered()


def test_sums_are_those_of_all_rows():
    read, missed = rows_of(50, 8)
    found, held = gathered(read, missed), np.arange(50) % 4 == 3
    for sums, rows in ((found.fit, ~held), (found.held, held)):
        x, y = read[:, rows], missed[:, rows]
        x, y = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
        np.testing.assert_allclose(sums.read, read[:, rows].mean(1))
        np.testing.assert_allclose(sums.missed, missed[:, rows].mean(1))
        np.testing.assert_allclose(sums.inner, np.einsum("gni,gnj->gij", x, x), atol=1e-12)
        np.testing.assert_allclose(sums.toward, np.einsum("gni,gnj->gij", x, y), atol=1e-12)
        np.testing.assert_allclose(sums.power, np.square(y).sum(1))


def test_the_same_rows_may_miss_something_else():
    read, missed = rows_of(50, 8)
    sums, expected = Sums.of(read, np.zeros_like(missed)), Sums.of(read, missed)
    found = sums.toward_other(read - 3, missed)
    for name in ("read", "missed", "inner", "toward", "power"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-12)


def test_many_units_choose_a_ridge_by_some_of_them():
    read, missed = rows_of(200, 6, units=300, noise=1)
    found, some = (
        fitted(gathered(read, missed), True),
        fitted(gathered(read, missed[..., ::2]), True),
    )
    np.testing.assert_allclose(found.weights[..., ::2], some.weights)
    own = missed[:, np.arange(200) % 4 == 3]
    assert found.before == pytest.approx(np.square(own).mean())
    assert found.after < found.before


@pytest.mark.parametrize("shifts", [True, False])
def test_a_fit_is_ridge_regression_by_the_ridge_that_held_out_rows_choose(shifts):
    read, missed = rows_of(60, 12, noise=1)
    held, found = np.arange(60) % 4 == 3, fitted(gathered(read, missed), shifts)

    def regressed(rows, ridge):
        """Return weights and shifts of the first group."""
        x, y = read[0, rows], missed[0, rows]
        about = [each.mean(0) if shifts else 0 for each in (x, y)]
        x, y = x - about[0], y - about[1]
        level = np.trace(x.T @ x) / len(x) / 12
        weights = np.linalg.solve(x.T @ x / len(x) + ridge * level * np.eye(12), x.T @ y / len(x))
        return weights, about[1] - about[0] @ weights if shifts else 0

    tried = [regressed(np.ones(60, bool), 10.0**power)[0] for power in range(-14, 2)]
    apart = [np.abs(found.weights[0] - weights).max() for weights in tried]
    assert min(apart) < 1e-4
    weights, shift = regressed(~held, 10.0 ** (np.argmin(apart) - 14))
    first = np.square(missed[0, held] - read[0, held] @ weights - shift).mean()
    assert found.before == pytest.approx(np.square(missed[:, held]).mean())
    assert found.after < found.before
    assert first < np.square(missed[0, held]).mean()


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("learns", [True, False])
def test_few_rows_are_fitted_as_many_entries_would_be(shifts, learns):
    (read, missed), held = rows_of(20, 32), np.arange(20) % 4 == 3
    parts = (Sums.of(read[:, rows], missed[:, rows]) for rows in (~held, held))
    few, many = gathered(read, missed), Gathered(*parts)
    assert (few.read, many.read, few.entries, many.entries) == (20, 32, 32, 32)
    found, expected = (fitted(each, shifts, learns) for each in (few, many))
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.shift, expected.shift, rtol=1e-6, atol=1e-9)
    assert found.before == pytest.approx(expected.before)
    assert found.after == pytest.approx(expected.after)


@pytest.mark.parametrize("count", [20, 200])
def test_what_is_allowed_is_a_change_of_all_entries(count):
    seen = []

    def allowed(weights):
        seen.append(weights.shape)
        return weights.clip(-0.01, 0.01)

    fit = fitted(gathered(*rows_of(count, 32)), True, True, allowed)
    assert {*seen} == {(2, 32, 3)}
    assert np.abs(fit.weights).max() <= 0.01
    assert fit.after < fit.before


@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("count", [12, 200])
def test_nothing_changes_where_held_out_rows_would_only_lose(count, shifts):
    """Rows to fit on miss one way, those held out the other way."""
    read, missed = rows_of(count, 32)
    held = np.arange(count) % 4 == 3
    missed[:] = np.where(held, -1, 1)[:, None]
    fit = fitted(gathered(read, missed), shifts)
    assert not fit.weights.any() and not fit.shift.any()
    assert fit.after == fit.before == 1


def test_a_shift_alone_is_judged_too():
    read, missed = rows_of(200, 4)
    fit = fitted(gathered(read, np.ones_like(missed)), shifts=True, learns=False)
    np.testing.assert_allclose(fit.shift, 1)
    assert fit.before == pytest.approx(1) and fit.after == pytest.approx(0)


def test_rows_of_one_kind_tell_nothing():
    for count in (2, 8):
        assert gathered(*rows_of(count, 4), held=np.zeros(count, bool)) is None
        assert gathered(*rows_of(count, 4), held=np.ones(count, bool)) is None


@pytest.mark.parametrize("noise", [0, 0.01, 1, 100])
def test_no_ridge_is_tried_twice_and_the_neighbours_of_the_best_are(noise, monkeypatch):
    (read, missed), tried = rows_of(60, 12, noise=noise), []

    def counted(sums, rows, ridge, centred, of=Ridged.of):
        tried.append(round(np.log10(ridge)))
        return of(sums, rows, ridge, centred)

    monkeypatch.setattr(Ridged, "of", counted)
    fit = fitted(gathered(read, missed), True)
    *tried, _ = tried if fit.weights.any() else [*tried, None]  # the last one is of all rows
    assert len({*tried}) == len(tried)
    if fit.weights.any():
        best = round(np.log10(fit.ridge))
        assert {each for each in (best - 1, best + 1) if -14 <= each <= 1} <= {*tried}


@pytest.mark.parametrize("read", [1, 63, 64, 65, 150])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("ridge", [1e-10, 1e-2])
def test_what_is_factored_once_solves_as_it_would_each_time(read, centred, ridge):
    sums = Sums.of(*rows_of(2 * read + 5, read))
    ridged = Ridged.of(sums, Gathered(sums, sums), ridge, centred)
    inner, toward = (
        sums.inner / sums.count + (0 if centred else sums.read[:, :, None] * sums.read[:, None]),
        sums.toward / sums.count + (0 if centred else sums.read[:, :, None] * sums.missed[:, None]),
    )
    level = np.trace(inner, axis1=1, axis2=2) / read
    held = inner + ridge * level[:, None, None] * np.eye(read)
    expected = np.linalg.solve(inner if ridge < 1e-6 else held, toward)
    np.testing.assert_allclose(ridged.solve(sums), expected, rtol=1e-4, atol=1e-6)
    assert ridged.ridge == ridge
    some = sums.of_units(2)
    np.testing.assert_allclose(ridged.solve(some), ridged.solve(sums)[..., ::2], atol=1e-12)


def test_a_ridge_that_rounding_outweighs_grows():
    read, missed = rows_of(300, 100)
    read[..., 50:] = read[..., :50] @ np.random.default_rng(1).normal(size=(50, 50))
    sums = Sums.of(1e3 * read, missed)
    sums.inner[:] -= 1e-12 * np.trace(sums.inner, axis1=1, axis2=2)[:, None, None] * np.eye(100)
    ridged = Ridged.of(sums, Gathered(sums, sums), 1e-14, True)
    assert 1e-14 < ridged.ridge < 1e-6
    assert np.isfinite(ridged.solve(sums)).all()


@pytest.mark.parametrize("side", ["read", "missed"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_nothing_is_fitted_to_numbers_that_are_none(side, number):
    read, missed = rows_of(60, 12)
    (read if side == "read" else missed)[1, 5, 2] = number
    fit = fitted(gathered(read, missed), True)
    assert not fit.weights.any()
    assert side == "read" or not fit.shift.any()
