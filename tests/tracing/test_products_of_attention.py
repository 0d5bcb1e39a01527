"""Attention written by hand on projections with two axes: widths go, or whole heads where not."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras

X = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("float32")


def projected(x, heads, width, name):
    return layers.EinsumDense("btd,ndh->btnh", (None, heads, width), name=name)(x)


def model_of(attend, heads=4, shared=4, width=6):
    """Return a model of one attention: `attend` gets queries, keys and values of each head."""
    x = keras.Input((5, 8))
    q = projected(x, heads, width, "q")
    k, v = (projected(x, shared, width, name) for name in "kv")
    y = attend(q, k, v)
    y = layers.EinsumDense("btnh,nhd->btd", (None, 3), name="out")(y)
    return keras.Model(x, y)


def by_hand(mask=None):
    def attend(q, k, v):
        scores = ops.einsum("btnh,bsnh->bnts", q * 0.4, k)
        given = None if mask is None else mask(q)
        weights = layers.Softmax(name="weights")(scores, mask=given)
        return ops.einsum("bnts,bsnh->btnh", weights, v)

    return attend


def fused(mask=None, **options):
    return lambda q, k, v: ops.dot_product_attention(
        q, k, v, mask=None if mask is None else mask(q), **options
    )


def with_fixed_widths(attend):
    """Let every entry of a head depend on all others of it."""
    return lambda q, k, v: attend(ops.softmax(q), ops.softmax(k), ops.softmax(v))


def of_positions(q):
    """Return a mask, `(batch, 1, 1, length)`, that is the same for all heads."""
    return ops.cast(ops.ones_like(ops.mean(q, (2, 3))), "bool")[:, None, None]


def of_heads(q):
    """Return a mask, `(batch, heads, length, 1)`, of each head."""
    return ops.transpose(ops.any(q > -100.0, -1, keepdims=True), (0, 2, 1, 3))


def silence(kernel, axis, kept):
    """Set to zero what is not kept along an axis."""
    left = np.isin(range(kernel.shape[axis]), kept)
    shape = [-1 if place == axis else 1 for place in range(3)]
    kernel.assign(ops.convert_to_numpy(kernel) * left.reshape(shape))


def check_removed_is_silenced(model, axis, **widths):
    """Cut half of the neurons; `axis` of each kernel is the one that loses units."""
    graph = prune_keras.trace(model)
    assert graph.widths == widths
    rng = np.random.default_rng(0)
    scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
    plan = prune_keras.select(graph, scores, fraction=0.5, scope="uniform")
    thin = prune_keras.shrink(model, plan)
    found = ops.convert_to_numpy(thin(X))
    silence(model.get_layer("out").kernel, min(axis, 1), plan.kept["q"])
    if axis == 2:  # products of queries and keys, too
        silence(model.get_layer("q").kernel, axis, plan.kept["q"])
    assert all(len(kept) == widths[path] // 2 for path, kept in plan.kept.items())
    np.testing.assert_allclose(found, ops.convert_to_numpy(model(X)), atol=1e-5)


WAYS = {
    "softmax": by_hand(),
    "softmax with a mask": by_hand(of_positions),
    "fused": fused(scale=0.4),
    "fused with a mask": fused(of_positions, scale=0.4),
}


@pytest.mark.parametrize("way", ["fused", "fused with a mask"])
def test_widths_of_fused_attention_go(way):
    check_removed_is_silenced(model_of(WAYS[way]), 2, q=6, k=6, v=6)


@pytest.mark.parametrize("way", WAYS)
def test_heads_go_where_widths_cannot(way):
    model = model_of(with_fixed_widths(WAYS[way]))
    check_removed_is_silenced(model, 0, q=4, k=4, v=4)


def test_heads_of_queries_go_with_those_that_they_share():
    model = model_of(with_fixed_widths(fused(scale=0.4)), heads=8, shared=4)
    check_removed_is_silenced(model, 0, q=8, k=4, v=4)


@pytest.mark.parametrize("attend", [by_hand(of_heads), fused(of_heads)])
def test_a_mask_of_each_head_keeps_them(attend):
    graph = prune_keras.trace(model_of(with_fixed_widths(attend)))
    assert not {"q", "k", "v"} & set(graph.widths)


def test_widths_go_where_both_could():
    widths = prune_keras.trace(model_of(by_hand())).widths
    assert widths == {"q": 6, "k": 6, "v": 6}
