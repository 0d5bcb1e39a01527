"""What a user holds of a model that is cut, and other models on the same layers."""

import re

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    assert_same,
    callback,
    compiled,
    dense_model,
    fit,
    judged,
    neurons,
    state_of,
)
from training_cases import BESIDE, UNSEEN

# What the user holds


@pytest.fixture(scope="module")
def held():
    """A model that was used as a whole and in parts, and then cut five times."""
    keras.utils.set_random_seed(0)
    pixels = keras.Input((6, 6, 2))
    conv = keras.layers.Conv2D(12, 3, name="conv")
    x = keras.layers.BatchNormalization(name="norm")(conv(pixels))
    stem = keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x), name="stem")
    hidden = [
        keras.layers.Dense(width, activation="relu", name=name)
        for name, width in (("hidden0", 10), ("hidden1", 8))
    ]
    head = keras.Sequential([keras.Input((12,)), *hidden], name="head")
    images = keras.Input((6, 6, 2))
    classes = keras.layers.Dense(3, activation="softmax", name="classes")(head(stem(images)))
    model = compiled(keras.Model(images, classes))
    head.predict(stem.predict(IMAGES, verbose=0), verbose=0)
    model.predict(IMAGES, verbose=0)
    parts = {"model": model, "stem": stem, "head": head, "conv": conv, "hidden": hidden[0]}
    parts |= {"optimizer": model.optimizer, "input": model.inputs[0], "output": model.outputs[0]}
    parts |= {"kernel": conv.kernel, "convolved": conv.output}
    pruning = callback(target={"neurons": 0.3}, fraction=0.2, scope="uniform")
    fit(model, pruning, epochs=5)
    assert len(pruning.rounds) == 5
    return parts


def numbers_of(model):
    return sum(v.numpy().size for v in model.weights)


def test_a_layer_that_is_held_is_thin(held):
    conv = held["conv"]
    assert held["stem"].get_layer("conv") is conv and conv.kernel is held["kernel"]
    assert conv.output is held["convolved"]
    assert conv.filters < 12
    assert conv.kernel.shape == (3, 3, 2, conv.filters)
    assert conv.bias.shape == (conv.filters,)
    assert conv.output.shape == conv.compute_output_shape((None, 6, 6, 2))
    assert conv.output.shape[-1] == conv(IMAGES).shape[-1] == conv.filters
    assert held["hidden"].kernel.shape == (conv.filters, held["hidden"].units)


def test_the_optimizer_that_is_held_is_thin(held):
    model = held["model"]
    assert model.optimizer is held["optimizer"]
    slots = {v.path.split("/", 1)[1]: v.shape for v in model.optimizer.variables}
    for weight in model.trainable_variables:
        name = weight.path.replace("/", "_")
        assert slots[f"{name}_momentum"] == slots[f"{name}_velocity"] == weight.shape


def test_submodels_that_are_held_are_thin(held):
    stem, head, width = held["stem"], held["head"], held["conv"].filters
    assert held["model"].get_layer("stem") is stem and held["model"].get_layer("head") is head
    assert stem.output_shape == head.input_shape == (None, width)
    assert head.output_shape == (None, head.get_layer("hidden1").units)
    for part, x in ((stem, IMAGES), (head, np.ones((2, width), "float32"))):
        assert part.count_params() == numbers_of(part)
        assert f"Total params: {numbers_of(part):,}" in summary(part)
        found = part.predict(x, verbose=0)
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(part(x)), rtol=1e-5)


def test_the_model_that_is_held_is_thin(held):
    model = held["model"]
    assert model.inputs[0] is held["input"] and model.outputs[0] is held["output"]
    assert (model.input_shape, model.output_shape) == ((None, 6, 6, 2), (None, 3))
    assert model.count_params() == numbers_of(model)
    found = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(found, keras.ops.convert_to_numpy(model(IMAGES)), rtol=1e-6)
    text = summary(model)
    trained = sum(v.numpy().size for v in model.trainable_variables)
    assert f"Trainable params: {trained:,}" in text
    assert f"(None, 4, 4, {held['conv'].filters})" in text
    assert f"(None, {held['hidden'].units})" in text


def summary(model):
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True, line_length=120)
    return "\n".join(lines)


# What is refused


