"""A small network that is trained, and what its optimizer remembers of each weight."""

import keras
import numpy as np
from fits import fit, judged
from keras import layers, ops

import prune_keras


def network(optimizer):
    """Return a small model in which no gradient is zero, and no layer draws random numbers."""
    pixels = keras.Input((6, 6, 2))
    x = layers.Conv2D(6, 3, use_bias=False, name="conv")(pixels)  # statistics cancel a bias
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Activation("tanh")(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(5, activation="tanh", name="hidden")(x)
    model = keras.Model(pixels, layers.Dense(3, name="last")(x))
    model.compile(optimizer, keras.losses.MeanSquaredError(), run_eagerly=True)
    return model


def some_of(model):
    """Return a plan that cuts every layer."""
    return prune_keras.select(
        prune_keras.trace(model), prune_keras.score(model), fraction=0.4, scope="uniform"
    )


def numbers(variables):
    return [np.array(ops.convert_to_numpy(variable.value)) for variable in variables]


def everything(model):
    return numbers([*model.variables, *model.optimizer.variables])


def slots_of(model):
    """Return (weight, slot, the weight's axis along each axis of the slot) for every slot."""
    found, optimizer = [], model.optimizer
    for number, weight in enumerate(model.trainable_variables):
        name, axes = weight.path.replace("/", "_"), tuple(range(len(weight.shape)))
        for slot in optimizer.variables:
            if slot.path.rpartition("/")[2].startswith(f"{name}_"):
                found.append((weight, slot, axes))
        if hasattr(optimizer, "_r") and len(axes) > 1:
            found.append((weight, optimizer._r[number], axes[:-1]))
            found.append((weight, optimizer._c[number], (*axes[:-2], axes[-1])))
    with_axes = {id(slot) for slot in optimizer.variables if len(slot.shape)}
    assert with_axes and with_axes == {id(slot) for _, slot, _ in found}
    return found


def left_of_slots(silenced):
    """Return what must be left of the original's slots."""
    left = []
    for weight, slot, axes in slots_of(silenced.model):
        value, kept = numbers([slot])[0], silenced.kept.get(id(weight), {})
        for place, axis in enumerate(axes):
            if axis in kept:
                value = np.compress(kept[axis], value, axis=place)
        left.append(value)
    return left


def slots(model):
    return numbers(slot for _, slot, _ in slots_of(model))


def assert_near(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


class States(keras.callbacks.Callback):
    """Scores epochs as told, and remembers their ends and the rate at which each step was made."""

    def __init__(self, *scores):
        super().__init__()
        self.scores, self.states, self.rates = scores, [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.rates.append(float(ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    def on_epoch_end(self, epoch, logs=None):
        logs["score"] = self.scores[epoch]
        self.states.append(everything(self.model))


class Scores(States):
    def on_train_batch_begin(self, batch, logs=None):
        """A `MultiOptimizer` has no rate to ask for."""


def rounds(model, seen, pruning=None):
    """Fit over rounds that end with the scores given: 0.9 is kept, 0.1 rolled back."""
    pruning = pruning or judged(monitor="score", mode="max")
    before = len(pruning.rounds)
    epochs = len(seen.scores)
    history = fit(model, seen, pruning, epochs=epochs, validation_data=None).history
    assert [done.kept for done in pruning.rounds[before:]] == [s > 0.5 for s in seen.scores]
    assert np.isfinite(history["loss"]).all()
    return history
