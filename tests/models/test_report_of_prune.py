"""Reports of one cut: layers and what feeds them, groups, scores, and the call."""

from pathlib import Path

import keras
import numpy as np
import pytest

import prune_keras
from prune_keras.callbacks import Backup, ProgressivePruning
from prune_keras.report import Report
from prune_keras.reporting.origins import call_of
from prune_keras.reporting.start import Start

layers = keras.layers


def residual():
    pixels = keras.Input((6, 6, 2), name="x")
    x = stem = layers.Conv2D(8, 3, padding="same", name="stem")(pixels)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(6, 3, padding="same", name="inner")(x)
    x = layers.Conv2D(8, 3, padding="same", name="outer")(x)
    x = layers.Add(name="sum")([stem, x])
    return keras.Model(pixels, layers.Dense(3, name="out")(layers.GlobalMaxPooling2D()(x)))


def branches():
    pixels = keras.Input((6, 6, 2), name="x")
    left = layers.Conv2D(4, 1, name="left")(pixels)
    right = layers.Conv2D(4, 1, name="right")(pixels)
    x = layers.Concatenate(name="both")([left, layers.Dropout(0.1)(right)])
    return keras.Model(pixels, layers.Conv2D(2, 1, name="out")(x))


def nested():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="in")], name="inner")
    x = inputs = keras.Input((4,), name="x")
    return keras.Model(inputs, layers.Dense(2, name="out")(inner(x)))


def shared():
    one, two = (keras.Input((4,), name=name) for name in ("x", "y"))
    dense = layers.Dense(5, name="twice")
    x = layers.Subtract(name="minus")([dense(one), dense(two)])
    return keras.Model([one, two], layers.Dense(2, name="out")(x))


def attention():
    x = inputs = keras.Input((5, 8), name="x")
    x = layers.MultiHeadAttention(2, 4, name="mha")(x, x)
    x = layers.Add(name="sum")([inputs, x])
    x = layers.Dense(8, name="out")(layers.Dense(12, name="hidden")(x))
    return keras.Model(inputs, x)


FEEDS = {
    residual: {
        "x": [],
        "stem": ["x"],
        "inner": ["stem"],
        "outer": ["inner"],
        "sum": ["outer", "stem"],
        "out": ["sum"],
    },
    branches: {
        "x": [],
        "left": ["x"],
        "right": ["x"],
        "both": ["left", "right"],
        "out": ["both"],
    },
    nested: {"x": [], "inner/in": ["x"], "out": ["inner/in"]},
    shared: {"x": [], "y": [], "twice": ["x", "y"], "out": ["twice"]},
}


def feeds(found):
    return {each.path: sorted(found[n].path for n in each.inputs) for each in found}


@pytest.mark.parametrize("build", FEEDS)
def test_what_feeds_a_layer_is_told(build):
    model = build()
    found = Start.of(model, prune_keras.trace(model)).layers
    assert feeds(found) == FEEDS[build]


@pytest.mark.parametrize("build", [*FEEDS, attention])
def test_widths_and_groups_are_those_of_the_thin_model(build):
    thin, report = prune_keras.prune(build(), fraction=0.3)
    after = prune_keras.trace(thin)
    units = {each.path: each.left for each in report.layers if not each.merges}
    assert {path: units[path] for path in after.widths} == after.widths
    assert sum(each.left for each in report.families) == after.neurons
    assert all(n < place for place, each in enumerate(report.layers) for n in each.inputs)


def test_attention_stands_once_between_what_it_reads_and_feeds():
    model = attention()
    found = feeds(Start.of(model, prune_keras.trace(model)).layers)
    of_mha = [path for path in found if path.startswith("mha")]
    assert of_mha and found[of_mha[0]] == ["x"] and found["out"] == ["hidden"]
    assert found["sum"] == sorted([of_mha[-1], "x"])


def test_a_call_with_paths_makes_it_again():
    given = {"max_drop": 0.1, "log_dir": Path("log"), "backup_dir": Backup(Path("it's"), every=2)}
    written = call_of("ProgressivePruning", ProgressivePruning, given)
    made = eval(written, {"ProgressivePruning": ProgressivePruning, "Backup": Backup})  # noqa: S307
    assert (made.log_dir, made.backup_dir) == ("log", Backup("it's", every=2))


def test_a_report_tells_scores_seconds_ends_and_the_call(tmp_path):
    data = np.ones((8, 6, 6, 2), "float32")
    thin, report = prune_keras.prune(residual(), target={"flops": 0.6}, data=data, steps=2)
    removed = report.before.neurons - report.after.neurons
    assert sum(each.removed for each in report.distributions) == removed
    assert [len(each.raw) for each in report.distributions] == [21, 21]
    assert {"score", "fuse", "cut"} <= {*report.seconds}
    assert [p.cost for p in report.frontier] == [report.before, report.after]
    call = "prune_keras.prune(model, target={'flops': 0.6}, data=..., steps=2)"
    assert report.origin.call == call
    assert not report.frontier[0].widths == report.frontier[1].widths
    report.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == report
