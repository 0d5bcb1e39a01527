"""Initializers that hold arrays follow a cut, so that thin models can be saved and read back."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras.surgery import capture, restore, shrink_in_place


def constant(*shape):
    return keras.initializers.Constant(np.random.default_rng(0).normal(size=shape))


def of_tensor(*shape):
    held = np.random.default_rng(0).normal(size=shape)
    return keras.initializers.Constant(keras.ops.convert_to_tensor(held, "float32"))


@keras.saving.register_keras_serializable("tests")
class FromArray(keras.initializers.Initializer):
    """Gives its array whatever shape is asked for."""

    def __init__(self, array):
        self.array = np.array(array)

    def __call__(self, shape, dtype=None):
        return keras.ops.convert_to_tensor(self.array, dtype=dtype)

    def get_config(self):
        return {"array": self.array.tolist()}


@keras.saving.register_keras_serializable("tests")
class Blocks(keras.initializers.Initializer):
    """Makes columns in blocks of four, as those for sub-pixel convolutions do."""

    def __call__(self, shape, dtype=None):
        quarter = keras.random.normal((*shape[:-1], shape[-1] // 4), dtype=dtype, seed=0)
        return keras.ops.repeat(quarter, 4, axis=-1)

    def get_config(self):
        return {}


def table(**arguments):
    numbers = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 12, name="cut", **arguments)(numbers)
    return keras.Model(numbers, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def stack(shape, *hidden):
    """Layers between an input and a head; the first one that is called "cut" loses units."""
    inputs = keras.Input(shape)
    x = inputs
    for layer in hidden:
        x = layer(x)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return keras.Model(inputs, layers.Dense(2)(x))


def dense(**arguments):
    return layers.Dense(12, name="cut", **arguments)


MODELS = {
    "embedding": lambda: table(embeddings_initializer=constant(7, 12)),
    "kernel": lambda: stack((4,), dense(kernel_initializer=constant(4, 12))),
    "tensor": lambda: stack((4,), dense(kernel_initializer=of_tensor(4, 12))),
    "broadcast": lambda: stack((4,), dense(kernel_initializer=constant(12))),
    "own": lambda: stack((4,), dense(kernel_initializer=FromArray(np.ones((4, 12))))),
    "bias": lambda: stack((4,), dense(bias_initializer=constant(12))),
    "blocks": lambda: stack((4,), dense(kernel_initializer=Blocks())),
    "reader": lambda: stack((4,), dense(), layers.Dense(3, kernel_initializer=constant(12, 3))),
    "convolution": lambda: stack(
        (5, 5, 2), layers.Conv2D(12, 3, name="cut", kernel_initializer=constant(3, 3, 2, 12))
    ),
    "depthwise": lambda: stack(
        (5, 5, 2),
        layers.Conv2D(12, 1, name="cut"),
        layers.DepthwiseConv2D(3, depthwise_initializer=constant(3, 3, 12, 1)),
    ),
    "separable": lambda: stack(
        (5, 5, 2),
        layers.SeparableConv2D(12, 3, name="cut", pointwise_initializer=constant(1, 1, 2, 12)),
    ),
    "gates": lambda: stack(
        (3, 12), layers.LSTM(12, name="cut", recurrent_initializer=constant(12, 48))
    ),
    "cell": lambda: stack(
        (3, 4), layers.RNN(layers.GRUCell(12, kernel_initializer=constant(4, 36)), name="cut")
    ),
    "directions": lambda: stack(
        (3, 4),
        layers.Bidirectional(layers.LSTM(12, kernel_initializer=constant(4, 48)), name="cut"),
    ),
    "steps": lambda: stack(
        (3, 4), layers.TimeDistributed(dense(kernel_initializer=constant(4, 12)))
    ),
    "statistics": lambda: stack(
        (4,),
        dense(),
        layers.BatchNormalization(
            gamma_initializer=constant(12), moving_mean_initializer=constant(12)
        ),
        layers.PReLU(alpha_initializer=constant(12)),
    ),
    "einsum": lambda: stack(
        (4,), layers.EinsumDense("ab,bc->ac", 12, name="cut", kernel_initializer=constant(4, 12))
    ),
}


def samples(model):
    shape = (3, *model.input_shape[1:])
    return np.random.default_rng(1).integers(0, 7, shape).astype(model.input.dtype)


def outputs(model):
    return keras.ops.convert_to_numpy(model(samples(model)))


def check_read_back(thin, folder):
    """Models of the same config, fresh and from a file, are there, with the weights of the file."""
    keras.models.clone_model(thin)
    for suffix in ("keras", "h5"):
        thin.save(folder / f"thin.{suffix}")
        read = keras.models.load_model(folder / f"thin.{suffix}", compile=False)
        np.testing.assert_array_equal(outputs(read), outputs(thin))


@pytest.mark.repeats(6)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("name", MODELS)
def test_a_thin_model_is_read_back(name, tmp_path):
    model = MODELS[name]()
    thin, _ = prune_keras.prune(model, fraction=0.55)
    assert thin.count_params() < model.count_params()
    check_read_back(thin, tmp_path)
    before = str(model.get_config()), outputs(model)
    graph = prune_keras.trace(model)
    state = capture(model, graph)
    shrink_in_place(model, prune_keras.select(graph, prune_keras.score(model), fraction=0.55))
    check_read_back(model, tmp_path)
    np.testing.assert_array_equal(outputs(model), outputs(thin))
    restore(model, state)
    assert str(model.get_config()) == before[0]
    np.testing.assert_array_equal(outputs(model), before[1])


def test_a_constant_becomes_the_slices_that_stay():
    model = MODELS["embedding"]()
    layer, array = model.get_layer("cut"), model.get_layer("cut").embeddings_initializer.value
    plan = prune_keras.Plan({"cut": [0, 5, 7]}, {"cut": 12})
    thin = prune_keras.shrink(model, plan).get_layer("cut")
    np.testing.assert_allclose(thin.embeddings_initializer.value, array[:, [0, 5, 7]], rtol=1e-6)
    assert layer.embeddings_initializer.value is array


def test_one_array_that_serves_two_sizes_gives_way_to_random_numbers():
    attention = layers.MultiHeadAttention(4, 4, name="cut", kernel_initializer=constant(4))
    tokens = keras.Input((3, 4))
    model = keras.Model(tokens, layers.Dense(2)(attention(tokens, tokens)))
    kept = {path: np.arange(w)[: -(w // 2)] for path, w in prune_keras.trace(model).widths.items()}
    thin = prune_keras.shrink(model, prune_keras.Plan(kept, prune_keras.trace(model).widths))
    keras.models.clone_model(thin)
    assert "GlorotUniform" in str(thin.get_layer("cut").get_config()["kernel_initializer"])


@pytest.mark.parametrize("initializer", ["glorot_uniform", "orthogonal", "identity", "ones"])
def test_initializers_of_every_size_stay_what_they_are(initializer):
    model = stack((4,), dense(kernel_initializer=initializer))
    held = model.get_layer("cut").kernel_initializer
    plan = prune_keras.Plan({"cut": [1, 2]}, {"cut": 12})
    shrink_in_place(model, plan)
    assert model.get_layer("cut").kernel_initializer is held
