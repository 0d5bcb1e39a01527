"""Whole runs on few images: what they write, compare, keep and refuse."""

import json

import keras
import numpy as np
import pytest

from prune_keras import Report
from prune_keras.models import cifar10, images, records, runs

pytestmark = pytest.mark.xdist_group("runs")  # one process makes what they share


def few_images(count=200, shape=(8, 8, 1)):
    """Return images whose class is the quarter that is bright."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, count)
    pixels = random.integers(0, 60, (count, *shape)).astype("uint8")
    half = shape[0] // 2
    for image, label in zip(pixels, labels, strict=True):
        top, left = divmod(label, 2)
        image[top * half :, left * half :][:half, :half] += 150
    return pixels, labels


def few_data():
    pixels, labels = few_images()
    return images.split(pixels, labels, *few_images(60))


def small_network():
    return cifar10.batch_norm_stack(
        (4, 4, 6, 6), 12, classes=4, padding="same", input_shape=(8, 8, 1)
    )


def small_settings(**changes):
    chosen = {"dense_epochs": 2, "epochs": 3, "fine_tune_epochs": 1, "batch_size": 32, "shift": 1}
    chosen |= {"dense_learning_rate": 1e-2, "pruning": {"target": {"params": 0.5}}, "verbose": 0}
    return runs.Settings(**chosen | {"flip": False} | changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run with a baseline: its result and its folder."""
    folder = tmp_path_factory.mktemp("run") / "new"
    return runs.run(small_network, few_data(), small_settings(baseline=True), folder), folder


def test_a_run_leaves_all_its_files(finished):
    result, folder = finished
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "dense.csv", "dense.json", "dense.keras", "history.csv", "history.png", "pairs.csv",
        "plan.json", "pruned.csv", "pruned.h5", "pruned.json", "pruned.keras", "report.html",
        "report.json", "report.txt", "results.csv", "rounds.json", "settings.json",
        "trained_on.csv", "trained_on.json", "trained_on.keras", "widths.csv", "widths.png",
    }  # fmt: skip
    assert json.loads((folder / "settings.json").read_text())["epochs"] == 3
    assert json.loads((folder / "rounds.json").read_text())
    assert result.report == (folder / "report.txt").read_text()


def test_the_report_of_a_run_tells_what_each_network_came_to(finished):
    result, folder = finished
    told = {each.name: each.values for each in Report.load(folder / "report.json").outcomes}
    assert [*told] == [row["network"] for row in result.rows]
    for row in result.rows:
        assert told[row["network"]]["test accuracy"] == row["test_accuracy"]
        assert told[row["network"]]["parameters"] == row["params"]
    assert "Models at the end" in (folder / "report.html").read_text("utf-8")


def test_a_run_compares_networks_that_had_the_same_epochs(finished):
    rows = {row["network"]: row for row in finished[0].rows}
    assert [row["epochs"] for row in rows.values()] == [2, 3, 3]
    assert rows["dense, trained on"]["params"] == rows["dense"]["params"]
    phases = [row["phase"] for row in records.read_table(finished[1] / "history.csv")]
    assert phases == ["dense"] * 2 + ["dense, trained on"] * 3 + ["start", "prune", "prune"] + [
        "fine-tune"
    ]


def test_exported_files_are_the_network_that_the_results_name(finished):
    result, folder = finished
    pixels, labels = few_images(60)
    reported = result.rows[-1]
    loaded = [
        keras.models.load_model(folder / f"pruned.{s}", compile=False) for s in ("h5", "keras")
    ]
    assert [model.count_params() for model in loaded] == [reported["params"]] * 2
    np.testing.assert_array_equal(
        loaded[0].predict(pixels, verbose=0), loaded[1].predict(pixels, verbose=0)
    )


def test_a_folder_of_other_settings_is_refused(finished):
    with pytest.raises(ValueError, match="one dense network. Received: .*'seed': 0"):
        runs.run(small_network, few_data(), small_settings(seed=1), finished[1])


def test_a_second_run_keeps_the_dense_network_and_counts_the_drop_from_it(finished):
    result, folder = finished
    before = (folder / "dense.keras").read_bytes()
    settings = small_settings(pruning={"max_drop": 0.05, "fraction": 0.2}, epochs=5)
    dense, pruned = runs.run(None, few_data(), settings, folder, overwrite=True).rows
    assert (folder / "dense.keras").read_bytes() == before
    assert dense["epochs"] == 2 and dense["params"] == result.rows[0]["params"]
    assert pruned["val_accuracy"] >= dense["val_accuracy"] - 0.05 - 1e-6
