"""Small models, callbacks and fits, and epochs driven by hand, for the tests of callbacks.

By hand, an epoch of training is a nudge to every variable of the model and of its optimizer.
"""

import keras
import numpy as np

import prune_keras
from prune_keras.callbacks import ProgressivePruning

SAMPLES = np.random.default_rng(0).normal(size=(24, 6)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 3, 24)
IMAGES = np.random.default_rng(2).normal(size=(24, 6, 6, 2)).astype("float32")


def compiled(model, optimizer="adam"):
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def dense_model(widths=(16, 8), optimizer="adam"):
    hidden = [
        keras.layers.Dense(width, activation="relu", name=f"hidden{number}")
        for number, width in enumerate(widths)
    ]
    last = keras.layers.Dense(3, activation="softmax", name="classes")
    return compiled(keras.Sequential([keras.Input((6,)), *hidden, last]), optimizer)


def conv_model(optimizer="adam", trainable=True):
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(8, 3, name="conv", use_bias=False)(pixels)
    x = keras.layers.BatchNormalization(name="norm", trainable=trainable)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    x = keras.layers.Dense(6, activation="relu", name="hidden")(x)
    probabilities = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    return compiled(keras.Model(pixels, probabilities), optimizer)


def callback(**arguments):
    chosen = {"target": {"neurons": 0.5}, "fraction": 0.25, "verbose": 0}
    return ProgressivePruning(**chosen | arguments)


def judged(**arguments):
    """A callback whose rounds are judged: at most 0.1 below 0.9, with no other target."""
    chosen = {"target": None, "max_drop": 0.1, "baseline": 0.9, "min_fraction": 0.05}
    return callback(**chosen | arguments)


def fit(model, *callbacks, epochs=3, **arguments):
    x = IMAGES if len(model.input_shape) == 4 else SAMPLES
    options = {"validation_data": (x, LABELS), "batch_size": 12, "verbose": 0} | arguments
    return model.fit(x, LABELS, epochs=epochs, callbacks=list(callbacks), **options)


def begin(pruning, model, epochs):
    pruning.set_params({"epochs": epochs, "steps": 2, "verbose": 0})
    pruning.set_model(model)
    pruning.on_train_begin()


def nudge(model):
    rate = id(model.optimizer._learning_rate)
    for variable in [*model.trainable_variables, *model.optimizer.variables]:
        if "float" in keras.backend.standardize_dtype(variable.dtype) and id(variable) != rate:
            variable.assign_add(keras.ops.full(variable.shape, 0.01, variable.dtype))
    model.optimizer.iterations.assign_add(2)


def drive(pruning, model, metrics, epochs=None, monitor="val_accuracy"):
    """Go through epochs that end with these metrics; return the states within each epoch.

    Each state is taken at the epoch's end, before the callback judges.
    """
    begin(pruning, model, epochs or len(metrics))
    states = []
    for epoch, metric in enumerate(metrics):
        pruning.on_epoch_begin(epoch)
        nudge(model)
        states.append(state_of(model))
        pruning.on_epoch_end(epoch, {monitor: metric})
    pruning.on_train_end()
    return states


def state_of(model):
    """Return everything that a cut may touch: structure, weights, statistics, slots, counts."""
    state = {v.path: keras.ops.convert_to_numpy(v.value) for v in model.variables}
    state |= {v.path: keras.ops.convert_to_numpy(v.value) for v in model.optimizer.variables}
    state |= {f"config of {layer.name}": layer.get_config() for layer in model.layers}
    return state | {f"shape of {layer.name}": layer.output.shape for layer in model.layers}


def assert_same(state, other):
    assert state.keys() == other.keys()
    for name, value in state.items():
        np.testing.assert_equal(other[name], value, err_msg=name)


def neurons(model):
    return prune_keras.cost(model).neurons
