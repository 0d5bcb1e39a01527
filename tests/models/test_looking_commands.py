"""Commands that look at models: what they show on which screen, and how every command ends."""

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys

import keras
import numpy as np
import pytest
from command_line import call, small_model, succeed
from keras import layers

import prune_keras
from prune_keras import Report, cli
from prune_keras.cli import console, difference
from prune_keras.models import digits

RANDOM = np.random.default_rng(0)


@pytest.fixture
def file(tmp_path):
    small_model().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def test_inspect_adds_up(file):
    found = json.loads(succeed("inspect", file, "--json"))
    cost = prune_keras.cost(small_model())
    assert found["cost"] == dataclasses.asdict(cost) and found["neurons"] == cost.neurons
    names = [row["layer"] for row in found["layers"]]
    assert names == ["conv", "norm", "head/hidden", "classes"]
    assert sum(row["parameters"] for row in found["layers"]) == cost.params
    assert sum(row["FLOPs"] for row in found["layers"]) == cost.flops
    text = succeed("inspect", file)
    assert f"{cost.params:,} parameters, {cost.flops:,} FLOPs, {cost.neurons} neurons" in text
    assert text.startswith(f"small: {found['reached']:.1%} of the parameters can be reached")
    assert "Cannot be pruned: classes: 4 units are fixed: they are an output of the model" in text


def test_inspect_shows_layers_without_units_and_families_that_span_layers_as_such(tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="first")(inputs)
    y = layers.Dense(6, name="second")(layers.BatchNormalization(name="norm")(x))
    outputs = layers.Dense(2, name="last")(layers.Dense(3, name="alone")(layers.Add()([x, y])))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    text, whole = (succeed("inspect", tmp_path / "model.keras", *more) for more in ((), ("--all",)))
    assert "norm" not in text and "BatchNormalization" in whole
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()}
    assert rows["second"][:5] == ["second", "Dense", "6", "6", "first"]
    joined = text.split("Families that span layers")[1]
    assert "first, second" in joined and "alone" not in joined


def narrow(monkeypatch, width):
    monkeypatch.setattr(console, "_screen_width", lambda: width)


@pytest.mark.parametrize("width", [20, 80, console._WIDE])
def test_names_are_whole_on_screens_of_any_width(width, tmp_path, monkeypatch):
    narrow(monkeypatch, width)
    name = "a_name_of_forty_letters_that_is_on_one_line"
    inputs = keras.Input((4,))
    outputs = layers.Dense(2)(layers.Dense(3, name=name)(inputs))
    keras.Model(inputs, outputs).save(tmp_path / "model.keras")
    text = succeed("inspect", tmp_path / "model.keras")
    (row,) = [line for line in text.splitlines() if name in line]
    assert "…" not in text and "27" not in row and row.split()[-2 if width > 80 else -1] == "15"
    assert ("Dense" in row) == (width > 80)


def test_a_pipe_gets_lines_as_long_as_they_are(file):
    done = subprocess.run(
        [sys.executable, "-m", "prune_keras.cli", "inspect", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "30"},
    )
    assert re.search(r"layer +type +units +prunable +families +parameters +FLOPs", done.stdout)


def test_score_tells_where_the_lowest_neurons_are(file, tmp_path):
    found = json.loads(succeed("score", file, "--criterion", "l1", "--json"))
    scores = prune_keras.score(keras.models.load_model(file, compile=False), "l1")
    assert {*found["scores"]} == {*scores} and found["criterion"] == "l1"
    np.testing.assert_allclose(found["scores"]["conv"], scores["conv"], rtol=1e-6)
    text = succeed("score", file, "--criterion", "l1", "-o", tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["head/hidden"], scores["head/hidden"])
    assert "head/hidden" in text and text.startswith("small: l1, debias mean")


def test_diff_compares_sizes_widths_and_outputs(file, tmp_path):
    succeed("prune", file, "--target", "params=0.5", "--output", tmp_path / "thin.keras")
    np.savez(tmp_path / "samples.npz", x_train=RANDOM.normal(size=(20, 4, 4, 3)))
    data = ("--data", tmp_path / "samples.npz", "--repeats", 1)
    found = json.loads(succeed("diff", file, tmp_path / "thin.keras", *data, "--json"))
    measures = {row[""]: row for row in found["measures"]}
    assert measures["params"]["before"] == small_model().count_params()
    assert measures["params"]["after"] <= measures["params"]["before"] / 2
    assert {"file_bytes", "latency_ms"} <= {*measures}
    assert {row["layer"] for row in found["widths"]} <= {"conv", "head/hidden"}
    assert found["agreement"].startswith("On 20 samples")
    same = json.loads(succeed("diff", file, file, "--repeats", 0, "--json"))
    assert (
        "outputs are 0 of their length apart; the same class comes first in 100.0%"
        in (same["agreement"])
    )
    assert not same["widths"] and "latency_ms" not in {row[""] for row in same["measures"]}


