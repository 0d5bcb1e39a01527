"""Attention written with keras.ops: masks of a softmax, fused products, axes of heads."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras

RNG = np.random.default_rng(0)


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


def by_hand(q, k, v, mask=None):
    scores = ops.einsum("btnh,bsnh->bnts", q * 0.4, k)
    weights = layers.Softmax(name="weights")(scores, mask=mask)
    return ops.einsum("bnts,bsnh->btnh", weights, v)


def fused(**options):
    return lambda q, k, v: ops.dot_product_attention(q, k, v, **options)


def rotated(attend):
    """Multiply entries of queries and keys with numbers that no channel can be without."""

    def attend_rotated(q, k, v):
        angles = ops.cumsum(ops.ones_like(q[:, :, :1, :1]) * 0.1, axis=1)
        angles = (
            angles * np.ones((1, 1, 1, 1), "float32")
            + ops.sum(ops.zeros_like(q), (2, 3))[:, :, None, None]
        )
        return attend(q * ops.cos(angles), k * ops.cos(angles), v)

    return attend_rotated


def cut(model):
    """Cut half of the neurons of each family at random, and return the plan and the thin model."""
    graph = prune_keras.trace(model)
    scores = {path: RNG.uniform(size=width) for path, width in graph.widths.items()}
    plan = prune_keras.select(graph, scores, fraction=0.5, scope="uniform")
    return plan, prune_keras.shrink(model, plan)


def silenced(model, plan, axes):
    """Return outputs of the model with zeros for units that are gone, along axes of kernels."""
    for path, kept in plan.kept.items():
        layer = model.get_layer(path)
        gone = np.setdiff1d(range(layer.kernel.shape[axes[path]]), kept)
        value = ops.convert_to_numpy(layer.kernel).copy()
        value[(slice(None),) * axes[path] + (gone,)] = 0
        layer.kernel.assign(value)
    return model


X = RNG.normal(size=(2, 5, 8)).astype("float32")
WAYS = {
    "softmax": by_hand,
    "masked": lambda q, k, v: by_hand(q, k, v, ops.ones_like(ops.mean(q, (2, 3)))[:, None, None]),
    "fused": fused(scale=0.4),
}


@pytest.mark.parametrize("way", WAYS)
def test_widths_of_queries_keys_and_values_go(way):
    model = model_of(WAYS[way])
    plan, thin = cut(model)
    expected = {"q", "k", "v"}
    assert set(plan.kept) == expected and all(len(kept) == 3 for kept in plan.kept.values())
    found = ops.convert_to_numpy(thin(X))
    original = ops.convert_to_numpy(silenced(model, plan, dict.fromkeys("qkv", 2))(X))
    np.testing.assert_allclose(found, original, atol=1e-5)
