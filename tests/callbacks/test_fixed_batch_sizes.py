"""Models that take so many samples at once, and no other number."""

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import Distillation, Factors, QuantizationAware, Teacher

IMAGES = np.random.default_rng(0).normal(size=(24, 8, 8, 4)).astype("float32")
TARGETS = np.ones((24, 3), "float32")


def of_eight():
    pixels = keras.Input(batch_shape=(8, 8, 8, 4))
    x = keras.layers.Conv2D(8, 3, activation="relu", name="a")(pixels)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="b")(x)
    model = keras.Model(pixels, keras.layers.Dense(3)(keras.ops.reshape(x, (8, -1))))
    model.compile("sgd", "mse")
    return model


LEARNING = {
    "eight bits": lambda: QuantizationAware(IMAGES),
    "factors": lambda: Distillation(Teacher("start", factors=Factors(IMAGES, epochs=1))),
    "stored": lambda: Distillation(Teacher("start", features=1.0, store=True)),
    "attention": lambda: Distillation(Teacher("start", attention=10.0)),
}


@pytest.mark.parametrize("name", LEARNING)
def test_arrays_are_read_in_batches_of_it(name):
    options = {"batch_size": 8, "verbose": 0, "callbacks": [LEARNING[name]()]}
    history = of_eight().fit(IMAGES, TARGETS, **options)
    assert np.isfinite(history.history["loss"]).all()


def test_ranges_are_those_of_all_batches():
    model = of_eight()
    told = prune_keras.calibrate(model, IMAGES).ranges[""]
    assert told == pytest.approx((IMAGES.min(), IMAGES.max()))
