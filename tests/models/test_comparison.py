"""The comparison of ways to prune: one dense network, equal epochs, equal FLOPs."""

import csv

import numpy as np
import pytest
from command_line import succeed
from generated_photos import write_photos

from prune_keras.models import comparison
from prune_keras.models.images import Data


@pytest.mark.slow
def test_ways_share_the_dense_network_and_end_at_the_same_flops(tmp_path):
    data = write_photos(tmp_path / "photos", {"train": 16, "validation": 8, "test": 8})
    out = tmp_path / "out"
    arguments = ("--data", data, "--weights", "none", "--width", 0.125, "--image-size", 32)
    arguments += ("--epochs", 2, "--dense-epochs", 1, "--head-epochs", 1, "--precision", "float32")
    arguments += ("--fraction", 0.6, "--round-to", 1, "--flops", 0.5, "--batch-size", 8)
    ways = ("global, l2", "uniform, random")
    succeed("compare", *arguments, "--way", ways[0], "--way", ways[1], "--output", out)
    with open(out / "comparison.csv", newline="") as file:
        dense, *pruned = csv.DictReader(file)
    assert [row["way"] for row in pruned] == list(ways)
    for row in pruned:
        assert 0.4 < int(row["flops"]) / int(dense["flops"]) <= 0.5
        assert row["epochs"] == "2" and 0 < float(row["dense_kept"]) <= 1
    first, second = ((out / name.replace(", ", "-") / "dense.keras") for name in ways)
    assert first.read_bytes() == second.read_bytes()
    with open(out / "comparison_rounds.csv", newline="") as file:
        assert {row["way"] for row in csv.DictReader(file)} == set(ways)


@pytest.mark.slow  # fourteen cuts of VGG-16, each of which traces it anew
def test_layer_by_layer_every_layer_has_its_turn(tmp_path):
    data = write_photos(tmp_path / "photos", {"train": 28, "validation": 4, "test": 4})
    out = tmp_path / "out"
    arguments = ("--data", data, "--weights", "none", "--width", 0.125, "--image-size", 32)
    arguments += ("--epochs", 1, "--dense-epochs", 1, "--head-epochs", 1, "--precision", "float32")
    arguments += ("--round-to", 1, "--flops", 0.5, "--batch-size", 2)
    succeed("compare", *arguments, "--way", "layerwise, taylor", "--output", out)
    with open(out / "comparison.csv", newline="") as file:
        dense, pruned = csv.DictReader(file)
    assert 0.4 < int(pruned["flops"]) / int(dense["flops"]) <= 0.5
    with open(out / "layerwise-taylor" / "widths.csv", newline="") as file:
        thinner = [int(row["after"]) < int(row["before"]) for row in csv.DictReader(file)]
    assert len(thinner) == comparison.LAYERS and sum(thinner) > comparison.LAYERS / 2


def test_photos_that_were_read_are_compared_on(tmp_path, monkeypatch):
    class Begun(Exception):
        """Stands for the first run."""

    def begin(folder, data, **arguments):
        raise Begun(data)

    photos = Data(*((np.zeros((2, 32, 32, 3), "uint8"), np.arange(2)) for _ in Data._fields))
    monkeypatch.setattr(comparison.vgg16_transfer, "run", begin)
    with pytest.raises(Begun) as begun:
        comparison.run(tmp_path, data=photos)
    assert begun.value.args[0] is photos


def test_an_unknown_way_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"among global, taylor; .*Received: \['best'\]"):
        comparison.run(tmp_path, ways=["best"])
