"""Pictures: they are written where asked, in the format asked for, and hold what they are given."""

import numpy as np
import pytest
from matplotlib.image import imread

from prune_keras import plots
from prune_keras.accounting import Cost
from prune_keras.plan import Plan
from prune_keras.report import Report

REPORT = Report(
    "net", Plan({"a": [0], "b": [1, 2]}, {"a": 4, "b": 3}), Cost(9, 8, 7), Cost(5, 4, 3), ()
)


def test_history_draws_one_point_an_epoch(tmp_path):
    epochs = {"val_accuracy": [0.5, 0.9], "params": [10, 5]}
    picture = imread(plots.history(epochs, tmp_path / "deep" / "history.png"))
    longer = imread(plots.history({"val_accuracy": [0.5] * 9}, tmp_path / "longer.png"))
    assert picture.shape == longer.shape
    assert not np.array_equal(picture, longer)


def test_history_names_what_it_has_when_the_metric_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"Received: monitor='val_loss'.*\['val_accuracy'\]"):
        plots.history({"val_accuracy": [0.5]}, tmp_path / "history.png", monitor="val_loss")


def test_a_picture_is_told_where_it_is(tmp_path):
    path = plots.widths(REPORT, tmp_path / "v1.2" / "picture")
    assert path.name == "picture.png" and path.exists()


def test_history_puts_rarer_values_at_their_epochs(tmp_path):
    sizes, nan = {"params": [8, 7, 6, 5, 4]}, float("nan")
    rare, told = (
        imread(plots.history({"val_accuracy": values, **sizes}, tmp_path / "history.png"))
        for values in ([0.5, 0.5], [nan, 0.5, 0.5, 0.5, nan])
    )
    differs = (rare != told).any((0, 2))  # by the point of the third epoch, in the middle
    assert 0 < differs.sum() < 0.03 * len(differs)
    with pytest.raises(ValueError, match="3 values of 'val_accuracy' for 5 epochs"):
        plots.history({"val_accuracy": [0.5] * 3, **sizes}, tmp_path / "history.png")


def test_widths_grow_with_the_layers(tmp_path):
    one = Report("net", Plan({"a": [0]}, {"a": 4}), Cost(9, 8, 7), Cost(5, 4, 3), ())
    assert len(imread(plots.widths(REPORT, tmp_path / "two.png"))) > len(
        imread(plots.widths(one, tmp_path / "one.png"))
    )
