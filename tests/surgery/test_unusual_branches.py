"""Ensembles of unusual models: classes on other axes, activations with weights, names, losses."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import Distillation, Teacher
from prune_keras.teaching.outputs import families

layers = keras.layers
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(16, 6, 6, 3)).astype("float32")
LABELS = np.arange(16) % 4


def maps(*after):
    pixels = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(pixels)
    x = layers.Conv2D(4, 3, padding="same", name="b")(x)
    for layer in after:
        x = layer(x)
    return keras.Model(pixels, x)


MOVED = {
    "positions": [layers.Softmax(axis=1)],
    "an activation": [layers.Conv2D(4, 1, activation=layers.Softmax(axis=1))],
    "an operation": [lambda x: keras.ops.softmax(x, axis=1)],
    "of all": [lambda x: keras.ops.softmax(x, axis=None)],
    "two axes": [layers.Softmax(axis=[1, 2])],
    "permuted": [layers.Softmax(), layers.Permute((3, 1, 2))],
    "flattened": [layers.Softmax(), layers.Flatten()],
    "reshaped": [layers.Softmax(), layers.Reshape((6, 12, 2))],
}
LAST = {
    "maps": [layers.Softmax()],
    "rows": [layers.Softmax(), layers.Reshape((36, 4))],
    "turned": [layers.Softmax(axis=3), layers.Permute((2, 1, 3))],
    "pooled": [layers.Softmax(), layers.GlobalAveragePooling2D()],
    "each": [layers.Activation("sigmoid"), layers.Permute((3, 1, 2))],
}


@pytest.mark.parametrize("name", MOVED)
def test_classes_along_another_axis_are_refused(name):
    model = maps(*MOVED[name])
    model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="along the last axis.*output 0 of.*or put the classes"):
        prune_keras.NativeEnsemble(model, at="a")
    y = model.predict(IMAGES, verbose=0)
    taught = [Distillation(Teacher("start", outputs=kind)) for kind in ("auto", "values")]
    with pytest.raises(ValueError, match=r"along the last axis.*Teacher\(outputs='values'\)"):
        model.fit(IMAGES, y, verbose=0, callbacks=taught[:1])
    model.fit(IMAGES, y, verbose=0, callbacks=taught[1:])


@pytest.mark.parametrize("name", LAST)
def test_branches_that_are_alike_come_to_what_the_model_gives(name):
    model = maps(*LAST[name])
    ensemble = prune_keras.NativeEnsemble(model, at="a", fresh=False)
    found = ensemble.predict(IMAGES, verbose=0)["ensemble"]
    np.testing.assert_allclose(found, model.predict(IMAGES, verbose=0), atol=1e-5)


def test_a_loss_over_another_axis_is_refused():
    model = maps()
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True, axis=1))
    with pytest.raises(ValueError, match="along the last axis"):
        families(model, model, "auto")
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    assert families(model, model, "auto") == ["softmax"]
    ensemble = prune_keras.NativeEnsemble(model, at="a")
    ensemble.compile("sgd")
    with pytest.raises(ValueError, match="along the last axis.*Take a loss over the last axis"):
        ensemble.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True, axis=1))


def ended(x):
    return layers.Dense(4, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def with_weights():
    pixels = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="a", activation=layers.PReLU(shared_axes=[1, 2]))(pixels)
    x = layers.Conv2D(4, 3, name="b", activation=layers.PReLU(shared_axes=[1, 2]))(x)
    return keras.Model(pixels, ended(x))


def test_activations_that_are_not_built_are_refused_before_training(tmp_path):
    model = with_weights()
    with pytest.raises(ValueError, match="must be built.*that of 'a'.*Call it once"):
        prune_keras.NativeEnsemble(model, at="a")
    expected = model.predict(IMAGES, verbose=0)
    ensemble = prune_keras.NativeEnsemble(model, at="a")
    ensemble.compile("sgd", "sparse_categorical_crossentropy")
    ensemble.fit(IMAGES, LABELS, verbose=0)
    np.testing.assert_array_equal(model.predict(IMAGES, verbose=0), expected)
    for number, out in enumerate(("branch_1", "branch_2"), start=1):
        told = ensemble.predict(IMAGES, verbose=0)[out]
        kept = ensemble.branch(number)
        np.testing.assert_allclose(kept.predict(IMAGES, verbose=0), told, atol=1e-6)
    ensemble.save(tmp_path / "ensemble.keras")
    read = keras.models.load_model(tmp_path / "ensemble.keras")
    again = read.predict(IMAGES, verbose=0)["ensemble"]
    np.testing.assert_allclose(again, ensemble.predict(IMAGES, verbose=0)["ensemble"], atol=1e-6)


def test_a_layer_inside_of_a_nested_model_and_beside_it_is_refused():
    given, conv = keras.Input((6, 6, 4)), layers.Conv2D(4, 3, padding="same", name="c")
    inner = keras.Model(given, conv(given), name="inner")
    pixels = keras.Input((6, 6, 3))
    x = layers.ReLU(name="at")(layers.Conv2D(4, 3, padding="same", name="a")(pixels))
    model = keras.Model(pixels, ended(conv(inner(x))))
    with pytest.raises(ValueError, match=r"in one model alone.*\['c', 'inner/c'\]"):
        prune_keras.NativeEnsemble(model, at="at")


@pytest.mark.parametrize("name", ["gate", "gate_relu", "ensemble", "branch_2"])
def test_layers_may_have_other_names_of_the_ensembles(name):
    pixels = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name=name)(pixels)
    model = keras.Model(pixels, ended(layers.Conv2D(4, 3, name="b")(x)))
    if name.startswith("gate"):
        assert len(prune_keras.NativeEnsemble(model, at=name).outputs) == 4
    else:
        with pytest.raises(ValueError, match=f"names of the ensemble's outputs.*'{name}'"):
            prune_keras.NativeEnsemble(model, at=name)


def test_any_output_with_a_loss_tells_what_they_stand_for():
    pixels = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, activation="relu", name="a")(pixels)
    x = layers.Conv2D(4, 3, activation="relu", name="b")(x)
    model = keras.Model(pixels, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))
    ensemble = prune_keras.NativeEnsemble(model, at="a")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    given, found = ensemble(IMAGES), []
    for told in (loss, {"ensemble": loss}):
        ensemble.compile("sgd", told)
        found.append(float(keras.ops.convert_to_numpy(ensemble._apart(given, None))))
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0] > 0
