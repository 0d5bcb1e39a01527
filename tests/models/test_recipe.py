"""The recipe, as a function and as a command: stages, files, and the model that stays."""

import json

import keras
import numpy as np
import pytest
from command_line import call, succeed

import prune_keras
from prune_keras import recipe
from prune_keras.callbacks import ProgressivePruning, QuantizationAware, Teacher
from prune_keras.models.settings import loss_for
from prune_keras.report import Report
from prune_keras.stages import Judged, check_classifier

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (80, 8, 8, 3)).astype("uint8")
LABELS = RNG.integers(0, 4, 80)
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="LiteRT files are written with TensorFlow"
)


def network():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu", name="a"),
            layers.Conv2D(8, 3, activation="relu", name="b"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(4, activation="softmax", name="classes"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def shrunk_to(folder, model, **options):
    data = (IMAGES, LABELS)
    options = {"int8": True, "verbose": 0} | options
    return prune_keras.shrink_to(model, {"neurons": 0.6}, data, data, folder, **options)


@on_tensorflow
def test_stages_are_written_and_told(tmp_path):
    model = network()
    before = [np.array(weight) for weight in model.weights]
    shrunk = shrunk_to(tmp_path, model, epochs=2)
    names = ["dense", "thin", "thin, int8 after training", "thin, int8 aware"]
    assert [stage.name for stage in shrunk.stages] == names
    sizes = [stage.bytes for stage in shrunk.stages]
    assert sizes[0] > sizes[1] and all(stage.milliseconds > 0 for stage in shrunk.stages)
    assert all((tmp_path / stage.file).stat().st_size == stage.bytes for stage in shrunk.stages)
    told = json.loads((tmp_path / "stages.json").read_text())
    assert [stage["name"] for stage in told] == names
    assert Report.load(tmp_path / "report.json") == shrunk.report
    assert {each.name: each.values["bytes"] for each in shrunk.report.outcomes} == {
        stage.name: stage.bytes for stage in shrunk.stages
    }
    assert "<svg" in (tmp_path / "report.html").read_text("utf-8")
    assert all(name in shrunk.render() for name in names)
    read = keras.models.load_model(tmp_path / "thin.keras")
    assert read.get_layer("a").filters + read.get_layer("b").filters <= 10
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


@on_tensorflow
def test_eight_bits_are_learnt_after_a_schedule_that_is_over(tmp_path, monkeypatch):
    model, made = network(), []
    decay = keras.optimizers.schedules.CosineDecay(0.01, 1)
    model.compile(keras.optimizers.Adam(decay), model.loss)
    monkeypatch.setattr(recipe, "_in_eight_bits", lambda model, thin, aware, *_: made.append(aware))
    monkeypatch.setattr(Judged, "interpreted", lambda *_: ())
    features = Teacher("start", features=0.1, layers=["a", "b"])
    shrunk = shrunk_to(tmp_path, model, epochs=2, teacher=features)
    moved = zip(shrunk.model.get_weights(), made[0].get_weights(), strict=True)
    assert float(made[0].optimizer.learning_rate) == pytest.approx(0.001)
    assert all(np.abs(old - new).max() > 1e-4 for old, new in moved)
    kept = keras.models.load_model(tmp_path / "thin.keras").get_weights()
    np.testing.assert_equal(kept, shrunk.model.get_weights())


@on_tensorflow
def test_what_pruning_came_to_is_there_when_eight_bits_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "_in_eight_bits", die)
    monkeypatch.setattr(recipe, "_aware", lambda *_: (None, None))
    with pytest.raises(Killed):
        shrunk_to(tmp_path, network(), epochs=1)
    told = json.loads((tmp_path / "stages.json").read_text())
    assert [each["name"] for each in told] == ["dense", "thin"]
    assert Report.load(tmp_path / "report.json").after.neurons <= 12


@on_tensorflow
def test_what_cannot_be_in_eight_bits_is_refused_before_training(tmp_path):
    given = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="gelu")(given)
    model = keras.Model(given, keras.layers.Dense(2, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    data = RNG.normal(size=(8, 4)), LABELS[:8] % 2
    with pytest.raises(ValueError, match="LiteRT"):
        prune_keras.shrink_to(model, {"neurons": 0.5}, data, data, tmp_path / "new", int8=True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"rounds": 0}, "`rounds` must be"),
        ({"epochs": 0}, "`epochs` must be"),
        ({"data": (IMAGES, LABELS, LABELS)}, "`data` must be inputs and labels.*tuple of 3"),
        ({"validation": IMAGES}, "`validation` must be inputs and labels.*ndarray"),
        (
            {"validation": (IMAGES, LABELS + 1)},
            r"`validation` must be integers in \[0, 4\)",
        ),
        ({"data": (IMAGES, LABELS - 1)}, "`data` must be integers.*-1 among"),
        ({"data": (IMAGES, LABELS + 0.5)}, "`data` must be integers.*type float64"),
        ({"data": (IMAGES, LABELS.astype(str))}, "`data` must be integers.*type <U"),
        ({"data": (IMAGES, np.eye(5)[LABELS])}, r"`data` must be integers.*shape \(80, 5\)"),
        ({"data": (IMAGES, LABELS[:-1])}, "label for each sample.*80 samples and 79 labels"),
    ],
)
def test_what_cannot_be_is_refused_before_training(arguments, match, tmp_path):
    given = {"data": (IMAGES, LABELS), "validation": (IMAGES, LABELS)} | arguments
    with pytest.raises(ValueError, match=match):
        prune_keras.shrink_to(network(), {"neurons": 0.5}, folder=tmp_path / "new", **given)
    assert not (tmp_path / "new").exists()


