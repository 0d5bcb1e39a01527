"""Eight bits: what training sees is what the file gives, and nothing of it stays."""

import copy
import json

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import Distillation, ProgressivePruning, QuantizationAware, Teacher
from prune_keras.quantizing import Quantization, calibrate, check_model
from prune_keras.quantizing.grids import activations, converters, range_of, step_of, weights
from prune_keras.quantizing.litert import Interpreted, converted
from prune_keras.quantizing.points import points
from prune_keras.quantizing.writing import _unseen

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype("float32")
LABELS = np.random.default_rng(1).integers(0, 4, 64)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT files are written with TensorFlow"
)


def residual():
    """Pixels, padded shortcuts, and all that is folded into convolutions."""
    layers = keras.layers
    pixels = keras.Input((8, 8, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(pixels)
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = kept = layers.ReLU(name="stem_relu")(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="a")(x)
    x = layers.BatchNormalization(name="a_norm")(x)
    kept = keras.ops.pad(kept[:, ::2, ::2, :], [[0, 0], [0, 0], [0, 0], [1, 1]])
    x = layers.ReLU(name="end")(layers.Add(name="add")([x, kept]))
    x = layers.DepthwiseConv2D(3, activation="relu6", name="depthwise")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, layers.Dense(4, activation="softmax", name="classes")(x))


def stack():
    layers = keras.layers
    base_in = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, activation="relu", name="a")(base_in)
    base = keras.Model(base_in, layers.AveragePooling2D(2, name="mean")(x), name="base")
    pixels = keras.Input((8, 8, 3))
    x = layers.Flatten(name="flat")(base(layers.Rescaling(1 / 255, name="rescaling")(pixels)))
    x = layers.Dropout(0.2)(layers.Dense(8, activation="relu", name="hidden")(x))
    return keras.Model(pixels, layers.Dense(4, name="logits")(x))


def trained_a_little(make, seed=0):
    """Return a compiled model whose statistics and scales are not those of a fresh one."""
    model, rng = make(), np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]
            layer.gamma.assign(rng.uniform(-1, 1.5, width))
            layer.moving_mean.assign(rng.normal(0, 0.1, width))
            layer.moving_variance.assign(rng.uniform(0.5, 2, width))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=make is stack)
    model.compile(keras.optimizers.SGD(0.01), loss, metrics=["accuracy"])
    return model


def is_clean(model):
    every = [model, *model._flatten_layers(include_self=False)]
    return not any({"call", "train_step", "test_step"} & {*vars(each)} for each in every)


def on_grid(kernel):
    found = weights(keras.ops.convert_to_tensor(kernel), (0, 1, 2))
    return keras.ops.convert_to_numpy(found)


def test_kernels_lie_on_a_grid_for_each_output_channel():
    kernel = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")
    kernel[..., 2] = 0
    found = on_grid(kernel)
    step = np.abs(kernel).max((0, 1, 2)) / 127
    assert (found[..., 2] == 0).all()
    np.testing.assert_allclose(found, np.round(kernel / (step + (step == 0))) * step, atol=1e-6)
    np.testing.assert_allclose(on_grid(found), found, atol=1e-7)


def test_gradients_are_those_of_what_was_not_rounded():
    from prune_keras import _backend

    times = np.arange(5, dtype="float32")[None]
    factor = keras.ops.convert_to_tensor(times)
    x = keras.ops.convert_to_tensor(np.array([[-2.0, -0.3, 0.4, 0.9, 3.0]], "float32"))
    of_kernel = _backend.gradients(
        lambda v: keras.ops.sum(weights(v["x"], (0,)) * factor), {"x": x}
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(of_kernel["x"]), times, rtol=1e-6)
    slope = _backend.gradients(lambda v: keras.ops.sum(activations(v["x"], (-1.0, 1.0))), {"x": x})[
        "x"
    ]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(slope), [[0, 1, 1, 1, 0]])


