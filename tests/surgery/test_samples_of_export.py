"""What export compares on, and what it says: samples that a model takes, and the layer to blame."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import prune_keras
from prune_keras import _keras
from prune_keras.samples.drawing import draw, sample_shapes

SUFFIXES = pytest.mark.parametrize("suffix", [".keras", ".h5"])
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="texts are TensorFlow's"
)


def headed(inputs, x):
    return keras.Model(inputs, layers.Dense(2)(layers.Dense(4, activation="relu")(x)))


def drawn(model, size=5, **arguments):
    found = draw(model, sample_shapes(model, size), **arguments)
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(found)]


@keras.saving.register_keras_serializable("test_samples_of_export")
class Positions(layers.Layer):
    """Adds a learnt vector a position, of which there are a few."""

    def build(self, shape):
        self.table = self.add_weight(shape=(10, shape[-1]), name="table")

    def call(self, x):
        return x + self.table[: ops.shape(x)[1]]

    def compute_output_shape(self, shape):
        return shape


@keras.saving.register_keras_serializable("test_samples_of_export")
class Sevens(layers.Layer):
    """Takes seven steps and no others, though its input leaves that open."""

    def call(self, x):
        return ops.reshape(x, (-1, 21))

    def compute_output_shape(self, shape):
        return shape[0], 21


def numbers_of_words():
    inputs = keras.Input((None,), dtype="int32")
    x = Positions()(layers.Embedding(6, 4)(inputs))
    return headed(inputs, layers.GlobalAveragePooling1D()(x))


def words_as_floats():
    inputs = keras.Input((8,))
    return headed(inputs, layers.Flatten()(layers.Embedding(6, 4)(inputs)))


def words_behind_other_layers():
    inputs = keras.Input((4,), dtype="int64")
    inner = keras.Sequential([keras.Input((2, 2), dtype="int64"), layers.Embedding(6, 4)])
    x = inner(layers.Reshape((2, 2))(inputs))
    return headed(inputs, layers.Flatten()(x))


def counted():
    inputs = keras.Input((3,), dtype="int32")
    x = layers.CategoryEncoding(num_tokens=6, output_mode="multi_hot")(inputs)
    return headed(inputs, x)


INDICES = (numbers_of_words, words_as_floats, words_behind_other_layers, counted)


@pytest.mark.parametrize("make", INDICES)
def test_numbers_that_are_looked_up_are_known(make):
    (x,) = drawn(make(), batch_size=20)
    assert {*np.unique(x)} == {*range(6)}


@pytest.mark.parametrize("make", INDICES)
def test_models_of_numbers_are_exported(make, tmp_path):
    assert prune_keras.export(make(), tmp_path / "model.keras").exists()


def test_one_input_of_several_layers_is_known_to_each():
    inputs = keras.Input((4,), dtype="int32")
    parts = [layers.Flatten()(layers.Embedding(size, 2)(inputs)) for size in (3, 9)]
    (x,) = drawn(headed(inputs, layers.Concatenate()(parts)), batch_size=20)
    assert {*np.unique(x)} == {0, 1, 2}


@needs_tensorflow
def test_texts_are_of_words_that_are_known():
    lookup = layers.StringLookup(vocabulary=["red", "blue"])
    text = layers.TextVectorization(vocabulary=["sun", "moon"], output_mode="multi_hot")
    inputs = [keras.Input((1,), dtype="string"), keras.Input((), dtype="string")]
    x = layers.Flatten()(layers.Embedding(3, 4)(lookup(inputs[0])))
    words, texts = drawn(headed(inputs, layers.Concatenate()([x, text(inputs[1])])), batch_size=9)
    assert {*words.ravel()} == {b"red", b"blue"}
    assert {*b" ".join(texts.ravel()).split()} == {b"sun", b"moon"}


@needs_tensorflow
def test_texts_of_which_nothing_is_known_are_numbers():
    inputs = keras.Input((3,), dtype="string")
    (x,) = drawn(headed(inputs, layers.Hashing(8, output_mode="one_hot")(inputs)))
    assert all(text.isdigit() for text in x.ravel())


def test_whole_numbers_booleans_and_pixels_vary():
    inputs = [keras.Input((40,), dtype=dtype) for dtype in ("int32", "bool", "uint8")]
    floats = [layers.Rescaling(1.0)(x) for x in inputs]
    few, flags, pixels = drawn(headed(inputs, layers.Concatenate()(floats)))
    assert {*few.ravel()} == {0, 1} and {*flags.ravel()} == {False, True}
    assert pixels.max() > 100


def test_samples_are_as_many_as_the_model_asks_for(tmp_path):
    inputs = keras.Input(batch_shape=(8, 4))
    model = headed(inputs, inputs)
    assert len(drawn(model)[0]) == 8
    assert prune_keras.export(model, tmp_path / "model.keras").exists()


def test_open_sizes_are_those_that_the_model_can_run_at(tmp_path):
    inputs = keras.Input((None, 4))
    model = headed(inputs, layers.GlobalAveragePooling1D()(Positions()(inputs)))
    assert prune_keras.export(model, tmp_path / "model.keras").exists()


@SUFFIXES
def test_a_model_that_runs_on_no_drawn_sample_asks_for_some(suffix, tmp_path):
    inputs = keras.Input((None, 3))
    model = headed(inputs, Sevens()(inputs))
    with pytest.raises(ValueError, match=r"fails on drawn samples: .*Pass samples="):
        prune_keras.export(model, tmp_path / f"model{suffix}")
    assert not [*tmp_path.iterdir()]
    path = prune_keras.export(model, tmp_path / f"model{suffix}", samples=np.ones((2, 7, 3)))
    assert path.exists()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.ones((2, 3)), r"one array for each input of the model, \['a', 'b'\].*1 arrays"),
        ([np.ones((2, 3)), np.ones((2, 5))], "fails on these samples"),
        ({"a": np.ones((2, 3)), "b": np.full((2, 4), np.nan)}, "nothing is finite"),
    ],
)
def test_samples_that_say_nothing_are_refused(samples, message, tmp_path):
    inputs = {"a": keras.Input((3,), name="a"), "b": keras.Input((4,), name="b")}
    model = headed(inputs, layers.Concatenate()([inputs["a"], inputs["b"]]))
    with pytest.raises(ValueError, match=message):
        prune_keras.export(model, tmp_path / "model.keras", samples)
    right = {"b": np.ones((2, 4)), "a": np.ones((2, 3))}
    assert prune_keras.export(model, tmp_path / "model.keras", right).exists()


def test_an_output_without_numbers_proves_nothing(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2, bias_initializer="ones")(inputs))
    model.layers[-1].bias.assign([np.nan, np.nan])
    with pytest.raises(ValueError, match="nothing is finite"):
        prune_keras.export(model, tmp_path / "model.keras")
    model.layers[-1].bias.assign([np.nan, 0])
    assert prune_keras.export(model, tmp_path / "model.keras").exists()


@keras.saving.register_keras_serializable("test_samples_of_export")
class Forgetful(layers.Layer):
    """Adds a number that its config does not hold."""

    def __init__(self, number=0.0, **kwargs):
        super().__init__(**kwargs)
        self.number = number

    def call(self, x):
        return unseen(x) + self.number

    def get_config(self):
        return {"name": self.name}


@SUFFIXES
def test_what_dead_outputs_hide_is_seen_behind_each_layer(suffix, tmp_path):
    inputs = keras.Input((3,))
    x = layers.Dense(4, name="after")(Forgetful(1.0, name="forgetful")(inputs))
    dead = layers.Dense(2, activation="relu", bias_initializer=keras.initializers.Constant(-99))
    model = keras.Model(inputs, dead(x))
    with pytest.raises(ValueError, match="first behind 'forgetful', by 1"):
        prune_keras.export(model, tmp_path / f"model{suffix}")


def test_dead_outputs_are_no_fault(tmp_path):
    inputs = keras.Input((3,))
    dead = layers.Dense(2, activation="relu", bias_initializer=keras.initializers.Constant(-99))
    assert prune_keras.export(keras.Model(inputs, dead(inputs)), tmp_path / "model.h5").exists()


@SUFFIXES
def test_states_of_a_stateful_layer_stay_and_do_not_matter(suffix, tmp_path):
    inputs = keras.Input(batch_shape=(2, 5, 4))
    lstm = layers.LSTM(3, stateful=True)
    model = headed(inputs, lstm(inputs))
    model(np.ones((2, 5, 4), "float32"))
    before = [np.array(ops.convert_to_numpy(state)) for state in lstm.states]
    prune_keras.export(model, tmp_path / f"model{suffix}")
    prune_keras.latency(model, batch_size=2, repeats=1)
    assert np.abs(before[0]).max() > 0
    for state, value in zip(lstm.states, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(state), value)


def unseen(x):
    """Do nothing, in a way that cannot be looked into."""
    return x + 0.0 * keras.random.normal(ops.shape(x))


class Unregistered(layers.Layer):
    def call(self, x):
        return unseen(x)


class Unwritable(layers.Layer):
    """Has an argument that is no plain value, and no get_config."""

    def __init__(self, how):
        super().__init__()
        self.how = how

    def call(self, x):
        return unseen(x) * self.how


def unregistered():
    return Unregistered(name="mine")


def unwritable():
    layer = Unwritable(np.float32(2))
    layer.name = "mine"
    return layer


def unsafe():
    return layers.Lambda(lambda x: x * 2, name="mine")


def nested():
    return keras.Sequential([keras.Input((3,)), layers.Dense(3), unregistered()], name="inner")


@SUFFIXES
@pytest.mark.parametrize("make", [unregistered, unwritable, unsafe, nested])
def test_the_layer_that_a_file_cannot_hold_is_blamed(make, suffix, tmp_path):
    """Others have names that the error of Keras holds as well."""
    inputs = keras.Input((3,), name="Unregistered")
    x = layers.Dense(3, name="Functional")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="Lambda")(make()(x)), name="Unwritable")
    with pytest.raises(ValueError, match=r"Received: layer 'mine' of 'Unwritable', with which"):
        prune_keras.export(model, tmp_path / f"model{suffix}")
    assert not [*tmp_path.iterdir()]


class Seen(layers.Layer):
    """Of a class that is not registered, with a weight of its own."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")

    def call(self, x):
        return ops.relu(x) * self.scale


