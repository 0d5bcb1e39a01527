"""Rules of the rarer raw operations, and of layers that work backwards or in a row."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from small_models import conv, cut, families, model_of, operation, reason

import prune_keras


@pytest.fixture
def picture():
    return keras.Input((4, 6, 3))


@pytest.mark.parametrize(
    "move",
    [
        lambda x: ops.convert_to_tensor(x, "float32"),
        lambda x: ops.rot90(x, axes=(1, 2)),
        lambda x: ops.rot90(ops.rot90(x, 1, (1, 3)), 3, (1, 3)),
        lambda x: ops.append(x, ops.sin(x), axis=1),
        lambda x: ops.append(x, ops.sin(x), axis=-1),
        lambda x: ops.hstack([x, ops.sin(x)]),
        lambda x: ops.dstack([x, ops.sin(x)]),
        lambda x: ops.concatenate(ops.hsplit(x, 2), axis=-1),
        lambda x: ops.add(*ops.split(x, 2, axis=1)),
        lambda x: ops.image.resize(x, (5, 3)),
        lambda x: ops.image.crop_images(ops.image.pad_images(x, 1, 1, 1, 1), 1, 1, 1, 1),
        lambda x: ops.image.extract_patches(x, 2),
        lambda x: x / ops.norm(x, axis=1, keepdims=True),
        lambda x: ops.multiply(x, ops.norm(x, axis=-1, keepdims=True)),
    ],
)
def test_what_carries_channels(picture, move, tmp_path):
    model = model_of(picture, move(conv(6, "a")(picture)))
    assert families(model)["a"] == 6
    assert cut(model, tmp_path, a=[0, 2, 3]).get_layer("a").filters == 3


def test_a_flip_of_channels_is_that_of_what_is_left(tmp_path):
    inputs = keras.Input((3,))
    model = model_of(inputs, ops.fliplr(layers.Dense(5, name="a")(inputs)))
    assert families(model) == {"a": 5, "read": 4}
    cut(model, tmp_path, a=[0, 1, 3])


def test_parts_of_the_second_axis_of_positions(tmp_path):
    inputs = keras.Input((7, 3))
    first, second = ops.dsplit(layers.Dense(5, name="a")(inputs), [2])
    model = model_of(inputs, ops.concatenate([second, ops.sin(first)], axis=2))
    assert families(model) == {"a": 2, "a#2": 3, "read": 4}
    thin = cut(model, tmp_path, a=[1, 2, 4])
    assert operation(thin, "Dsplit").indices_or_sections == (1,)


@pytest.mark.parametrize("name", ["layer_normalization", "rms_normalization"])
def test_raw_normalization_is_over_the_channels_that_are_left(picture, name, tmp_path):
    if not hasattr(ops, name):
        pytest.skip("newer Keras only")
    model = model_of(picture, getattr(ops, name)(conv(5, "a")(picture)))
    graph = prune_keras.trace(model)
    assert families(model) == {"a": 5, "read": 4}
    (note,) = graph.notes
    assert note.endswith("normalizes over the channels that are left")
    scaled = getattr(ops, name)(conv(5, "a")(picture), np.ones(5, "float32"))
    assert families(model_of(picture, scaled)) == {"a": 5, "read": 4}


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
@pytest.mark.parametrize("axes", [[1, 2], [-2, -1], [-1, -2], [-1]])
def test_scales_of_several_axes_lose_those_of_channels(axes, kind):
    inputs = keras.Input((4, 3))
    layer = getattr(layers, kind)(axis=axes, name="scaled")
    model = model_of(inputs, layer(layers.Dense(5, name="a")(inputs)))
    cut(model, a=[0, 2, 3])


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_scales_that_lie_in_another_order_than_axes_keep_channels(kind):
    inputs = keras.Input((5, 3))  # as long as there are channels, which RMSNormalization needs
    layer = getattr(layers, kind)(axis=[1, -1])
    model = model_of(inputs, layer(layers.Dense(5, name="a")(inputs)))
    assert "in another order than its axes" in reason(model)
    if kind == "LayerNormalization":
        plain = layers.LayerNormalization(axis=[1, -1], center=False, scale=False)
        cut(model_of(inputs, plain(layers.Dense(5, name="a")(inputs))), a=[0, 2, 3])


@pytest.mark.parametrize("name", ["layer_normalization", "rms_normalization"])
def test_scales_that_are_made_keep_channels(name):
    inputs = keras.Input((4, 3))
    x, scales = (layers.Dense(5, name=name)(inputs) for name in ("a", "b"))
    model = model_of(inputs, getattr(ops, name)(x, scales))
    assert "takes scales from the graph" in reason(model)


@pytest.mark.parametrize("name", ["quantile", "nanpercentile"])
def test_quantiles_over_positions_carry_channels(picture, name):
    if not hasattr(ops, name):
        pytest.skip("newer Keras only")
    x = conv(5, "a")(picture)
    model = model_of(picture, getattr(ops, name)(x, 0.5, axis=1))
    assert families(model) == {"a": 5, "read": 4}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda x: ops.quantile(x, np.array([0.2, 0.5]), axis=2)[0], "the batch"),
        (lambda x: ops.average(x, axis=1, weights=np.arange(7.0)), "weighs"),
        (lambda x: ops.vstack([x, x]), "the batch"),
        (lambda x: ops.tril(x), "works on matrices"),
        (lambda x: ops.map(lambda y: y, x), "cannot be looked into"),
    ],
)
def test_reasons_of_what_stays(make, expected):
    inputs = keras.Input((7, 3))
    x = layers.Dense(2, name="out")(make(layers.Dense(4, name="a")(inputs)))
    assert expected in reason(keras.Model(inputs, x))


def test_constants_that_are_stacked_stay():
    inputs = keras.Input(batch_shape=(2, 3))
    x = layers.Dense(4, name="a")(inputs)
    joined = ops.stack([x, np.ones((2, 4), "float32")], axis=1)
    model = keras.Model(inputs, layers.Dense(2)(joined))
    assert "a constant array" in reason(model)


# Layers.


@pytest.mark.parametrize("tied", [True, False])
def test_vectors_that_are_looked_up_and_scored_are_one(tied, tmp_path):
    inputs = keras.Input((7,), dtype="int32")
    table = layers.ReversibleEmbedding(11, 6, tie_weights=tied, name="a")
    hidden = layers.Dense(6, activation="relu", name="hidden")(table(inputs))
    model = keras.Model(inputs, table(hidden, reverse=True))
    assert families(model) == {"a": 6}
    assert prune_keras.cost(model).flops == 7 * 2 * (6 * 6 + 6 * 11)
    graph, x = prune_keras.trace(model), np.arange(14).reshape(2, 7) % 11
    kept = [0, 2, 3]
    thin = prune_keras.shrink(
        model, prune_keras.Plan(dict.fromkeys(["a", "hidden"], kept), graph.widths)
    )
    assert thin.get_layer("a").output_dim == 3
    thin.save(tmp_path / "thin.keras")
    loaded = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_array_equal(loaded(x), thin(x))
    left = np.isin(range(6), kept)
    model.get_layer("a")._embeddings.assign(np.array(table._embeddings) * left)
    if not tied:
        table.reverse_embeddings.assign(np.array(table.reverse_embeddings) * left[:, None])
    np.testing.assert_allclose(thin(x), model(x), atol=1e-6)


def test_a_pipeline_is_as_thin_as_its_input(picture, tmp_path):
    if not hasattr(layers, "Pipeline"):
        pytest.skip("newer Keras only")
    chain = layers.Pipeline([layers.Resizing(3, 5), layers.RandomFlip()], name="chain")
    model = model_of(picture, chain(conv(5, "a")(picture)))
    assert families(model) == {"a": 5, "read": 4}
    plan = prune_keras.Plan({"a": [1, 2], "read": range(4)}, {"a": 5, "read": 4})
    thin = prune_keras.shrink(model, plan)
    assert thin.get_layer("chain").output.shape == (None, 3, 5, 2)
    thin.save(tmp_path / "thin.keras")
    keras.models.load_model(tmp_path / "thin.keras")
    weighted = layers.Pipeline([layers.Dense(5)])
    model = model_of(picture, weighted(conv(5, "a")(picture)))
    assert "layers with weights" in reason(model)