class Calling(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


def extending(model):
    other = keras.Model(model.inputs[0], keras.layers.Dense(2)(model.get_layer("hidden0").output))
    other.name = "other"
    other.predict(SAMPLES, verbose=0)
    return other


def enclosing(model):
    return keras.Sequential([keras.Input((6,)), model, keras.layers.Dense(2)], name="other")


def calling(model):
    other = Calling(model)
    other.predict(SAMPLES, verbose=0)
    return other


@pytest.mark.parametrize("make", [extending, enclosing, calling])
def test_another_model_on_the_same_layers_is_refused_while_it_lives(make):
    model = dense_model()
    model.optimizer.build(model.trainable_variables)
    other, before = make(model), state_of(model)
    with pytest.raises(ValueError, match=re.escape(BESIDE.note)) as error:
        fit(model, callback())
    assert f"which model {other.name!r} has as well" in str(error.value)
    assert_same(before, state_of(model))
    del other, error
    fit(model, callback(), epochs=1)
    assert neurons(model) == 18


def test_a_feature_extractor_on_the_same_graph_follows():
    model = dense_model()
    extractor = keras.Model(model.inputs, model.get_layer("hidden0").output)
    before = extractor.predict(SAMPLES, verbose=0)
    pruning = judged(max_drop=1.0)
    fit(model, pruning, epochs=2)
    width = model.get_layer("hidden0").units
    assert width < before.shape[1]
    assert extractor.output_shape == (None, width)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(width, activation="relu")])
    inner.set_weights(model.get_layer("hidden0").get_weights())
    np.testing.assert_allclose(
        extractor.predict(SAMPLES, verbose=0), inner.predict(SAMPLES, verbose=0), rtol=1e-5
    )


def test_the_base_that_a_model_was_built_on_follows():
    start = keras.Input((6,))
    base = keras.Model(start, keras.layers.Dense(16, name="hidden0")(start))
    x = keras.layers.Dense(8, name="hidden1")(base.output)
    model = compiled(keras.Model(base.inputs, keras.layers.Dense(3, activation="softmax")(x)))
    base.predict(SAMPLES, verbose=0)
    fit(model, callback(), epochs=3)
    assert base.predict(SAMPLES, verbose=0).shape == (24, model.get_layer("hidden0").units)
    assert neurons(model) == 12


def test_a_model_built_meanwhile_on_the_same_layers_is_refused_before_the_next_cut():
    model, others = dense_model(), []
    build = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: others.append(extending(model)))
    with pytest.raises(ValueError, match=re.escape(BESIDE.note)):
        fit(model, callback(), build)
    assert neurons(model) == 18
    assert others[0].predict(SAMPLES, verbose=0).shape == (24, 2)


def test_a_nested_model_that_was_trained_by_itself_trains_on():
    inner = compiled(
        keras.Sequential([keras.Input((6,)), *(keras.layers.Dense(n) for n in (16, 6))])
    )
    inner.compile("adam", "mse")
    inner.fit(SAMPLES, SAMPLES, verbose=0)
    model = compiled(
        keras.Sequential([keras.Input((6,)), inner, keras.layers.Dense(3, activation="softmax")])
    )
    fit(model, callback(), epochs=3)
    assert inner.layers[0].units < 16
    slots = {tuple(slot.shape) for slot in inner.optimizer._momentums}
    assert slots == {tuple(variable.shape) for variable in inner.trainable_variables}


def test_a_model_with_a_call_of_its_own_gets_thin_where_it_stands():
    inner = dense_model()
    model = compiled(Calling(keras.Model(inner.inputs, inner.outputs)))
    del inner
    model.predict(SAMPLES, verbose=0)
    pruning = callback()
    model.fit(SAMPLES, LABELS, epochs=3, verbose=0, callbacks=[pruning])
    after = pruning.report.after.params
    assert after == model.count_params() < pruning.report.before.params


class Looking(Calling):
    def call(self, x):
        return super().call(x) * float(keras.ops.mean(x))


def test_a_model_whose_call_works_on_values_is_refused():
    model = compiled(Looking(dense_model()))
    model.run_eagerly = True
    model.predict(SAMPLES, verbose=0)
    before = model.get_weights()
    with pytest.raises(ValueError, match=re.escape(UNSEEN.note)):
        model.fit(SAMPLES, LABELS, verbose=0, callbacks=[callback()])
    for weights, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, expected)
