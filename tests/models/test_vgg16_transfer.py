"""VGG-16 for cats and dogs: the network, its weights, and whole runs on few generated photos."""

import csv
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from command_line import call, succeed
from generated_photos import write_photos

import prune_keras
from prune_keras.models import photos, runs, vgg16, vgg16_transfer

pytest.importorskip("tensorflow")  # with which Keras reads folders of images

RANDOM = np.random.default_rng(0)
SMALL = {"image_size": 32, "width": 0.125, "units": 32}


@pytest.mark.parametrize("nested", [True, False])
def test_it_computes_what_keras_vgg16_computes(nested, tmp_path):
    original = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    original.save_weights(tmp_path / "vgg16.weights.h5")
    model = vgg16.build(32, nested=nested, units=8, weights=tmp_path / "vgg16.weights.h5")
    pixels = RANDOM.integers(0, 256, (2, 32, 32, 3)).astype("float32")
    prepared = keras.applications.vgg16.preprocess_input(pixels.copy())
    base = keras.Model(model.inputs[0], model.get_layer("flatten").input)
    expected = keras.ops.convert_to_numpy(original(prepared))
    np.testing.assert_allclose(base(pixels), expected, atol=1e-5 * expected.max())
    assert ("vgg16" in [layer.name for layer in model.layers]) == nested


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("head", vgg16.HEADS)
def test_every_head_can_be_cut(head, outputs):
    model = vgg16.build(head=head, outputs=outputs, batch_norm=True, **SMALL)
    thin, report = prune_keras.prune(model, target={"params": 0.5})
    assert thin.output_shape == (None, outputs)
    assert {"vgg16/block5_conv3", "hidden"} <= set(report.widths)
    assert report.after.params <= report.before.params / 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: vgg16.build(head="mean"), "flatten, average, max. Received: head='mean'"),
        (lambda: vgg16.build(outputs=3), "Received: outputs=3"),
        (lambda: vgg16.build(weights="none.h5"), "'imagenet' or a file. Received: .*none.h5"),
    ],
)
def test_what_is_not_there_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_weights_that_do_not_fit_are_named(tmp_path):
    file = tmp_path / "vgg16.weights.h5"
    keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(
        file
    )
    with pytest.raises(ValueError, match="must fit the network. Received: .*block1_conv1"):
        vgg16.build(weights=file, **SMALL)
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(ValueError, match="within reach. Received: .*text.h5.*--weights FILE"):
        vgg16.build(weights=tmp_path / "text.h5", **SMALL)


