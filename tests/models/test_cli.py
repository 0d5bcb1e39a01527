"""The command line on small models: what it prints and writes, and how it says no."""

import csv
import json
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from command_line import call, small_model, succeed

import prune_keras
from prune_keras import cli
from prune_keras.callbacks import ProgressivePruning
from prune_keras.cli import console
from prune_keras.models import vgg16_transfer

RANDOM = np.random.default_rng(0)


@pytest.fixture
def file(tmp_path):
    small_model().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_help_names_the_commands():
    text = succeed("--help")
    commands = ("demo", "cifar10", "cats-vs-dogs", "compare", "prune", "inspect", "invert")
    assert all(command in text for command in commands)


def test_help_is_there_without_keras():
    """Keras and a backend take seconds to import; who asks for help must not wait."""
    code = (
        "import sys; sys.modules['keras'] = None; from prune_keras import cli; cli.app(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "inspect" in done.stdout


def test_prune_meets_the_target_and_writes_a_plain_model(file, tmp_path):
    text = succeed("prune", file, "--target", "params=0.5", "--output", tmp_path / "thin.h5")
    thin = keras.models.load_model(tmp_path / "thin.h5", compile=False)
    whole = keras.models.load_model(file, compile=False)
    assert thin.count_params() <= whole.count_params() / 2
    expected, _ = prune_keras.prune(whole, target={"params": 0.5})
    pixels = RANDOM.normal(size=(3, 4, 4, 3))
    found, wanted = (keras.ops.convert_to_numpy(each(pixels)) for each in (thin, expected))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert "head/hidden" in text


def test_a_metric_has_one_target():
    with pytest.raises(ValueError, match=r"one target\. Received: --target flops=0.9 --target f"):
        cli.parse_targets(["flops=0.9", "flops=0.3"])


def test_prune_takes_several_targets_and_limits(file, tmp_path):
    targets = ("--target", "params=0.6", "--target", "neurons=0.7")
    succeed("prune", file, *targets, "--exclude", "conv", "-o", tmp_path / "thin.keras")
    thin = keras.models.load_model(tmp_path / "thin.keras", compile=False)
    before, after = (
        prune_keras.cost(keras.models.load_model(f, compile=False))
        for f in (file, tmp_path / "thin.keras")
    )
    assert thin.get_layer("conv").filters == 6
    assert after.params <= 0.6 * before.params and after.neurons <= 0.7 * before.neurons


@pytest.mark.parametrize(
    ("with_targets", "options", "scores"),
    [
        (True, (), "obs, fused sequential"),
        (False, (), "reconstruction, fused sequential"),
        (True, ("--criterion", "apoz", "--fuse", "none"), "apoz"),
    ],
)
def test_prune_scores_with_the_samples_of_a_file(tmp_path, with_targets, options, scores):
    model = small_model()
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    arrays = {"x_train": RANDOM.normal(size=(5000, 4, 4, 3))}
    arrays |= {"y_train": RANDOM.integers(0, 4, 5000)} if with_targets else {}
    np.savez(tmp_path / "samples.npz", **arrays)
    data = ("--data", tmp_path / "samples.npz")
    text = succeed(
        *("prune", tmp_path / "model.keras", "--target", "params=0.5"),
        *(*data, *options, "-o", tmp_path / "thin.keras"),
    )
    assert f"scores: {scores}\n" in text


def test_samples_that_are_not_there_are_named(file, tmp_path):
    np.savez(tmp_path / "other.npz", images=np.ones(3))
    for name in ("other.npz", "missing.npz"):
        options = ("--target", "params=0.5", "-o", tmp_path / "thin.keras")
        result = call("prune", file, "--data", tmp_path / name, *options)
        assert result.exit_code == 2
        assert re.search(rf"x_train.*{name}", result.stderr, re.DOTALL)


def test_a_file_that_keras_cannot_read_is_told_apart_from_one_that_is_missing(tmp_path):
    (tmp_path / "text.keras").write_text("no model")
    options = ("--fraction", "0.5", "-o", tmp_path / "thin.keras")
    missing = call("prune", tmp_path / "nowhere.keras", *options)
    text = call("prune", tmp_path / "text.keras", *options)
    assert missing.exit_code == text.exit_code == 2
    assert "nowhere.keras', which is not there. Name" in missing.stderr
    assert "is not there" not in text.stderr and "File not found" not in text.stderr
    assert "a class of your own" in text.stderr


@pytest.mark.parametrize("drop", ["1", "5", "-0.01"])
def test_a_drop_in_percent_is_refused(tmp_path, drop):
    result = call("demo", "--max-drop", drop, "-o", tmp_path / "demo")
    assert result.exit_code == 2 and not (tmp_path / "demo").exists()
    assert re.search(r"'--max-drop'.*0\.01 for one point", result.stderr, re.DOTALL)


def test_a_target_in_percent_is_answered_with_a_share(file, tmp_path):
    result = call("prune", file, "--target", "params=50%", "-o", tmp_path / "thin.keras")
    assert result.exit_code == 2 and "Write, say, --target params=0.5" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "params"], "A target must be .* Received: --target params"),
        (["--target", "params=half"], "Received: --target params=half"),
        (["--target", "size=0.5"], "size"),
        (["--target", "params=1.5"], "1.5"),
        (["--target", "params=0.5", "--criterion", "l3"], "l1.*'l3'"),
        (["--target", "params=0.5", "--criterion", "taylor"], "data"),
        (["--target", "params=0.5", "--fuse", "weights"], "Fusing looks at samples"),
        (["--target", "params=0.5", "--fuse", "kernel"], "fuse='kernel'"),
        (["--target", "params=0.5", "--exclude", "convolution"], "convolution"),
        (["--target", "params=0.5", "--input-shape", "4,x"], "Received: --input-shape 4,x"),
        ([], "target"),
    ],
)
def test_mistakes_end_in_one_message(file, tmp_path, arguments, message):
    result = call("prune", file, "-o", tmp_path / "thin.keras", *arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")
    assert re.search(message, result.stderr, re.DOTALL)
    assert not (tmp_path / "thin.keras").exists()


def test_files_that_no_format_can_hold_are_named(tmp_path):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(6, name="hidden")(inputs)
    outputs = keras.layers.Dense(2)(keras.ops.pad(x, [[0, 0], [0, 2]]))
    keras.Model(inputs, outputs).save(tmp_path / "raw.keras")
    result = call("prune", tmp_path / "raw.keras", "--fraction", "0.5", "-o", tmp_path / "thin.h5")
    assert result.exit_code == 2 and ".keras" in result.stderr
    assert not (tmp_path / "thin.h5").exists()


def test_missing_files_are_named(tmp_path):
    for command in ("inspect", "prune"):
        more = ["--target", "params=0.5", "-o", "x.keras"] if command == "prune" else []
        result = call(command, tmp_path / "missing.keras", *more)
        assert result.exit_code == 2 and "missing.keras" in result.stderr
    result = call("cifar10", "--data", tmp_path / "missing.npz", "--output", tmp_path / "run")
    assert result.exit_code == 2 and "missing.npz" in result.stderr


@pytest.mark.parametrize("text", ["cubic", "cubic:half", "linear:3", "one-shot:2", "geometric:0.5"])
def test_a_schedule_that_is_none_is_named(text):
    result = call("cifar10", "--schedule", text)
    assert result.exit_code == 2 and f"Received: --schedule {text}. Write" in result.stderr


def test_photos_take_a_schedule_and_batches_in_place_of_what_the_run_has(monkeypatch):
    given = []
    monkeypatch.setattr(vgg16_transfer, "run", lambda output, **options: given.append(options))
    monkeypatch.setattr(console, "show_run", lambda result, output: None)
    succeed("cats-vs-dogs", "--schedule", "one-shot", "--batches-per-round", 5, "--fuse", "none")
    (pruning,) = (options["pruning"] for options in given)
    chosen = vgg16_transfer.settings(pruning=pruning).pruning
    assert chosen["schedule"] == {"name": "one-shot"} and chosen["fuse"] is None
    assert chosen["batches_per_round"] == 5 and chosen["max_epochs_per_round"] is None
    chosen |= {"target": {"params": 0.5}, "schedule": prune_keras.schedules.get(chosen["schedule"])}
    ProgressivePruning(**chosen, data=(np.ones((2, 4)), np.ones(2)))


def test_demo_trains_prunes_and_exports(tmp_path, monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setenv("COLUMNS", "160")
    folder = tmp_path / "demo"
    arguments = ("--dense-epochs", 2, "--epochs", 3, "--max-drop", 0.5)
    text = succeed("demo", "--output", folder, *arguments)
    with open(folder / "widths.csv", newline="") as stream:
        widths = {row["layer"]: row for row in csv.DictReader(stream)}
    for suffix in ("h5", "keras"):
        thin = keras.models.load_model(folder / f"pruned.{suffix}", compile=False)
        assert thin.get_layer("conv4").filters == int(widths["conv4"]["after"])
    assert sum(int(row["after"]) for row in widths.values()) < 240
    assert (folder / "history.png").stat().st_size > 0 and "test accuracy" in text
    phases = (
        "Training the dense network: epochs 1 to 2",
        "Pruning while it trains on: epochs 1 to 3",
    )
    assert all(phase in text for phase in phases)


def test_cifar10_prunes_a_network_from_a_file(file, tmp_path):
    pixels = RANDOM.integers(0, 256, (60, 4, 4, 3)).astype("uint8")
    labels = RANDOM.integers(0, 4, 60)
    data = tmp_path / "data.npz"
    np.savez(data, x_train=pixels, y_train=labels, x_test=pixels, y_test=labels)
    folder = tmp_path / "run"
    arguments = (
        "--epochs",
        2,
        "--fine-tune-epochs",
        1,
        "--target",
        "neurons=0.8",
        "--seed",
        3,
        "--schedule",
        "geometric:2",
        "--batches-per-round",
        1,
        "--batch-size",
        20,
        "--keep-rounds",
    )
    succeed("cifar10", "--data", data, "--model", file, "--output", folder, *arguments)
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["seed"] == 3 and settings["optimizer"] == "sgd"
    assert settings["pruning"]["schedule"] == {"name": "geometric", "rounds": 2}
    rounds = json.loads((folder / "rounds.json").read_text())
    assert [(done["epoch"], done["batch"]) for done in rounds] == [(0, 0), (0, 1)]
    assert prune_keras.frontier.read(folder / "rounds")[-1].load().get_layer("conv")
    assert (
        "scores: mean(taylor, reconstruction), fused weights" in (folder / "report.txt").read_text()
    )
    thin = keras.models.load_model(folder / "pruned.keras", compile=False)
    assert prune_keras.cost(thin).neurons <= 0.8 * prune_keras.cost(small_model()).neurons
