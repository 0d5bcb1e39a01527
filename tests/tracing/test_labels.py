"""Label arithmetic: union-find, broadcasting shapes, and what is left of a shape."""

import numpy as np
import pytest

from prune_keras.tracing.labels import (
    Labels,
    Partition,
    compress,
    kept_sizes,
    product,
    varying_axes,
)


def test_chains_of_unions_end_in_the_smallest_id():
    partition = Partition()
    ids = partition.new(6)
    for first, second in [(5, 4), (4, 3), (3, 2), (1, 0)]:
        partition.unite(ids[[first]], ids[[second]])
    assert partition.roots().tolist() == [0, 0, 2, 2, 2, 2]


def test_unions_broadcast():
    partition = Partition()
    square, row = partition.new(6).reshape(2, 3), partition.new(3)
    partition.unite(square, row)
    roots = partition.roots()
    assert (roots[square] == roots[row]).all()
    assert len(np.unique(roots)) == 3


def test_unions_are_those_of_a_naive_search():
    rng = np.random.default_rng(0)
    partition = Partition()
    partition.new(40)
    groups = [{i} for i in range(40)]
    for a, b in rng.integers(0, 40, (30, 2)):
        partition.unite(np.array([a]), np.array([b]))
        joined = next(g for g in groups if a in g) | next(g for g in groups if b in g)
        groups = [g for g in groups if not g & joined] + [joined]
    expected = {member: min(group) for group in groups for member in group}
    assert partition.roots().tolist() == [expected[i] for i in range(40)]


def test_compress_keeps_only_axes_that_vary():
    ids = np.broadcast_to(np.arange(3), (4, 5, 3))
    assert compress(ids).shape == (1, 1, 3)
    assert varying_axes(ids) == [2]


@pytest.mark.parametrize(("sizes", "expected"), [((2, 3), 6), ((2, None), None), ((), 1)])
def test_product_is_unknown_if_a_size_is(sizes, expected):
    assert product(sizes) == expected


def test_full_ids_need_a_known_shape():
    ids = np.arange(3).reshape(1, 3)
    assert Labels(ids, (2, 3)).full().tolist() == [[0, 1, 2], [0, 1, 2]]
    assert Labels(ids, (None, 3)).full() is None


def test_kept_sizes_count_along_the_axis_that_carries_channels():
    mask = np.array([True, False, True]).reshape(1, 1, 3)
    assert kept_sizes(mask, (None, 7, 3)) == (None, 7, 2)
