"""A training step of one's own that a teacher is not heard in."""

import keras
import numpy as np
import pytest
from fits import fit

from prune_keras.callbacks import Distillation, Teacher


class Unheard(keras.Model):
    """A step of its own, with a loss of its own, on whatever backend."""

    def train_step(self, *args):
        if keras.backend.backend() == "jax":
            state, (x, y, *_) = args
            return {"loss": keras.ops.mean(self.stateless_call(state[0], state[1], x)[0])}, state
        for variable in [*self.trainable_variables, self.optimizer.iterations]:
            variable.assign(variable + keras.ops.ones_like(variable))
        return {"loss": keras.ops.mean(self(args[0][0]))}


@pytest.mark.parametrize("eagerly", [True, False])
def test_a_step_that_does_not_ask_for_the_loss_is_refused_and_changes_nothing(eagerly):
    given = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")(given)
    model = Unheard(given, keras.layers.Dense(3, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=eagerly)
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match="must call `self.compute_loss`.*a Unheard with a"):
        fit(model, Distillation(Teacher("start", features=1.0)), epochs=1)
    assert not {"compute_loss", "train_step"} & {*vars(model)}
    assert int(model.optimizer.iterations) == 0
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
