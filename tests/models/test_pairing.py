"""Two networks on the same images: differences, intervals, and McNemar's test."""

import numpy as np
import pytest

from prune_keras.models import pairing


def answers(both, first, second, none):
    """Return the hits of two networks, with so many images that both, one or none gets right."""
    counts = (both, first, second, none)
    return np.repeat([True, True, False, False], counts), np.repeat(
        [True, False, True, False], counts
    )


def test_the_interval_is_that_of_the_normal_approximation_where_that_holds():
    found = pairing.compare(*answers(700, 60, 40, 200))
    spread = 1.96 * np.sqrt(100 / 1000 - 0.02**2) / np.sqrt(1000)
    assert found["difference"] == pytest.approx(0.02)
    assert found["low"] == pytest.approx(0.02 - spread, abs=0.002)
    assert found["high"] == pytest.approx(0.02 + spread, abs=0.002)


def test_what_both_get_right_does_not_matter_to_mcnemar():
    scipy_says = pytest.importorskip("scipy.stats").binomtest(4, 16).pvalue
    for both in (0, 500):
        assert pairing.compare(*answers(both, 12, 4, 3))["p"] == pytest.approx(scipy_says)


def test_equal_networks_do_not_differ():
    found = pairing.compare(*answers(5, 0, 0, 5))
    assert found == {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 1.0} | {
        "only_first_right": 0,
        "only_second_right": 0,
    }