@on_tensorflow
@pytest.mark.parametrize("within", [(0.0, 255.0), (-1.37, 2.11), (0.0, 0.3), (-5.0, 0.0)])
def test_the_grid_is_the_converters(within):
    x = np.linspace(-7, 7, 4001, dtype="float32") * max(abs(end) for end in within) / 6
    step = step_of(within)
    apart = np.abs(np.array(activations(x, within)) - np.array(converters(x, within)))
    assert (apart > 1e-3 * step).mean() < 1e-3 and apart.max() < 1.01 * step  # but for halves


def test_zero_is_on_every_grid():
    for ends in [(0.3, 2.0), (-5.0, -1.0), (0.0, 0.0), (-1.37, 2.11)]:
        within = range_of(*ends)
        assert within[0] <= 0 <= within[1] and step_of(within) > 0
        assert float(activations(np.zeros((1,), "float32"), within)[0]) == 0


def test_what_is_folded_is_rounded_once():
    rounds = {point.key: point.rounds for point in points(residual())}
    assert [key for key, rounded in rounds.items() if rounded] == [
        "rescaling",
        "stem_relu",
        "a_norm",
        "end",
        "depthwise",
        "pool",
        "classes",
    ]
    grids = {point.key: point.reads for point in points(stack())}
    assert grids["base/mean"] == "base/a" and grids["flat"] == "base/a"


@on_tensorflow
@pytest.mark.parametrize("make", [residual, stack])
def test_a_file_gives_what_training_saw(make, tmp_path):
    """From one fit: the last validation, the file's own numbers, and a model that stays clean."""
    model = trained_a_little(make)
    aware = QuantizationAware(data=IMAGES)
    history = model.fit(
        IMAGES, LABELS, validation_data=(IMAGES, LABELS), epochs=2, callbacks=[aware], verbose=0
    )
    assert is_clean(model)
    path = prune_keras.export(model, tmp_path / "model.tflite", IMAGES, int8=aware.quantization)
    found = Interpreted(path.read_bytes())
    given = found(IMAGES)
    with aware.quantization.running(model):
        expected = np.array(model(IMAGES, training=False))
    steps = np.abs(given - expected) / found.output_step
    assert np.mean(steps > 1.01) <= 0.02 and steps.max() <= 3
    right = float(np.mean(given.argmax(-1) == LABELS))
    assert right == pytest.approx(history.history["val_accuracy"][-1], abs=0.04)
    assert is_clean(model)


@on_tensorflow
def test_all_of_a_file_is_in_eight_bits_by_channel():
    import tensorflow as tf

    model = trained_a_little(residual)
    content = converted(model, calibrate(model, IMAGES))
    with pytest.warns(UserWarning, match="deprecated"):
        run = tf.lite.Interpreter(model_content=content)
    run.allocate_tensors()
    kinds = {details["dtype"] for details in run.get_tensor_details()}
    assert np.float32 not in kinds
    scales = [len(each["quantization_parameters"]["scales"]) for each in run.get_tensor_details()]
    assert {6, 8, 4} <= {*scales}
    assert len(content) < 12_000


