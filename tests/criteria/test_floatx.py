"""Where `floatx` is float64, what looks at a model, or trains it, works as it does in float32."""

import contextlib

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import (
    Distillation,
    GroupPenalty,
    ProgressivePruning,
    ScaleSparsity,
    SensitivityRegularization,
    TargetedDropout,
    Teacher,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="JAX has float64 where jax_enable_x64 is set"
)
CRITERIA = (
    *("l2", "taylor", "reconstruction", "apoz", "mean_activation", "activation_std", "obs"),
    *("discrimination", "oracle"),
)
CALLBACKS = {
    "units are dropped": lambda model: TargetedDropout(0.5, 0.5),
    "weights are dropped": lambda model: TargetedDropout(0.5, 0.5, "weight"),
    "scales": lambda model: ScaleSparsity(1e-4),
    "groups": lambda model: GroupPenalty(1e-4),
    "sensitivity": lambda model: SensitivityRegularization(1e-3, "specific"),
    "teacher": lambda model: Distillation(Teacher("start", features=0.5)),
    "rounds": lambda model: ProgressivePruning(
        target={"neurons": 0.6}, fraction=0.4, data=(IMAGES, CLASSES), verbose=0
    ),
}
IMAGES = np.random.default_rng(0).uniform(size=(24, 6, 6, 2))
CLASSES = np.arange(24) % 2


@contextlib.contextmanager
def precision(floatx, policy):
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(floatx)
    keras.config.set_dtype_policy(policy)
    try:
        yield policy
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


# Keras leaves its policy as it was where `floatx` is set later.
@pytest.fixture(params=[("float64", "float64"), ("float64", "float32")], ids=["both", "late"])
def floatx(request):
    with precision(*request.param) as policy:
        yield policy


def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(4, 3, name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Conv2D(5, 3, activation="relu", name="second"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(6, activation="relu", name="hidden"),
            layers.Dense(2, activation="softmax", name="classes"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


@pytest.fixture(scope="module")
def single():
    model = network()
    data = {each: None if each == "l2" else (IMAGES, CLASSES) for each in CRITERIA}
    return {each: prune_keras.score(model, each, data[each]) for each in CRITERIA}


@pytest.fixture(scope="module")
def weights():
    return network().get_weights()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_scores_are_those_of_single_precision(criterion, single, weights, floatx):
    model = network()
    model.set_weights(weights)
    data = None if criterion == "l2" else (IMAGES, CLASSES)
    found = prune_keras.score(model, criterion, data)
    assert model.layers[0].kernel.dtype == floatx
    for path, scores in single[criterion].items():
        np.testing.assert_allclose(found[path], scores, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("way", CALLBACKS)
def test_callbacks_train(way, floatx):
    model = network()
    callback = CALLBACKS[way](model)
    history = model.fit(IMAGES, CLASSES, batch_size=8, epochs=2, callbacks=[callback], verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert model.layers[0].kernel.dtype == floatx


@pytest.mark.parametrize("fuse", ["weights", "bias", "sequential"])
def test_repairs_keep_the_precision(fuse, floatx):
    data = IMAGES, CLASSES
    thin, _ = prune_keras.prune(network(), {"params": 0.6}, criterion="l2", data=data, fuse=fuse)
    assert np.isfinite(thin.predict(IMAGES, verbose=0)).all()
    assert thin.layers[0].kernel.dtype == floatx


def test_what_is_kept_and_cut_is_told_apart(floatx):
    found = prune_keras.dependence(network(), (IMAGES, CLASSES), share=0.5).to_dict()
    assert all(np.isfinite(value) for value in found.values() if isinstance(value, float))
    assert sum(isinstance(value, float) for value in found.values()) > 6


def test_neurons_are_picked_by_heads(floatx):
    thin, _ = prune_keras.discriminate(network(), data=(IMAGES, CLASSES), fraction=0.5)
    assert thin.layers[0].kernel.dtype == floatx
