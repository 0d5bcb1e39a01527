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
    assert prune_keras.cost(model) == Cost(params=21, flops=36, neurons=3)


def test_convolution_by_hand():
    inputs = keras.Input((9, 9, 2))
    x = keras.layers.Conv2D(5, 3, strides=2, padding="same", use_bias=False)(inputs)  # 5 x 5
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(4, 3, dilation_rate=2)(x)  # 1 x 1
    model = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    params = 9 * 2 * 5 + 4 * 5 + (9 * 5 * 4 + 4) + (4 * 3 + 3)
    multiply_adds = 25 * 9 * 2 * 5 + 9 * 5 * 4 + 4 * 3
    assert prune_keras.cost(model) == Cost(params, 2 * multiply_adds, neurons=9)


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
    assert prune_keras.cost(model) == Cost(params, flops, neurons=4 + 5 + 3 + 2)
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
    assert known.params == model.count_params()
    with pytest.raises(ValueError, match=r"known spatial sizes.*input_shape=\(224, 224, 3\)"):
        prune_keras.prune(model, target={"flops": 0.5})
    thin, report = prune_keras.prune(model, target={"flops": 0.6}, input_shape=(8, 8, 3))
    assert report.after.flops <= 0.6 * known.flops
    for wrong in [(8, 8), (8, 8, 4), (None, None, 1)]:
        with pytest.raises(ValueError, match="fit the model's inputs"):
            prune_keras.cost(model, input_shape=wrong)


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