@on_tensorflow
def test_files_of_any_model_from_samples_and_in_floating_point(tmp_path):
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="swish", name="a")(pixels)
    model = keras.Model(pixels, keras.layers.Dense(2)(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match="with activation=silu"):
        calibrate(model, IMAGES)
    path = prune_keras.export(model, tmp_path / "float.tflite")
    np.testing.assert_allclose(
        Interpreted(path.read_bytes())(IMAGES[:4]), model(IMAGES[:4]), rtol=1e-3, atol=1e-2
    )
    path = prune_keras.export(model, tmp_path / "eight.tflite", int8=IMAGES)
    found = Interpreted(path.read_bytes())
    spread = float(np.ptp(np.array(model(IMAGES))))
    assert found.output_step and np.abs(found(IMAGES[:8]) - model(IMAGES[:8])).max() < spread / 10


def of_bytes():
    pixels = keras.Input((8, 8, 3), dtype="uint8", name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, name="rescaling")(pixels)
    x = keras.layers.Conv2D(6, 3, activation="relu", name="a")(x)
    return keras.Model(pixels, keras.layers.Dense(4)(keras.layers.Flatten()(x)))


@on_tensorflow
@pytest.mark.parametrize("samples", [None, IMAGES])
def test_files_of_models_that_are_given_bytes_are_from_samples(samples, tmp_path):
    model = of_bytes()
    path = prune_keras.export(model, tmp_path / "bytes.tflite", samples, int8=IMAGES)
    expected = np.array(model(IMAGES.astype("uint8")))
    missed = np.abs(Interpreted(path.read_bytes())(IMAGES.astype("uint8")) - expected)
    assert missed.mean() < 0.05 * expected.std()


@on_tensorflow
@pytest.mark.parametrize("is_compared", [False, True])
def test_samples_that_are_read_once_are_all_looked_at(is_compared, tmp_path):
    model, parts = trained_a_little(stack), [(IMAGES[:32],), (IMAGES[32:] / 2,)]
    files = []
    for int8 in (parts, iter(parts)):
        samples = int8 if is_compared else None
        path = prune_keras.export(model, tmp_path / "model.tflite", samples, int8=int8)
        files.append(path.read_bytes())
    assert files[0] == files[1]


@on_tensorflow
@pytest.mark.parametrize("make", [residual, stack])
@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_a_file_of_grids_for_other_samples_is_refused(make, scale, tmp_path):
    model = trained_a_little(make)
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"outputs that are \S+ off where .* scaled as those"):
        prune_keras.export(model, path, IMAGES, int8=IMAGES * scale)
    assert not path.exists()
    assert prune_keras.export(model, path, IMAGES, int8=IMAGES).exists()


def test_outputs_may_be_as_far_apart_as_their_grid_holds_them_alike():
    y = np.array([999.0, 1000.0])
    assert _unseen(y, 1000 / 255) == pytest.approx(2000 / 255)
    assert _unseen(y, 255 * 1000 / 255) == 1000 / 16  # a grid for outputs 255 times as large
    assert _unseen(np.array([0.001, 0.002]), 1 / 256) == 2 / 256  # that of each softmax


