"""One contract for every debias, and what makes each of them different."""

import numpy as np
import pytest

from prune_keras import debias

SCORES = {
    "spread": np.array([0.5, 3.0, 1.0, 2.0]),
    "equal": np.full(4, 2.0),
    "zeros": np.zeros(3),
    "single": np.array([4.0]),
    "ties": np.array([1.0, 1.0, 0.0]),
}
ALL = pytest.mark.parametrize("name", sorted(debias.DEBIASES))


@ALL
@pytest.mark.parametrize("case", sorted(SCORES))
def test_finite_of_the_same_shape_and_in_the_same_order(name, case):
    scores = SCORES[case]
    changed = debias.get(name)(scores.copy())
    assert changed.shape == scores.shape
    assert np.isfinite(changed).all()
    order = np.argsort(scores, kind="stable")
    assert (np.diff(changed[order]) >= 0).all()


@ALL
def test_scores_are_left_as_they_are(name):
    scores = SCORES["spread"].copy()
    debias.get(name)(scores)
    assert (scores == SCORES["spread"]).all()


@ALL
def test_config_gives_the_same_debias(name):
    assert debias.get(debias.serialize(debias.get(name))) is debias.get(name)


@pytest.mark.parametrize("name", ["mean", "l2", "zscore", "rank"])
def test_the_scale_of_a_layer_does_not_matter(name):
    by = debias.get(name)
    np.testing.assert_allclose(by(SCORES["spread"] * 1000), by(SCORES["spread"]))


def test_what_each_one_normalizes():
    scores = SCORES["spread"]
    assert debias.mean(scores).mean() == pytest.approx(1)
    assert np.square(debias.l2(scores)).sum() == pytest.approx(1)
    assert debias.zscore(scores).mean() == pytest.approx(0)
    assert debias.zscore(scores).std() == pytest.approx(1)
    assert debias.rank(SCORES["ties"]).tolist() == pytest.approx([2 / 3, 1, 1 / 3])


def test_any_callable_is_taken():
    assert debias.get(np.sqrt) is np.sqrt


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"\['l2', 'mean', 'none', 'rank', 'zscore'\].*'median'"):
        debias.get("median")
