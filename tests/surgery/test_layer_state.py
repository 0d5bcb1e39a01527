"""What layers keep beside variables and arguments goes with a copy: tables, files, arrays."""

import keras
import numpy as np
import pytest
from keras import layers

import prune_keras
from prune_keras import Plan

TEXTS = np.array(["the cat sat", "the dog ran", "a cat", "the end"])
WORDS = np.array([["a"], ["b"], ["c"], ["a"]])
NUMBERS = np.array([[3], [7], [9], [3]])
FLOATS = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tables are TensorFlow's"
)


def headed(inputs, x):
    if len(x.shape) > 2:
        x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(2, name="scores")(x))


def behind(layer, samples, dtype):
    """A model behind an adapted layer; whole numbers are looked up in an embedding."""
    layer.adapt(samples)
    inputs = keras.Input(samples.shape[1:], dtype=dtype)
    x = layer(inputs)
    return headed(inputs, layers.Embedding(24, 4)(x) if "int" in x.dtype else x)


def outputs_of(model, samples):
    tensors = keras.tree.map_structure(
        lambda x, t: keras.ops.convert_to_tensor(x, t.dtype), samples, model._inputs_struct
    )
    return keras.ops.convert_to_numpy(model(tensors, training=False))


def assert_copies_give_the_same(model, samples, tmp_path):
    """A whole copy gives the same; a thin one runs, can be written, and leaves the model alone."""
    expected = outputs_of(model, samples)
    whole = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))
    np.testing.assert_array_equal(outputs_of(whole, samples), expected)
    thin, _ = prune_keras.prune(model, fraction=0.5, criterion="l2")
    np.testing.assert_array_equal(outputs_of(model, samples), expected)
    found = outputs_of(thin, samples)
    path = prune_keras.export(thin, tmp_path / "thin.keras")
    read = keras.models.load_model(path, compile=False)
    np.testing.assert_allclose(outputs_of(read, samples), found, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(thin.get_layer("scores").bias, model.get_layer("scores").bias)


MODES = ("int", "multi_hot", "one_hot", "count", "tf_idf")
LOOKUPS = {
    **{f"words, {m}": (layers.StringLookup, {"output_mode": m}, WORDS, "string") for m in MODES},
    **{f"ids, {m}": (layers.IntegerLookup, {"output_mode": m}, NUMBERS, "int64") for m in MODES},
    "all known": (
        layers.StringLookup,
        {"num_oov_indices": 0, "mask_token": None},
        WORDS,
        "string",
    ),
    **{
        f"texts, {m}": (layers.TextVectorization, {"output_mode": m}, TEXTS, "string")
        for m in MODES
        if m != "one_hot"
    },
    "bins": (layers.Discretization, {"num_bins": 4}, FLOATS, "float32"),
    "bins, counted": (
        layers.Discretization,
        {"num_bins": 4, "output_mode": "count"},
        FLOATS,
        "float32",
    ),
    "normalized": (layers.Normalization, {}, FLOATS, "float32"),
}


@pytest.mark.repeats(8)
@needs_tensorflow
@pytest.mark.parametrize("kind", LOOKUPS)
def test_a_copy_of_an_adapted_layer_is_adapted(kind, tmp_path):
    layer, arguments, samples, dtype = LOOKUPS[kind]
    model = behind(layer(**arguments), samples, dtype)
    assert_copies_give_the_same(model, samples, tmp_path)


@needs_tensorflow
def test_a_copy_of_a_feature_space_is_adapted(tmp_path):
    import tensorflow as tf

    space = keras.utils.FeatureSpace(
        {
            "word": keras.utils.FeatureSpace.string_categorical(),
            "number": keras.utils.FeatureSpace.integer_categorical(),
            "float": keras.utils.FeatureSpace.float_normalized(),
        },
        crosses=[("word", "number")],
        crossing_dim=5,
        output_mode="concat",
    )
    samples = {"word": WORDS, "number": NUMBERS, "float": FLOATS[:4, :1]}
    space.adapt(tf.data.Dataset.from_tensor_slices(samples))
    inputs = dict(space.get_inputs())
    model = headed(inputs, space.get_encoded_features())
    assert_copies_give_the_same(model, {name: samples[name] for name in inputs}, tmp_path)


class Table(layers.Layer):
    """Multiplies by a table that is neither variable nor argument; subclasses write it down."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = np.zeros(3, "float32")

    def call(self, x):
        return keras.ops.multiply(x, self.table)

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable("test_layer_state")
class InAFile(Table):
    def save_assets(self, folder):
        np.save(f"{folder}/table.npy", self.table)

    def load_assets(self, folder):
        self.table = np.load(f"{folder}/table.npy")


@keras.saving.register_keras_serializable("test_layer_state")
class AmongVariables(Table):
    def build(self, shape):
        self.shift = self.add_weight(shape=shape[-1:], name="shift")

    def call(self, x):
        return super().call(x) + self.shift

    def save_own_variables(self, store):
        store["table"], store["shift"] = self.table, self.shift

    def load_own_variables(self, store):
        self.table = np.array(store["table"])
        self.shift.assign(store["shift"])


@keras.saving.register_keras_serializable("test_layer_state")
class OfAnotherSize(AmongVariables):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.table = np.ones(1, "float32")


@keras.saving.register_keras_serializable("test_layer_state")
class MadeOfVariables(AmongVariables):
    """Its table is made of the variable whenever that is loaded."""

    def save_own_variables(self, store):
        store["shift"] = self.shift

    def load_own_variables(self, store):
        self.shift.assign(store["shift"])
        self.table = keras.ops.convert_to_numpy(self.shift) * 2


OWN = (InAFile, AmongVariables, OfAnotherSize, MadeOfVariables)


def filled(layer):
    layer.table = np.array([2, 4, 6], "float32")
    for variable in layer.variables:
        variable.assign([1, 2, 3])
    return layer


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", OWN)
def test_a_copy_holds_what_a_layer_of_ones_own_writes_down(kind, inside, tmp_path):
    layer, inputs = kind(), keras.Input((3,))
    if inside:
        x = layers.Flatten()(layers.TimeDistributed(layer)(layers.Reshape((1, 3))(inputs)))
    else:
        x = layer(inputs)
    filled(layer)
    assert_copies_give_the_same(headed(inputs, x), FLOATS, tmp_path)


@keras.saving.register_keras_serializable("test_layer_state")
class Tabled(layers.Dense):
    """A layer that can be cut, and writes a word down beside its weights."""

    word = np.array(b"")

    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["word"] = self.word

    def load_own_variables(self, store):
        self.word = np.array(store["word"])
        self.kernel.assign(store["0"])
        self.bias.assign(store["1"])


def test_a_layer_that_is_cut_keeps_its_own_state_and_its_slices():
    inputs, layer = keras.Input((3,)), Tabled(4, name="wide", bias_initializer="uniform")
    model = keras.Model(inputs, layers.Dense(2)(layer(inputs)))
    layer.word = np.array(b"kept")
    thin = prune_keras.shrink(model, Plan({"wide": [1, 3]}, {"wide": 4})).get_layer("wide")
    assert thin.word == b"kept"
    for found, whole in zip(thin.get_weights(), layer.get_weights(), strict=True):
        np.testing.assert_array_equal(found, whole[..., [1, 3]])


@keras.saving.register_keras_serializable("test_layer_state")
class Resets(AmongVariables):
    """Starts its variable anew whenever it is loaded."""

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.shift.assign([0, 0, 0])


def test_variables_of_a_copy_are_slices_whatever_loading_does_to_them():
    layer, inputs = Resets(), keras.Input((3,))
    model = headed(inputs, layer(inputs))
    filled(layer)
    twin = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths)).layers[1]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(twin.shift), [1, 2, 3])
    np.testing.assert_array_equal(twin.table, [2, 4, 6])


def test_copies_do_not_share_what_they_hold():
    layer, inputs = InAFile(), keras.Input((3,))
    model = headed(inputs, layer(inputs))
    filled(layer)
    twin = prune_keras.shrink(model, Plan.everything(prune_keras.trace(model).widths))
    twin.layers[1].table[0] = 100
    np.testing.assert_array_equal(layer.table, [2, 4, 6])