@on_tensorflow
def test_validation_sees_what_is_rounded_and_nothing_else_does():
    """With a last batch of another size, for which the steps are made anew in mid-epoch."""
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    hidden = keras.layers.Dense(8, activation="relu", name="hidden")
    model = keras.Sequential([keras.Input((4,)), hidden, keras.layers.Dense(2, name="last")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    aware = QuantizationAware(data=x)
    given = {"validation_data": (x, x[:, :2]), "epochs": 2, "verbose": 0}
    seen = model.fit(x, x[:, :2], callbacks=[aware], **given).history["val_loss"][-1]
    with aware.quantization.running(model):
        rounded = np.mean((keras.ops.convert_to_numpy(model(x)) - x[:, :2]) ** 2)
    assert seen == pytest.approx(rounded, rel=1e-5)
    assert abs(seen - model.evaluate(x, x[:, :2], verbose=0)) > 1e-4 * seen


def test_a_pruned_model_stays_as_thin(tmp_path):
    model = trained_a_little(stack)
    pruning = ProgressivePruning(target={"neurons": 0.6}, fraction=0.5, verbose=0)
    model.fit(IMAGES, LABELS, epochs=2, callbacks=[pruning], verbose=0)
    widths = prune_keras.trace(model).widths
    aware = QuantizationAware(IMAGES)
    taught = Distillation(Teacher("start", logits=0.5, features=0.5))
    model.fit(IMAGES, LABELS, callbacks=[aware, taught], verbose=0)
    assert prune_keras.trace(model).widths == widths and is_clean(model)
    if keras.backend.backend() == "tensorflow":
        prune_keras.export(model, tmp_path / "model.tflite", int8=aware.quantization)


def test_grids_are_written_and_read(tmp_path):
    held = calibrate(trained_a_little(stack), IMAGES)
    held.save(tmp_path / "grids.json")
    assert Quantization.load(tmp_path / "grids.json") == held
    assert json.loads((tmp_path / "grids.json").read_text())[""] == [0.0, 255.0]


class Failing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


def test_a_fit_that_fails_leaves_nothing():
    model = trained_a_little(stack)
    with pytest.raises(KeyboardInterrupt):
        model.fit(IMAGES, LABELS, callbacks=[Failing(), QuantizationAware(IMAGES)], verbose=0)
    assert is_clean(model)


def test_a_copy_shares_its_samples():
    aware = QuantizationAware(IMAGES)
    assert copy.deepcopy(aware).data is IMAGES


def dense(dtype="float32", activation=None, name="a"):
    layer = keras.layers.Dense(2, activation, name=name, dtype=dtype)
    return keras.Sequential([keras.Input((4,)), layer])


NOT_KNOWN = {
    "must be given floats.*'pixels'.*uint8": of_bytes,
    "compute in float32.*'a'.*float16": lambda: dense("mixed_float16"),
    "compute in float32.*'a'.*bfloat16": lambda: dense("mixed_bfloat16"),
    "'a' of type Dense with activation=gelu": lambda: dense(activation="gelu"),
}


@pytest.mark.parametrize("match", NOT_KNOWN)
def test_models_that_eight_bits_do_not_hold_are_refused_before_training(match):
    model = NOT_KNOWN[match]()
    x = np.ones((4, *model.input_shape[1:]))
    with pytest.raises(ValueError, match=match):
        calibrate(model, x)
    model.compile("sgd", "mse")
    before = [np.array(weight) for weight in model.weights]
    with pytest.raises(ValueError, match=match):
        y = np.ones((4, *model.output_shape[1:]))
        model.fit(x, y, callbacks=[QuantizationAware(x)], verbose=0)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match=match):
            check_model(model)


@on_tensorflow
def test_what_eight_bits_hold_passes_unrun(tmp_path):
    assert check_model(residual()) is None
    with pytest.raises(ValueError, match="compute in float32"):
        prune_keras.export(dense("mixed_float16"), tmp_path / "a.tflite", int8=np.ones((4, 4)))


def test_grids_of_another_model_are_refused():
    other, x = calibrate(dense(name="b"), np.ones((4, 4))), np.ones((4, 4))
    match = r"ranges of \['', 'b'\].*needs \['a'\]"
    with pytest.raises(ValueError, match=match), other.running(dense()):
        pass
    soft = dense(activation="softmax")
    with (
        pytest.raises(ValueError, match="needs .'a:response'"),
        calibrate(dense(), x).running(soft),
    ):
        pass
    for make in (residual, stack, lambda: soft):
        shape = make().input_shape[1:]
        with calibrate(make(), np.ones((4, *shape))).running(make()):
            pass


def test_what_cannot_be_is_refused(tmp_path):
    model = trained_a_little(stack)
    with pytest.raises(ValueError, match="Eight bits are held by .tflite"):
        prune_keras.export(model, tmp_path / "model.keras", int8=IMAGES)
    pruning = ProgressivePruning(target={"neurons": 0.6}, verbose=0)
    with pytest.raises(ValueError, match="another one after it"):
        model.fit(IMAGES, LABELS, callbacks=[pruning, QuantizationAware(IMAGES)], verbose=0)
    pixels = keras.Input((8, 8, 3))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization(name="first")(pixels))
    before = keras.Model(pixels, keras.layers.Conv2D(2, 3)(x))
    with pytest.raises(ValueError, match="'first' of type BatchNormalization"):
        points(before)
    open_ended = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(2)])
    if keras.backend.backend() == "tensorflow":
        with pytest.raises(ValueError, match="one input of a known shape"):
            prune_keras.export(open_ended, tmp_path / "model.tflite", int8=np.ones((4, 3, 4)))