def test_a_model_of_several_outputs_is_refused_before_training(tmp_path):
    given = keras.Input((4,))
    ends = [keras.layers.Dense(2, activation="softmax")(given) for _ in range(2)]
    model = keras.Model(given, ends)
    model.compile("adam", ["sparse_categorical_crossentropy"] * 2)
    data = np.zeros((8, 4)), [np.zeros(8)] * 2
    with pytest.raises(ValueError, match="one input and one output.*with 1 and 2"):
        prune_keras.shrink_to(model, {"neurons": 0.5}, data, data, tmp_path / "new")
    assert not (tmp_path / "new").exists()


PIXELS = RNG.integers(0, 3, (80, 6, 6))
FITTING = {
    "one-hot": (4, np.eye(4)[LABELS], {}),
    "a column": (4, LABELS[:, None].astype(float), {}),
    "of hinge": (1, 2 * (LABELS % 2) - 1, {}),
    "of one class": (1, LABELS[:, None] > 1, {}),
    "some ignored": (4, np.where(LABELS == 3, -1, LABELS), {"ignore_class": -1}),
}


@pytest.mark.parametrize("of", FITTING)
def test_labels_of_the_classes_are_taken(of):
    units, labels, options = FITTING[of]
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(units))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(**options))
    check_classifier(model, "data", (IMAGES, labels))


def test_labels_that_are_no_numbers_are_of_no_class():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    model.add(keras.layers.Dense(1, activation="sigmoid"))
    model.compile("sgd", "binary_crossentropy")
    for label in (np.nan, 2.0):
        labels = np.full(80, 1.0)
        labels[3] = label
        with pytest.raises(ValueError, match=f"must be 0 or 1.*{label} among"):
            check_classifier(model, "data", (IMAGES, labels))


def test_positions_are_classified_one_by_one():
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(3, 3)])
    model.compile("sgd", "sparse_categorical_crossentropy")
    for labels in (PIXELS, PIXELS[..., None], np.eye(3)[PIXELS]):
        check_classifier(model, "data", (IMAGES, labels))
    with pytest.raises(ValueError, match=r"shape \(80,\)"):
        check_classifier(model, "data", (IMAGES, LABELS % 3))


ONE = {
    "logit": (None, keras.losses.BinaryCrossentropy(from_logits=True)),
    "chance": ("sigmoid", "binary_crossentropy"),
}


@pytest.mark.parametrize("end", ONE)
def test_accuracy_is_that_of_evaluate(end):
    activation, loss = ONE[end]
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, activation=activation)])
    x = RNG.normal(size=(50, 3)).astype("float32")
    metric = keras.metrics.BinaryAccuracy(threshold=0.5 if activation else 0.0)
    model.compile("sgd", loss, metrics=[metric])
    y = (x @ np.array(model.weights[0]) > 0).astype(int)
    y[:10] = 1 - y[:10]
    judged = Judged.of(model, (x, y[:, 0]))
    found = judged.accuracy(model.predict(x, verbose=0), judged.y)
    assert found == pytest.approx(model.evaluate(x, y, verbose=0)[1]) == pytest.approx(0.8)


