"""Functions that a user compiled before a cut: they fail, and Keras' own ones train on."""

import keras
import numpy as np
import pytest

import prune_keras

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="functions of TensorFlow"
)
layers = keras.layers
IDS = np.arange(20).reshape(4, 5) % 9
IMAGES = np.linspace(0, 1, 4 * 6 * 6 * 3, dtype="float32").reshape(4, 6, 6, 3)
SAMPLES = np.linspace(-1, 1, 32, dtype="float32").reshape(4, 8)
TARGETS = np.linspace(0, 1, 8, dtype="float32").reshape(4, 2)


def dense():
    return SAMPLES, [layers.Dense(16, activation="relu"), layers.Dense(2)]


def convolutional():
    hidden = [layers.Conv2D(8, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    last = [layers.DepthwiseConv2D(3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
    return IMAGES, [*hidden, *last]


def recurrent():
    return IDS, [layers.Embedding(9, 8), layers.LSTM(6), layers.Dense(2)]


def attentive():
    return SAMPLES, [layers.Dense(16), layers.Reshape((4, 4)), layers.GRU(6), layers.Dense(2)]


def model_of(make, optimizer):
    x, stack = make()
    dtype = "int32" if x.dtype == IDS.dtype else "float32"
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=dtype), *stack])
    model.compile(optimizer, "mse")
    return model, tf.constant(x)


def halve(model):
    graph = prune_keras.trace(model)
    scores = prune_keras.score(model, "l2")
    plan = prune_keras.select(graph, scores, fraction=0.5)
    prune_keras.shrink_in_place(model, plan)


def own_step(model, optimizer, jit):
    @tf.function(jit_compile=jit)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - y))
        held = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, held), held, strict=True))
        return loss

    return step


@pytest.mark.parametrize("make", [dense, convolutional, recurrent, attentive])
def test_an_own_function_fails_instead_of_training_what_the_model_has_left(make):
    optimizer = keras.optimizers.Adam(0.01)
    model, x = model_of(make, optimizer)
    step, infer = own_step(model, optimizer, jit=False), tf.function(lambda x: model(x))
    step(x, TARGETS)
    before = infer(x)
    halve(model)
    thin = model.get_weights()
    for function, arguments in ((step, (x, TARGETS)), (infer, (x,))):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(*arguments)
    for weight, found in zip(thin, model.get_weights(), strict=True):
        np.testing.assert_array_equal(found, weight)
    anew = own_step(model, optimizer, jit=False)
    losses = [float(anew(x, TARGETS)) for _ in range(5)]
    assert losses[-1] < losses[0] and before.shape == model(x).shape


def test_a_function_compiled_by_xla_fails_too():
    optimizer = keras.optimizers.SGD(0.01)
    model, x = model_of(dense, optimizer)
    step = own_step(model, optimizer, jit=True)
    step(x, TARGETS)
    halve(model)
    with pytest.raises(tf.errors.InvalidArgumentError):
        step(x, TARGETS)


def test_a_loop_by_train_on_batch_follows_a_cut():
    model, x = model_of(dense, "adam")
    first = model.train_on_batch(x, TARGETS)
    halve(model)
    before = model.get_weights()
    losses = [model.train_on_batch(x, TARGETS) for _ in range(5)]
    assert np.isfinite(first) and losses[-1] < losses[0]
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert model.predict_on_batch(x).shape == (4, 2)


def test_a_function_of_layers_that_keep_their_shapes_goes_on():
    model, x = model_of(dense, "adam")
    last = model.layers[-1]
    scale = tf.function(lambda: tf.reduce_sum(last.bias.value))
    assert float(scale()) == 0
    halve(model)
    last.bias.assign([1.0, 2.0])
    assert float(scale()) == 3