def test_what_can_be_looked_into_is_written_as_what_it_is_made_of(tmp_path):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Dense(2)(Seen(name="mine")(layers.Dense(4)(inputs))))
    path = prune_keras.export(model, tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    found, wanted = (ops.convert_to_numpy(m(x)) for m in (keras.models.load_model(path), model))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert isinstance(model.get_layer("mine"), Seen)


def test_errors_are_one_line_without_colours(tmp_path):
    inputs = keras.Input((None, 3))
    with pytest.raises(ValueError) as raised:
        prune_keras.export(headed(inputs, Sevens()(inputs)), tmp_path / "model.keras")
    assert "\x1b" not in str(raised.value) and "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


# Latency.


def test_latency_at_sizes_that_are_given():
    inputs = {"a": keras.Input((4,), name="a"), "b": keras.Input((None,), dtype="int32", name="b")}
    x = layers.GlobalAveragePooling1D()(layers.Embedding(7, 3)(inputs["b"]))
    model = headed(inputs, layers.Concatenate()([inputs["a"], x]))
    assert prune_keras.latency(model, repeats=1, input_shape=[(4,), (6,)]) > 0
    with pytest.raises(ValueError, match=r"of shape \(None, None\). Pass input_shape="):
        prune_keras.latency(model)
    with pytest.raises(ValueError, match=r"of shape \(None, None\). Pass input_shape="):
        prune_keras.latency(model, input_shape=[(4,), (None,)])
    with pytest.raises(ValueError, match="`input_shape` must fit"):
        prune_keras.latency(model, input_shape=[(5,), (6,)])


def test_latency_of_batches_that_the_model_takes():
    inputs = keras.Input(batch_shape=(8, 4))
    model = headed(inputs, inputs)
    assert prune_keras.latency(model, batch_size=8, repeats=1) > 0
    with pytest.raises(ValueError, match=r"batch_size=1, for .*batches of 8. Pass batch_size=8"):
        prune_keras.latency(model)


@needs_tensorflow
def test_latency_of_texts():
    inputs = keras.Input((1,), dtype="string")
    x = layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")(inputs)
    assert prune_keras.latency(headed(inputs, x), batch_size=3, repeats=1) > 0


def test_what_is_drawn_fits_the_structure_of_the_inputs():
    inputs = {"a": keras.Input((4,), name="a"), "b": [keras.Input((2,)), keras.Input((3,))]}
    flat = keras.tree.flatten(inputs)
    model = headed(inputs, layers.Concatenate()(flat))
    found = draw(model, sample_shapes(model))
    assert keras.tree.map_structure(lambda x: x.shape[1], found) == {"a": 4, "b": [2, 3]}
    assert _keras.input_structure(model).keys() == found.keys()