def test_labels_are_not_taken_for_one_hot():
    labels = np.arange(10)[::-1]
    given = np.eye(10)[labels]
    judged = Judged(given, labels, 0.5)
    assert judged.accuracy(given, labels) == 1
    assert judged.accuracy(given, given) == 1 and judged.accuracy(given, labels[:, None]) == 1


@pytest.mark.parametrize("units", [1, 4])
def test_a_model_that_is_not_compiled_is_shrunk_by_a_command(units, tmp_path):
    last = keras.layers.Dense(units, activation="sigmoid" if units == 1 else None)
    layers = [keras.Input((8, 8, 3)), keras.layers.Conv2D(8, 3, activation="relu")]
    model = keras.Sequential([*layers, keras.layers.GlobalAveragePooling2D(), last])
    file, data = tmp_path / "model.keras", tmp_path / "data.npz"
    model.save(file)
    labels = LABELS % 2 if units == 1 else LABELS
    np.savez(data, x_train=IMAGES, y_train=labels, x_test=IMAGES[:9], y_test=labels[:9])
    folder = tmp_path / "small"
    given = ("--data", data, "--target", "neurons=0.6", "--epochs", 1, "-o", folder)
    assert "thin" in succeed("shrink", file, *given)
    assert loss_for(model).from_logits == (units == 4)


@pytest.mark.slow
@on_tensorflow
def test_commands_write_what_functions_write(tmp_path):
    model, file, data = network(), tmp_path / "model.keras", tmp_path / "data.npz"
    model.fit(IMAGES[:8], LABELS[:8], verbose=0)  # its optimizer has a state, as any trained one
    model.save(file)
    np.savez(data, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:9], y_test=LABELS[:9])
    folder = tmp_path / "small"
    printed = succeed(
        "shrink",
        file,
        "--data",
        data,
        "--target",
        "neurons=0.6",
        "--epochs",
        2,
        "-o",
        folder,
        "--teacher",
        file,
    )
    assert "dense" in printed and (folder / "thin.keras").exists()
    file = folder / "thin.tflite"
    succeed("export", folder / "thin.keras", "-o", file, "--int8", "--data", data)
    assert file.stat().st_size < (folder / "thin.keras").stat().st_size
    assert call("export", folder / "thin.keras", "-o", file, "--int8").exit_code == 2


class Killed(BaseException):
    """Stands for SIGKILL."""


def die(*args, **kwargs):
    raise Killed


def shrunk_weights(folder):
    keras.backend.clear_session()  # as in a process of its own
    keras.utils.set_random_seed(1)
    shrunk = shrunk_to(folder, network(), epochs=3, backup_dir=folder / "backup")
    return shrunk.model.get_weights()


AFTER = {
    "after pruning": (Judged, "kept", 1),
    "at last": (QuantizationAware, "on_epoch_end", 1),
}
DEATHS = {"a round": (ProgressivePruning, "on_epoch_end", 3)} | AFTER


@on_tensorflow
@pytest.mark.parametrize(
    "moment", ["a round", *(pytest.param(each, marks=pytest.mark.slow) for each in AFTER)]
)
def test_a_recipe_that_is_killed_goes_on(moment, tmp_path, monkeypatch):
    whole = shrunk_weights(tmp_path / "whole")
    owner, name, left = DEATHS[moment]
    does = getattr(owner, name)
    calls = iter([does] * (left - 1))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, name, lambda *args, **kwargs: next(calls, die)(*args, **kwargs))
        shrunk_weights(tmp_path / "killed")
    begun = []
    begin = ProgressivePruning.on_epoch_begin
    monkeypatch.setattr(
        ProgressivePruning,
        "on_epoch_begin",
        lambda self, epoch, logs=None: (begun.append(epoch), begin(self, epoch, logs))[1],
    )
    np.testing.assert_equal(shrunk_weights(tmp_path / "killed"), whole)
    assert begun == ([2] if moment == "a round" else [])


def test_a_recipe_needs_a_compiled_model(tmp_path):
    bare = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="must be compiled"):
        prune_keras.shrink_to(bare, {"params": 0.5}, (0, 0), (0, 0), tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


@on_tensorflow
def test_files_of_an_earlier_call_do_not_stay_beside_other_models(tmp_path):
    model = network()
    for name in recipe.LITERT:
        (tmp_path / name).write_bytes(b"of another model")
    (tmp_path / "mine.tflite").write_bytes(b"of the user's")
    shrunk_to(tmp_path, model, epochs=1, int8=False)
    assert [path.name for path in tmp_path.glob("*.tflite")] == ["mine.tflite"]
