"""What stored networks cost to run, measured in processes of their own."""

import keras
import pytest

from prune_keras.models import speed


@pytest.mark.slow
def test_each_network_is_measured(tmp_path):
    files = {}
    for name, width in (("wide", 64), ("thin", 8)):
        model = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Conv2D(width, 3)])
        files[name] = tmp_path / f"{name}.keras"
        model.save(files[name])
    wide, thin = speed.compare(files, turns=1)
    assert wide["network"] == "wide" and wide["params"] == 8 * thin["params"]
    assert thin["file_bytes"] < wide["file_bytes"]
    for row in (wide, thin):
        assert 0 < row["latency_ms_1"] and row["peak_bytes"] != 0
        assert abs(row["images_per_second_32"] * row["latency_ms_32"] - 32e3) < 1