def test_diff_of_open_sizes_needs_no_latency(tmp_path):
    pixels = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name="conv")(pixels))
    file = tmp_path / "open.keras"
    keras.Model(pixels, layers.Dense(1)(x)).save(file)
    found = json.loads(succeed("diff", file, file, "--json"))
    assert "Latency was not measured" in found["notes"][0] and "class" not in found["agreement"]
    assert "flops" not in {row[""] for row in found["measures"]}
    shaped = json.loads(succeed("diff", file, file, "--json", "--input-shape", "8,8,3"))
    assert not shaped["notes"]
    assert {"flops", "latency_ms"} <= {row[""] for row in shaped["measures"]}


def test_export_compares_files_of_one_name(file, tmp_path):
    (tmp_path / "thin").mkdir()
    thin = tmp_path / "thin" / file.name
    succeed("prune", file, "--target", "params=0.5", "--output", thin)
    told = succeed("export", thin, "-o", tmp_path / "thin.h5", "--before", file)
    assert str(file) in told and str(thin) in told


def test_export_writes_a_format_and_compares_with_the_original(file, tmp_path):
    succeed("prune", file, "--target", "params=0.5", "--output", tmp_path / "thin.keras")
    arguments = ("export", tmp_path / "thin.keras", "-o", tmp_path / "thin.h5", "--before", file)
    text = succeed(*arguments)
    assert keras.models.load_model(tmp_path / "thin.h5", compile=False).count_params() > 0
    sizes = [
        int(line.split()[1].replace(",", "")) for line in text.splitlines() if ".keras " in line
    ]
    assert len(sizes) == 2 and sizes[0] >= sizes[1] == (tmp_path / "thin.h5").stat().st_size
    result = call("export", tmp_path / "thin.keras", "-o", tmp_path / "thin.pb")
    assert result.exit_code == 2 and "must end as its format does" in result.stderr


def test_report_shows_what_prune_wrote(file, tmp_path):
    options = ("--target", "params=0.5", "-o", tmp_path / "thin.keras")
    told = succeed("prune", file, *options, "--report", tmp_path / "report.json")
    assert all(ms > 0 for ms in Report.load(tmp_path / "report.json").latency_ms)
    text = succeed("report", tmp_path, "--html", tmp_path / "page.html")
    assert text.strip() and text.strip() in told
    assert "head/hidden" in (tmp_path / "page.html").read_text("utf-8")
    stored = json.loads(succeed("report", tmp_path / "report.json", "--json"))
    assert stored == json.loads((tmp_path / "report.json").read_text("utf-8"))
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        result = call("report", tmp_path / name)
        assert result.exit_code == 2 and f"{name}', and there is no '" in result.stderr
        assert "Name one" in result.stderr


COMMANDS = [info.callback.__name__ for info in cli.app.registered_commands]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_whose_options_there_are(name):
    text = " ".join(succeed(name.replace("_", "-"), "--help").split())
    example = text.split("Example: prune-keras ")[1]
    assert example.startswith(name.replace("_", "-"))
    assert call(*shlex.split(example), "--help").exit_code == 0
    assert call(*shlex.split(example), "--no-such-option", "--help").exit_code == 2


def test_what_goes_wrong_ends_in_one_line_unless_it_is_looked_into(file, monkeypatch):
    def fails(*_):
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(prune_keras, "trace", fails)
    result = call("inspect", file)
    assert result.exit_code == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: RuntimeError: first line second line (call again with")
    with pytest.raises(RuntimeError, match="second line"):
        call("inspect", file, "--debug")


@pytest.mark.parametrize(("name", "goes_on"), [("demo", True), ("inspect", False)])
def test_an_interrupted_command_says_whether_it_goes_on(file, monkeypatch, name, goes_on):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(prune_keras, "trace", interrupted)
    monkeypatch.setattr(digits, "run", interrupted)
    result = call(name, *([] if goes_on else [file]))
    assert result.exit_code == 1 and result.stderr.startswith("Interrupted.")
    assert ("The same command goes on" in result.stderr) == goes_on


def test_quiet_commands_print_errors_alone(file):
    assert succeed("inspect", file, "--quiet") == ""
    result = call("inspect", "missing.keras", "-q")
    assert result.exit_code == 2 and result.stdout == "" and "missing.keras" in result.stderr


def test_diff_runs_few_samples_at_once_and_tells_the_same(monkeypatch):
    models = small_model(), small_model()
    inputs, sizes = RANDOM.normal(size=(7, 4, 4, 3)).astype("float32"), []
    whole = difference._agreement(*models, inputs)
    outputs_of = difference.outputs_of

    def noted(model, inputs):
        sizes.append(len(inputs))
        return outputs_of(model, inputs)

    monkeypatch.setattr(difference, "BATCH", 3)
    monkeypatch.setattr(difference, "outputs_of", noted)
    assert difference._agreement(*models, inputs) == whole
    assert sizes == [3, 3, 1] * 2
