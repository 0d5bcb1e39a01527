"""Rules of operations on numbers: reductions, products, lookups, and layers for images."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import outputs_of, samples
from small_models import check_same, conv, cut, families, model_of

import prune_keras

# Numbers of numbers.


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std", "prod", "logsumexp"])
def test_reductions_over_channels_are_over_what_is_left(image, name, tmp_path):
    x = conv(5, "a")(image)
    model = model_of(image, ops.multiply(x, getattr(ops, name)(x, axis=-1, keepdims=True)))
    notes = prune_keras.trace(model).notes
    assert notes == (
        () if name == "sum" else (f"{notes[0].split()[0]} is over the channels that are left",)
    )
    cut(model, tmp_path, a=[0, 3])


@pytest.mark.parametrize("axis", [1, (1, 2), [-3]])
def test_reductions_over_space_carry_channels(image, axis, tmp_path):
    x = ops.max(conv(5, "a")(image), axis=axis, keepdims=True)
    model = model_of(image, ops.mean(x, axis=2) + 1.0)
    assert families(model) == {"a": 5, "read": 4}
    cut(model, tmp_path, a=[0, 3])


def test_moments_over_space_carry_channels(image):
    mean, variance = ops.moments(conv(5, "a")(image), axes=[1, 2])
    model = model_of(image, mean / (1.0 + variance))
    assert families(model) == {"a": 5, "read": 4}
    assert prune_keras.shrink(
        model, prune_keras.Plan({"a": [1, 2], "read": range(4)}, prune_keras.trace(model).widths)
    )


def test_elementwise_operations_carry_channels(image, tmp_path):
    x = conv(5, "a")(image)
    y = ops.where(x > 0.0, ops.log1p(ops.abs(x)), ops.gelu(x) / 2.0)
    y = ops.power(ops.clip(y, -1.0, 2.0) - 0.5, 2.0) * np.array([[1.0], [2.0]] * 3, "float32")
    model = model_of(image, ops.cast(ops.logical_not(y > 1.0), "float32") + y)
    assert families(model) == {"a": 5, "read": 4}
    plan = prune_keras.Plan({"a": [1, 2], "read": range(4)}, {"a": 5, "read": 4})
    thin = prune_keras.shrink(model, plan)
    thin.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    check_same(loaded, samples(model), outputs_of(thin, samples(model)))


# Products.


def attention(x, name):
    query, key = (layers.Dense(6, name=f"{name}_{part}")(x) for part in ("query", "key"))
    return query, key, layers.Dense(5, name=f"{name}_value")(x)


@pytest.mark.parametrize("how", ["matmul", "einsum", "dots", "layer"])
def test_products_unite_what_is_summed_over_and_carry_the_rest(how, tmp_path):
    inputs = keras.Input((7, 3))
    query, key, value = attention(inputs, "a")
    if how == "matmul":
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        found = ops.matmul(ops.softmax(scores), value)
    elif how == "einsum":
        scores = ops.einsum("bqd,bkd->bqk", query, key)
        found = ops.einsum("bqk,bkc->bqc", ops.softmax(scores), value)
    elif how == "dots":
        scores = ops.einsum("...qd,...kd->...qk", query, key)
        found = ops.einsum("b...k,bkc->b...c", ops.softmax(scores), value)
    else:
        scores = layers.Dot(axes=-1)([query, key])
        found = layers.Dot(axes=(2, 1))([layers.Softmax()(scores), value])
    model = model_of(inputs, found)
    assert sorted(families(model).values()) == [4, 5, 6]
    thin = cut(model, tmp_path, a_query=[0, 5], a_key=[0, 5], a_value=[1, 2, 3])
    assert thin.get_layer("read").input.shape == (None, 7, 3)


def test_a_normalized_product_is_noted():
    inputs = keras.Input((7, 3))
    query, key, _ = attention(inputs, "a")
    model = model_of(inputs, layers.Dot(axes=2, normalize=True, name="dot")([query, key]))
    assert "dot normalizes over the channels that are left" in prune_keras.trace(model).notes
    cut(model, a_query=[0, 5], a_key=[0, 5])


# Lookups and images.


def test_the_width_of_an_embedding_is_prunable(tmp_path):
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, name="a", mask_zero=True)(inputs)
    model = model_of(inputs, layers.GlobalAveragePooling1D()(x))
    graph = prune_keras.trace(model)
    assert families(model) == {"a": 6, "read": 4}
    assert graph.cost.params == model.count_params()
    assert graph.cost.flops == 2 * (6 * 4 + 4 * 2)
    plan = prune_keras.Plan({"a": [1, 4, 5], "read": range(4)}, graph.widths)
    thin, x = prune_keras.shrink(model, plan), [np.arange(14).reshape(2, 7) % 11]
    assert thin.get_layer("a").output_dim == 3
    assert thin.get_layer("a").embeddings.shape == (11, 3)
    thin.save(tmp_path / "thin.keras")
    check_same(keras.models.load_model(tmp_path / "thin.keras"), x, outputs_of(thin, x))
    with pytest.raises(AssertionError):
        check_same(model, x, outputs_of(thin, x))
    read = model.get_layer("read").kernel
    read.assign(np.array(read) * np.isin(range(6), [1, 4, 5])[:, None])
    check_same(model, x, outputs_of(thin, x))


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Resizing(3, 5),
        lambda: layers.CenterCrop(2, 2),
        lambda: layers.RandomFlip(),
        lambda: layers.RandomRotation(0.1),
        lambda: layers.RandomZoom(0.1),
    ],
)
def test_layers_for_images_carry_channels(image, make, tmp_path):
    model = model_of(image, make()(conv(5, "a")(image)))
    assert families(model) == {"a": 5, "read": 4}
    plan = prune_keras.Plan({"a": [1, 2], "read": range(4)}, {"a": 5, "read": 4})
    thin, x = prune_keras.shrink(model, plan), samples(model)
    thin.save(tmp_path / "thin.keras")
    check_same(keras.models.load_model(tmp_path / "thin.keras"), x, outputs_of(thin, x))


def test_raw_pooling_carries_channels(image):
    x = ops.max_pool(ops.average_pool(conv(5, "a")(image), 2), 2, padding="same")
    model = model_of(image, x)
    assert families(model) == {"a": 5, "read": 4}
    assert prune_keras.shrink(
        model, prune_keras.Plan({"a": [1, 2], "read": range(4)}, prune_keras.trace(model).widths)
    )
