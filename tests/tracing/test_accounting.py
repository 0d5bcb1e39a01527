"""Costs against networks counted by hand, against Keras, and against published figures."""

import keras
import pytest

import prune_keras
from prune_keras.accounting import Cost


def test_dense_by_hand():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2, use_bias=False)]
    )
    # 4*3 + 3 and 3*2 parameters; 12 and 6 multiply-adds.
    # Numbers of four bytes; tensors of 4, 3 and 2.
    assert prune_keras.cost(model) == Cost(21, 36, 3, weight_bytes=84, activation_bytes=36)


def test_convolution_by_hand():
    inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False)(inputs)  # 5 x 5
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(4, 3, dilation_rate=2)(x)  # 1 x 1
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    params = 9 * 2 * 5 + 4 * 5 + (9 * 5 * 4 + 4) + (4 * 3 + 3)
    multiply_adds = 25 * 9 * 2 * 5 + 9 * 5 * 4 + 4 * 3
    # The input, what both convolutions and the normalization return, Flatten and Dense.
    activations = 81 * 2 + 25 * 5 + 25 * 5 + 4 + 4 + 3
    expected = Cost(params, 2 * multiply_adds, 9, 4 * params, 4 * activations)
    assert prune_keras.cost(model) == expected


def test_other_convolutions_by_hand():
    inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 1, use_bias=False)(inputs)
    x = keras.layers.DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2)(x)  # 3 x 3
    x = keras.layers.SeparableConv2D(5, 3, depth_multiplier=2)(x)  # 1 x 1
    x = keras.layers.Conv2DTranspose(6, 2, strides=2)(x)  # 2 x 2
    x = keras.layers.Conv2D(4, 2, groups=2)(x)  # 1 x 1
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    weights = [2 * 4, 9 * 4 * 2, 9 * 8 * 2, 16 * 5, 4 * 5 * 6, 4 * 3 * 4, 4 * 3]
    times = [36, 9, 1, 1, 1, 1, 1]
    params = sum(weights) + 8 + 5 + 6 + 4 + 3
    flops = 2 * sum(a * b for a, b in zip(weights, times, strict=True))
    # Channel j of both groups is one neuron: 3 of the six that are read, 2 of the four made.
    cost = prune_keras.cost(model)
    assert (cost.params, cost.flops, cost.neurons) == (params, flops, 4 + 5 + 3 + 2)
    assert params == model.count_params()


def test_dense_on_sequences_and_shared_layers_count_every_use():
    shared = keras.layers.Dense(3)
    one, two = keras.Input((7, 4)), keras.Input((5, 4))
    a, b = (keras.layers.GlobalMaxPooling1D()(shared(x)) for x in (one, two))
    model = keras.Model([one, two], keras.layers.Dense(2)(keras.layers.Concatenate()([a, b])))
    assert prune_keras.cost(model).flops == 2 * ((7 + 5) * 4 * 3 + 6 * 2)
    assert prune_keras.cost(model).params == (4 * 3 + 3) + (6 * 2 + 2)


def test_open_sizes_need_an_input_shape():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    assert prune_keras.cost(model).flops is None
    known = prune_keras.cost(model, input_shape=(8, 8, 3))
    assert known.flops == 2 * (36 * 27 * 4 + 8)
    assert prune_keras.cost(model).activation_bytes is None
    assert known.activation_bytes == 4 * (64 * 3 + 36 * 4 + 4 + 2)
    assert known.params == model.count_params()
    for metric in ("flops", "activation_bytes"):
        with pytest.raises(ValueError, match=r"known spatial sizes.*input_shape=\(224, 224, 3\)"):
            prune_keras.prune(model, target={metric: 0.5})
    thin, report = prune_keras.prune(model, target={"flops": 0.6}, input_shape=(8, 8, 3))
    assert report.after.flops <= 0.6 * known.flops
    for wrong in [(8, 8), (8, 8, 4), (None, None, 1)]:
        with pytest.raises(ValueError, match="fit the model's inputs"):
            prune_keras.cost(model, input_shape=wrong)


@pytest.mark.parametrize(
    ("policy", "weight", "activation"),
    [("float32", 4, 4), ("mixed_float16", 4, 2), ("mixed_bfloat16", 4, 2), ("float64", 8, 8)],
)
def test_bytes_follow_the_dtypes_of_variables_and_tensors(policy, weight, activation):
    inputs = keras.Input((4,), dtype="float32")
    x = keras.layers.Dense(3, dtype=policy)(inputs)
    cost = prune_keras.cost(keras.Model(inputs, keras.layers.Dense(2, dtype=policy)(x)))
    assert cost.weight_bytes == weight * (15 + 8)
    assert cost.activation_bytes == 4 * 4 + activation * (3 + 2)


def test_activations_count_every_call_also_in_nested_models():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(5), keras.layers.Dense(3)])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(inner(inputs)))
    assert prune_keras.cost(model).activation_bytes == 4 * (3 + 2 * (5 + 3))


@pytest.mark.parametrize("metric", ["weight_bytes", "activation_bytes"])
def test_a_target_on_bytes_is_met_by_the_thin_model(metric):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(6, 3)(keras.layers.Conv2D(9, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    thin, _ = prune_keras.prune(model, {metric: 0.7})
    left = prune_keras.cost(thin).share_of(prune_keras.cost(model))
    assert 0.5 < left[metric] <= 0.7


def test_vgg16_as_published():
    """138,357,544 parameters and 15.5 G multiply-adds: Simonyan and Zisserman, 2015."""
    with keras.StatelessScope(initialize_variables=False):  # shapes without values
        model = keras.applications.VGG16(weights=None)
        cost = prune_keras.cost(model)
    assert cost.params == 138_357_544
    assert cost.flops == 2 * 15_470_264_320
    assert cost.neurons == 4224 + 2 * 4096


def test_shares_leave_out_what_is_unknown():
    assert Cost(5, None, 2).share_of(Cost(10, None, 8)) == {"params": 0.5, "neurons": 0.25}