def test_a_download_that_fails_says_what_to_get(monkeypatch):
    def no_network(*args, **kwargs):
        raise Exception("URL fetch failure: None -- no route to host")  # noqa: TRY002, as Keras does

    monkeypatch.setattr(keras.applications, "VGG16", no_network)
    with pytest.raises(ValueError, match="no route to host.*vgg16_weights.*notop.h5.*--weights"):
        vgg16.build(weights="imagenet", **SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The command's run on 64 photos of 32x32 and VGG-16 of an eighth of its width."""
    folder = tmp_path_factory.mktemp("run")
    data = write_photos(folder / "photos")
    arguments = {"--data": data, "--weights": "none", "--width": 0.125, "--image-size": 32}
    arguments |= {"--epochs": 4, "--dense-epochs": 1, "--fraction": 0.3, "--max-drop": 0.5}
    arguments |= {"--precision": "float32", "--batch-size": 16, "--round-to": 2}
    flat = [text for pair in arguments.items() for text in pair]
    text = succeed("cats-vs-dogs", *flat, "--no-measure", "--output", folder / "out")
    return text, folder / "out", data


def test_the_run_ends_thinner_above_its_floor_and_exported(finished):
    text, folder, data = finished
    with open(folder / "results.csv", newline="") as file:
        dense, pruned = csv.DictReader(file)
    assert int(pruned["params"]) < 0.8 * int(dense["params"])
    assert int(pruned["flops"]) < int(dense["flops"])
    assert float(pruned["val_accuracy"]) >= float(dense["val_accuracy"]) - 0.5
    for suffix in ("h5", "keras"):
        thin = keras.models.load_model(folder / f"pruned.{suffix}", compile=False)
        assert thin.count_params() == int(pruned["params"])
    widths = json.loads((folder / "plan.json").read_text())
    assert thin.get_layer("vgg16").get_layer("block5_conv3").filters == len(
        widths["kept"]["vgg16/block5_conv3"]
    )
    assert {"head.csv", "history.csv", "rounds.json", "widths.png"} <= {
        path.name for path in folder.iterdir()
    }
    assert "Test images, pruned less dense:" in text


def test_the_exported_h5_needs_no_prune_keras(finished):
    _, folder, data = finished
    pixels = photos.load_data(data, 32).test[0].astype("float32")
    np.save(folder / "pixels.npy", pixels)
    code = (
        "import sys; sys.modules['prune_keras'] = None\n"
        "import keras, numpy as np\n"
        "model = keras.models.load_model('pruned.h5', compile=False)\n"
        "np.save('outputs.npy', model.predict(np.load('pixels.npy'), verbose=0))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    model = keras.models.load_model(folder / "pruned.keras", compile=False)
    expected = model.predict(pixels, verbose=0)
    np.testing.assert_allclose(np.load(folder / "outputs.npy"), expected, atol=1e-5)


@pytest.mark.slow
def test_a_finished_network_is_not_made_again(finished, monkeypatch):
    _, folder, data = finished
    stored = json.loads((folder / "settings.json").read_text())
    before = (folder / "pruned.keras").stat().st_mtime_ns
    monkeypatch.setattr(runs, "fit", None)
    runs.run(None, photos.load_data(data, 32), runs.Settings(**stored), folder)
    assert (folder / "pruned.keras").stat().st_mtime_ns == before


def test_only_the_head_learns_at_first(tmp_path):
    data = photos.load_data(write_photos(tmp_path, {part: 16 for part in photos.PARTS}), 32)
    model = vgg16.build(**SMALL)
    before = [layer.get_weights()[0] for layer in vgg16.convolutions(model).values()]
    chosen = vgg16_transfer.settings(precision="float32", verbose=0)
    runs.compile_model(model, chosen, 0.0, 1)
    start = model.evaluate(*data.train, verbose=0)[0]
    vgg16_transfer.train_head(model, data, chosen, 10, tmp_path / "head.csv")
    for layer, kernel in zip(vgg16.convolutions(model).values(), before, strict=True):
        np.testing.assert_array_equal(layer.get_weights()[0], kernel)
    assert model.evaluate(*data.train, verbose=0)[0] < start


def test_the_command_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("PRUNE_KERAS_DATA", raising=False)
    result = call("cats-vs-dogs", "--output", tmp_path / "out")
    assert result.exit_code == 2 and "must lie in a folder. Received: none" in result.stderr
    data = write_photos(tmp_path / "photos", {part: 2 for part in photos.PARTS})
    result = call("cats-vs-dogs", "--data", data, "--weights", tmp_path / "missing.h5",
                  "--output", tmp_path / "out")  # fmt: skip
    assert result.exit_code == 2 and "missing.h5" in result.stderr


@pytest.mark.slow
@pytest.mark.data
def test_real_photos_lose_half_the_flops_and_the_files_predict_the_same(real_data, tmp_path):
    """A short run at 64x64; docs and results have the long one."""
    weights = real_data / "vgg16_notop.h5"
    succeed("cats-vs-dogs", "--data", real_data / "cats_vs_dogs", "--weights", weights,
            "--image-size", 64, "--dense-epochs", 2, "--epochs", 3, "--target", "flops=0.5",
            "--max-drop", 0.05, "--no-measure", "--output", tmp_path)  # fmt: skip
    with open(tmp_path / "results.csv", newline="") as file:
        dense, pruned = csv.DictReader(file)
    assert int(pruned["flops"]) < 0.75 * int(dense["flops"])
    assert float(pruned["val_accuracy"]) >= float(dense["val_accuracy"]) - 0.05
    assert float(pruned["test_accuracy"]) > 0.65
    pixels = photos.load_data(real_data / "cats_vs_dogs", 64).test[0][:100]
    one, other = (
        keras.models.load_model(tmp_path / f"pruned.{s}", compile=False).predict(pixels, verbose=0)
        for s in ("h5", "keras")
    )
    np.testing.assert_allclose(one, other, atol=1e-2)
