"""Every way out of a model that was cut in place: files, exports, checkpoints, copies."""

import copy
import functools
import pickle

import keras
import numpy as np
import pytest
from fits import callback, conv_model, dense_model, fit, neurons

import prune_keras
from prune_keras._keras import build_optimizer

pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
needs_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's own formats"
)


def undone(**arguments):
    """A callback whose only round is taken back, as no epoch can end well enough."""
    return callback(target=None, max_drop=0.001, baseline=1.5, min_fraction=0.2, **arguments)


def cut(model):
    before = neurons(model)
    fit(model, callback())
    assert neurons(model) < before
    return model


def taken_back(model):
    fit(model, epochs=1)
    before = neurons(model)
    pruning = undone()
    fit(model, pruning, epochs=4)
    assert pruning.rounds and neurons(model) == before
    return model


def cut_twice(model):
    fit(cut(model), callback(target={"neurons": 0.7}))
    return model


STAGES = {"cut": cut, "taken back": taken_back, "cut twice": cut_twice}
each_stage = pytest.mark.parametrize("stage", STAGES)


@functools.cache
def model_at(stage):
    keras.utils.set_random_seed(0)
    return STAGES[stage](conv_model())


def samples_for(model):
    return np.random.default_rng(3).normal(size=(5, *model.input_shape[1:])).astype("float32")


def outputs_of(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


# Files of Keras, and copies.


def keras_file(model, path):
    model.save(path / "model.keras")
    return keras.models.load_model(path / "model.keras")


def h5_file(model, path):
    model.save(path / "model.h5", include_optimizer=False)  # else Keras takes it from the model
    return keras.models.load_model(path / "model.h5", compile=False)


def weights_file(model, path):
    model.save_weights(path / "model.weights.h5")
    twin = keras.models.clone_model(model)
    twin.load_weights(path / "model.weights.h5")
    return twin


def weights_back_into_it(model, path):
    expected = model.get_weights()
    model.save_weights(path / "model.weights.h5")
    model.set_weights([np.zeros_like(value) for value in expected])
    model.load_weights(path / "model.weights.h5")
    return model


def pickled(model, path):
    return pickle.loads(pickle.dumps(model))


def copied(model, path):
    return copy.deepcopy(model)


def cloned(model, path):
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


COPIES = {
    f.__name__: f
    for f in (
        keras_file,
        h5_file,
        weights_file,
        weights_back_into_it,
        pickled,
        copied,
        cloned,
    )
}


@pytest.mark.repeats(3)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("way", COPIES)
@each_stage
def test_what_keras_gives_back_is_the_model(stage, way, tmp_path):
    model = model_at(stage)
    x = samples_for(model)
    expected = outputs_of(model, x)
    found = COPIES[way](model, tmp_path)
    np.testing.assert_allclose(outputs_of(found, x), expected, rtol=1e-5, atol=1e-6)


# Formats of TensorFlow.


def saved_model(model, path, x):
    model.export(path / "model", verbose=False)
    import tensorflow as tf

    read = tf.saved_model.load(str(path / "model"))
    return np.array(read.serve(x))


def tensorflows_saved_model(model, path, x):
    import tensorflow as tf

    tf.saved_model.save(model, str(path / "model"))
    read = tf.saved_model.load(str(path / "model"))
    return np.array(*read.signatures["serving_default"](tf.constant(x)).values())


def litert_file(model, path, x):
    model.export(path / "model.tflite", format="litert", verbose=False)
    return _interpreted((path / "model.tflite").read_bytes(), x)


def lite_converter(model, path, x):
    import tensorflow as tf

    return _interpreted(tf.lite.TFLiteConverter.from_keras_model(model).convert(), x)


def _interpreted(content, x):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.resize_tensor_input(0, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def checkpoint(model, path, x):
    import tensorflow as tf

    held = tf.train.Checkpoint(model=model)
    written = held.write(str(path / "checkpoint"))
    variables = [*model.weights, *model.optimizer.variables]
    before = [keras.ops.convert_to_numpy(v.value) for v in variables]
    for variable in variables:
        variable.assign(keras.ops.zeros_like(variable))
    held.read(written).assert_consumed()
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable.value), value)
    return outputs_of(model, x)


EXPORTS = {
    f.__name__: f
    for f in (saved_model, tensorflows_saved_model, litert_file, lite_converter, checkpoint)
}


@pytest.mark.repeats(4)
@needs_tensorflow
@pytest.mark.parametrize("way", EXPORTS)
@each_stage
def test_what_tensorflow_gives_back_is_the_model(stage, way, tmp_path, capfd):
    model = model_at(stage)
    x = samples_for(model)
    expected = outputs_of(model, x)
    found = EXPORTS[way](model, tmp_path, x)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@each_stage
def test_a_cut_model_can_be_quantized(stage):
    model = copy.deepcopy(model_at(stage))
    x = samples_for(model)
    expected = outputs_of(model, x)
    model.quantize("int8")
    np.testing.assert_allclose(outputs_of(model, x), expected, atol=0.1)


# The optimizer, which is written with the model and goes on training.

OPTIMIZERS = {
    "adam, by name": lambda: "adam",
    "adafactor, by name": lambda: "adafactor",
    "muon, by name": lambda: "muon",
    "SGD with momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "AdamW": lambda: keras.optimizers.AdamW(),
    "AdamW with exclusions": lambda: excluding(keras.optimizers.AdamW()),
    "RMSprop": lambda: keras.optimizers.RMSprop(),
    "averages": lambda: keras.optimizers.Adam(use_ema=True),
    "sums of gradients": lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
    "scaled losses": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam()),
}


def shrunk(model):
    graph = prune_keras.trace(model)
    scores = prune_keras.score(model, "l2")
    prune_keras.shrink_in_place(model, prune_keras.select(graph, scores, fraction=0.4))


def excluding(optimizer):
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@pytest.mark.repeats(4)
@needs_tensorflow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_can_be_written_and_trains_on(optimizer, tmp_path):
    model = dense_model((12, 8), OPTIMIZERS[optimizer]())
    model.run_eagerly = True  # which spares tracing
    fit(model, epochs=1)
    shrunk(model)
    checkpoint(model, tmp_path, samples_for(model))
    read = keras_file(model, tmp_path)
    for old, new in zip(model.optimizer.variables, read.optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(old.value), np.asarray(new.value))
    steps = int(model.optimizer.iterations)
    fit(model, epochs=1)
    assert int(model.optimizer.iterations) > steps


@needs_tensorflow
def test_a_checkpoint_that_was_made_before_a_cut_writes_the_thin_model(tmp_path):
    import tensorflow as tf

    model = dense_model()
    build_optimizer(model)
    held = tf.train.Checkpoint(model=model)
    held.write(str(tmp_path / "wide"))
    shrunk(model)
    written = held.write(str(tmp_path / "thin"))
    expected = model.get_weights()
    model.set_weights([np.zeros_like(value) for value in expected])
    held.read(written)
    np.testing.assert_equal(model.get_weights(), expected)
