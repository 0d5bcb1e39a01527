"""Masks that layers of layers make, hand on or read are those of the plain model."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from networks import randomize
from promises import random_plan

import prune_keras

TOKENS = np.array([[3, 1, 4, 0, 0], [2, 6, 0, 0, 0], [5, 3, 5, 8, 7]])


class Words(layers.Layer):
    """Makes a mask by a `compute_mask` of its own, and loses that of the layer inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = layers.Embedding(9, 6, mask_zero=True, name="table")

    def compute_mask(self, inputs, mask=None):
        return self.table.compute_mask(inputs)

    def call(self, tokens):
        return self.table(tokens) * 2.0


class Gated(layers.Layer):
    """Hands on the mask that it is given."""

    def __init__(self, **options):
        super().__init__(**options)
        self.gate = layers.Dense(6, activation="sigmoid", name="gate")
        self.supports_masking = True

    def call(self, x):
        return x * self.gate(x)


class Read(layers.Layer):
    """Takes a mask, and branches by whether there is one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(5, name="inner")

    def call(self, x, mask=None):
        y = self.inner(x)
        if mask is None:
            return ops.mean(y, axis=1)
        there = ops.cast(mask, y.dtype)[..., None]
        return ops.sum(y * there, axis=1) / ops.sum(there, axis=1)


class Recurrent(layers.Layer):
    """Has a layer inside that looks for a mask by itself."""

    def __init__(self, **options):
        super().__init__(**options)
        self.lstm = layers.LSTM(5, name="lstm")

    def call(self, x):
        return self.lstm(x)


class Attending(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.attend = layers.MultiHeadAttention(2, 3, name="attend")
        self.pool = layers.GlobalAveragePooling1D(name="pool")

    def call(self, x):
        return self.pool(self.attend(x, x))


class Outer(layers.Layer):
    """Layers of layers in which the mask is handed from one to the next."""

    def __init__(self, reader, **options):
        super().__init__(**options)
        self.gated, self.reader = Gated(name="gated"), reader(name="reader")

    def call(self, x):
        return self.reader(self.gated(x))


class Whole(layers.Layer):
    """Makes the mask that it needs inside of itself."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = layers.Embedding(9, 6, mask_zero=True, name="table")
        self.lstm = layers.LSTM(5, name="lstm")

    def call(self, tokens):
        return self.lstm(self.table(tokens))


class Covered(layers.Layer):
    """Masks steps of zeros inside of itself."""

    def __init__(self, **options):
        super().__init__(**options)
        self.table = layers.Embedding(9, 6, name="table")
        self.masking = layers.Masking(0.0, name="masking")
        self.gru = layers.GRU(5, name="gru")

    def call(self, tokens):
        there = ops.cast(tokens > 0, "float32")[..., None]
        return self.gru(self.masking(self.table(tokens) * there))


def of_parts(*parts):
    def make():
        x = inputs = keras.Input((5,), dtype="int32")
        for part in parts:
            x = part(x)
        return keras.Model(inputs, layers.Dense(2, name="head")(x))

    return make


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.words, self.gated = Words(name="words"), Gated(name="gated")
        self.read, self.head = Read(name="read"), layers.Dense(2, name="head")

    def call(self, tokens):
        return self.head(self.read(self.gated(self.words(tokens))))


def subclassed():
    model = Subclassed()
    model(TOKENS)
    return model


MAKERS = {
    "made by a layer of layers": lambda: of_parts(Words(), layers.LSTM(5))(),
    "read by one": lambda: of_parts(Words(), Read())(),
    "handed on": lambda: of_parts(Words(), Gated(), Gated(), layers.GRU(5))(),
    "handed on inside": lambda: of_parts(Words(), Outer(Read))(),
    "looked for inside": lambda: of_parts(Words(), Outer(Recurrent))(),
    "looked for by attention": lambda: of_parts(Words(), Gated(), Attending())(),
    "of Keras, read by one": lambda: of_parts(
        layers.Embedding(9, 6, mask_zero=True), Outer(Read)
    )(),
    "made and read inside": lambda: of_parts(Whole())(),
    "covered inside": lambda: of_parts(Covered())(),
    "of a whole model": subclassed,
}


def made(name):
    keras.utils.clear_session(free_memory=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was passed an input with a mask")
        model = MAKERS[name]()
    randomize(model)
    return model


def outputs_of(model):
    """Return the outputs of a model of which Keras warns that layers let masks go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was passed an input with a mask")
        return numbers_of(model)


def numbers_of(model):
    return keras.ops.convert_to_numpy(model(TOKENS))


def is_plain(model):
    return all(type(each).__module__.startswith("keras.") for each in model._flatten_layers())


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("flat", [False, True], ids=["nested", "flat"])
def test_outputs_are_equal(name, flat):
    model = made(name)
    plain = prune_keras.unfold(model, flat=flat)
    assert is_plain(plain)
    np.testing.assert_allclose(numbers_of(plain), outputs_of(model), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["handed on inside", "looked for inside", "of a whole model"])
def test_a_thin_one_is_read_back_without_the_classes(name, tmp_path):
    plain = prune_keras.unfold(made(name))
    thin = prune_keras.shrink(plain, random_plan(plain, (0, 0.4)))
    thin.save(tmp_path / "thin.keras")
    read = keras.models.load_model(tmp_path / "thin.keras")
    np.testing.assert_array_equal(numbers_of(read), numbers_of(thin))


def test_what_reads_no_mask_is_given_none():
    plain = prune_keras.unfold(made("handed on"))
    nested = [each for each in plain.layers if hasattr(each, "inputs") and hasattr(each, "layers")]
    assert nested and all(len(each.inputs) == 1 for each in nested)


def test_channels_of_what_reads_a_mask_can_be_pruned():
    widths = prune_keras.trace(prune_keras.unfold(made("looked for inside"), flat=True)).widths
    assert any(path.endswith("lstm") for path in widths)


def raw_operations(model):
    return [type(each) for each in model.operations if not isinstance(each, layers.Layer)]


def beside_an_opened_one():
    tokens = keras.Input((5,), dtype="int32")
    words = layers.Embedding(9, 6, mask_zero=True)(tokens)
    x = layers.LSTM(5, name="lstm")(words)
    x = layers.Add()([x, Scaled(name="opened")(x)])
    return keras.Model(tokens, layers.Dense(2, name="head")(x))


class Scaled(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.inner = layers.Dense(5, name="inner")

    def call(self, x):
        return self.inner(x)


def test_layers_of_keras_find_masks_by_themselves():
    model = beside_an_opened_one()
    plain = prune_keras.unfold(model)
    assert raw_operations(plain) == raw_operations(model)  # that of the mask, which Keras puts in
    np.testing.assert_allclose(numbers_of(plain), numbers_of(model), rtol=1e-5)
