"""Kernels as products of smaller ones: what these hold, and that they can be trained."""

import numpy as np
import pytest

from prune_keras.factoring import Factors, applied, balanced, factored

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("reduces", [False, True])
@pytest.mark.parametrize(("middle", "groups"), [(8, 1), (8, 4), (4, 2), (8, 8)])
def test_least_squares_beats_what_it_starts_from(reduces, middle, groups):
    rows = RNG.normal(size=(600, 4, 8)) @ RNG.normal(size=(8, 8))
    rows = rows.reshape(600, -1)
    responses = rows @ RNG.normal(size=(32, 6)) + RNG.normal(size=6)
    found = factored(rows, responses, 4, middle, groups, reduces)
    missed = np.mean((applied(found, rows, groups) - responses) ** 2)
    assert missed < np.mean((responses - responses.mean(0)) ** 2)
    drawn = factored(rows, RNG.permutation(responses), 4, middle, groups, reduces)
    assert missed < np.mean((applied(drawn, rows, groups) - responses) ** 2)
    if middle == 8 and groups == 1:
        assert missed < 1e-4 * np.var(responses)  # as wide as what it replaces


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_what_groups_can_hold_is_held(groups):
    """Other groups are no noise, though they are read at once, and together with these."""
    rows = RNG.normal(size=(600, 4, 8)) @ RNG.normal(size=(8, 8)) + RNG.normal(size=(600, 1, 8))
    drawn = RNG.normal(size=(4, 8 // groups, 8)), RNG.normal(size=(8, 6))
    exact, rows = Factors(None, *drawn, np.ones(6)), rows.reshape(600, -1)
    responses = applied(exact, rows, groups)
    found = factored(rows, responses, 4, 8, groups, False)
    missed = np.mean((applied(found, rows, groups) - responses) ** 2)
    assert missed < 1e-6 * np.var(responses)


@pytest.mark.parametrize(("middle", "groups"), [(4, 1), (4, 2), (4, 4)])
def test_balanced_kernels_have_the_same_product(middle, groups):
    scales = 10.0 ** RNG.uniform(-3, 3, middle)
    drawn = (RNG.normal(size=shape) for shape in ((5, middle), (9, middle // groups, middle)))
    factors = Factors(*drawn, RNG.normal(size=(middle, 6)) * scales[:, None], np.ones(6))
    found, rows = balanced(factors), RNG.normal(size=(7, 45))
    expected = applied(factors, rows, groups)
    np.testing.assert_allclose(applied(found, rows, groups), expected, 1e-9, 1e-9)
    spread = [np.ptp(np.log(np.linalg.norm(each.mix, axis=1))) for each in (found, factors)]
    assert spread[0] < 0.7 * spread[1]


@pytest.mark.parametrize("dead", [[3], [0, 1], list(range(7)), list(range(8))])
@pytest.mark.parametrize(
    ("middle", "groups", "reduces"), [(8, 8, False), (8, 4, False), (8, 2, False), (4, 4, True)]
)
def test_channels_that_no_sample_has_leave_kernels_that_can_be_trained(
    middle, groups, reduces, dead
):
    rows = RNG.normal(size=(600, 9, 8))
    rows[..., dead] = 0
    rows = rows.reshape(600, -1)
    responses = rows @ RNG.normal(size=(72, 6))
    found = factored(rows, responses, 9, middle, groups, reduces)
    kernels = [found.grouped, found.mix, *([found.reduce] if reduces else [])]
    assert max(np.abs(each).max() for each in kernels) < 30
    assert np.linalg.norm(found.grouped.reshape(-1, middle), axis=0).min() > 1e-3


@pytest.mark.parametrize(
    ("middle", "groups", "share"), [(6, 1, 0.5), (16, 1, 0.12), (16, 4, 0.7), (16, 16, 0.8)]
)
def test_a_bottleneck_may_be_wider_than_what_it_reads(middle, groups, share):
    rows = RNG.normal(size=(600, 36))
    responses = rows @ RNG.normal(size=(36, 32))
    found = factored(rows, responses, 9, middle, groups, reduces=True)
    missed = np.var(applied(found, rows, groups) - responses) / np.var(responses)
    assert missed < share
    assert max(np.abs(each).max() for each in (found.reduce, found.grouped, found.mix)) < 30


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("middle", "groups"), [(4, 1), (4, 2), (4, 4), (8, 8)])
def test_channels_that_vary_in_few_directions_leave_kernels_that_can_be_trained(
    middle, groups, rank
):
    """Directions that nothing varies in are noise, which a group must not be fitted to."""
    few = RNG.normal(size=(2000, 9, rank))
    rows = (few @ RNG.normal(size=(rank, 8))).astype("float32").reshape(2000, -1)
    responses = rows.astype("float64") @ RNG.normal(size=(72, 8)) / 8
    found = factored(rows.astype("float64"), responses, 9, middle, groups, reduces=True)
    assert max(np.abs(each).max() for each in (found.reduce, found.grouped, found.mix)) < 30
    missed = np.var(applied(found, rows, groups) - responses) / np.var(responses)
    assert missed < (0.75 if groups > 1 else 0.6)


def test_a_constant_beside_channels_leaves_kernels_that_can_be_trained():
    rows = RNG.normal(size=(2000, 9, 8)).astype("float32")
    rows[..., 4:] = 5.0
    rows = rows.reshape(2000, -1).astype("float64")
    responses = rows @ RNG.normal(size=(72, 8))
    found = factored(rows, responses, 9, 8, 4, reduces=True)
    assert max(np.abs(each).max() for each in (found.reduce, found.grouped, found.mix)) < 30
