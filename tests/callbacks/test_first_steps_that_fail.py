"""The first training step of a fit fails: the model stays as it was, on JAX, too."""

import keras
import numpy as np
import pytest
from fits import SAMPLES

from prune_keras.callbacks import Distillation, QuantizationAware, Teacher

TARGETS = np.zeros((len(SAMPLES), 3), "float32")
CALLBACKS = {
    "distillation": lambda: Distillation(Teacher("start", features=1.0)),
    "quantization aware": lambda: QuantizationAware(SAMPLES),
}


class Failing(keras.losses.Loss):
    """Fails in calls of it, which are those of the first step: Keras makes one beforehand."""

    is_failing = True
    calls = 0

    def call(self, y_true, y_pred):
        self.calls += 1
        if self.is_failing and self.calls > 1:
            raise RuntimeError("of the user's own")
        return keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


@pytest.mark.parametrize("name", CALLBACKS)
def test_the_model_stays_as_it_was_and_can_be_fitted(name):
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, activation="relu", name="hidden")(inputs)
    model, loss = keras.Model(inputs, keras.layers.Dense(3)(x)), Failing()
    model.compile("adam", loss)
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(RuntimeError, match="of the user's own"):
        model.fit(SAMPLES, TARGETS, callbacks=[CALLBACKS[name]()], verbose=0)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    assert int(model.optimizer.iterations) == 0
    loss.is_failing = False
    model.fit(SAMPLES, TARGETS, callbacks=[CALLBACKS[name]()], verbose=0)
    assert int(model.optimizer.iterations) > 0
