"""Training on several devices: a fit under MirroredStrategy is pruned as one on one device."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from fits import IMAGES, LABELS, judged

pytestmark = pytest.mark.xdist_group("strategies")  # one process makes what they share

OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
}
CRITERIA = {"adam": "l2", "momentum": "taylor"}
LEVELS = (0.9, 0.1, 0.9)


def model_for(optimizer):
    """A compiled model that computes the same on one device as on several."""
    pixels = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv")(pixels)
    x = keras.layers.BatchNormalization(synchronized=True, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    x = keras.layers.Dense(6, activation="relu", name="hidden")(x)
    model = keras.Model(pixels, keras.layers.Dense(3, activation="softmax")(x))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(strategy, name):
    """Return a model that was fitted under a strategy, and its callback."""
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = model_for(OPTIMIZERS[name]())
    told = iter(LEVELS)
    script = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(val_accuracy=next(told))
    )
    pruning = judged(data=(IMAGES, LABELS), criterion=CRITERIA[name])
    model.fit(
        IMAGES,
        LABELS,
        epochs=len(LEVELS),
        batch_size=12,
        shuffle=False,
        validation_data=(IMAGES, LABELS),
        callbacks=[script, pruning],
        verbose=0,
    )
    return model, pruning


def told(model, pruning):
    """Return what a test compares, as JSON knows it."""
    variables = {v.path: v.value for v in [*model.variables, *model.optimizer.variables]}
    values = {path: getattr(v, "values", (v,)) for path, v in variables.items()}
    return {
        "plans": [done.plan.to_dict() for done in pruning.rounds],
        "kept": [done.kept for done in pruning.rounds],
        "neurons": pruning.report.after.neurons,
        "weights": [weights.tolist() for weights in model.get_weights()],
        "kinds": sorted({type(v).__name__ for v in variables.values()}),
        "copies": {path: [copy.numpy().tolist() for copy in v] for path, v in values.items()},
        "predicted": model.predict(IMAGES, verbose=0).tolist(),
        "computed": keras.ops.convert_to_numpy(model(IMAGES)).tolist(),
    }


def main():
    """Fit on one device and on two, and print what came out of it."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    strategies = {
        "one": tf.distribute.get_strategy(),
        "two": tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    }
    print(
        json.dumps(
            {
                name: {key: told(*trained(strategy, name)) for key, strategy in strategies.items()}
                for name in OPTIMIZERS
            }
        )
    )


@pytest.fixture(scope="module")
def found():
    """What came out in a process of its own: devices are set before TensorFlow begins."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("MirroredStrategy belongs to TensorFlow")
    done = subprocess.run(
        [sys.executable, __file__],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=sorted(OPTIMIZERS))
def both(found, request):
    return found[request.param]


def test_two_devices_cut_what_one_device_cuts(both):
    assert both["one"]["kept"] == both["two"]["kept"] == [True, False, True]
    assert both["one"]["plans"] == both["two"]["plans"]
    assert both["one"]["neurons"] == both["two"]["neurons"] == 10


def test_two_devices_train_on_as_one_device_does(both):
    for one, two in zip(both["one"]["weights"], both["two"]["weights"], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-3, atol=1e-5)


def test_every_variable_is_mirrored_and_the_same_on_both_devices(both):
    assert both["two"]["kinds"] == ["MirroredVariable"]
    for path, copies in both["two"]["copies"].items():
        first, second = copies
        assert first == second, path


def test_two_devices_predict_what_the_thin_model_computes(both):
    np.testing.assert_allclose(both["two"]["predicted"], both["two"]["computed"], rtol=1e-5)


if __name__ == "__main__":
    main()
