"""Files of strangers: what runs code when it is read is refused, in both formats."""

import json
import subprocess
import sys
import tracemalloc
from importlib.metadata import version

import crafted
import keras
import numpy as np
import pytest

from prune_keras import arrays, frontier
from prune_keras.models import images, inversion
from prune_keras.models.networks import read_model
from prune_keras.plan import Plan

RAN = []


@pytest.mark.parametrize("suffix", ["keras", "h5"])
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_code_in_a_file_is_not_run(tmp_path, suffix):
    code = keras.layers.Lambda(lambda x: __import__("test_strangers_files").RAN.append(1) or x)
    model = keras.Sequential([keras.Input((3,)), code, keras.layers.Dense(2)])
    model.save(tmp_path / f"model.{suffix}")
    RAN.clear()
    with pytest.raises(ValueError, match="Received: model=.*Lambda"):
        read_model(tmp_path / f"model.{suffix}")
    assert not RAN
    keras.models.load_model(tmp_path / f"model.{suffix}", compile=False, safe_mode=False)
    assert RAN  # it would have been


def test_keras_is_one_without_known_holes():
    assert tuple(map(int, version("keras").split(".")[:2])) >= (3, 15)


@pytest.mark.parametrize("name", crafted.MODELS)
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_crafted_model_is_refused_before_it_takes_memory(name, tmp_path):
    path = tmp_path / name
    crafted.MODELS[name](path)
    assert path.stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(ValueError, match="must be a .keras or .h5 file that Keras can read"):
        read_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**25
    assert not [*tmp_path.parent.glob("escaped.txt")]


@pytest.mark.parametrize("name", crafted.ARRAYS)
def test_crafted_arrays_are_refused_before_they_take_memory(name, tmp_path):
    path = tmp_path / "data.npz"
    crafted.ARRAYS[name](path)
    tracemalloc.start()
    with pytest.raises(ValueError, match="The data must be an .npz file"):
        images.read_samples(path)
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


def test_sound_arrays_are_read_packed_or_not(tmp_path):
    values = {"x_train": np.arange(24.0).reshape(2, 3, 4), "y_train": np.array([1, 2])}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "data.npz", **values)
        np.testing.assert_equal(arrays.read(tmp_path / "data.npz"), values)


@pytest.mark.parametrize("name", crafted.TEXTS)
@pytest.mark.parametrize("read", [Plan.load, lambda file: frontier.read(file.parent)])
def test_texts_that_are_no_plan_or_frontier_are_refused(name, read, tmp_path):
    file = tmp_path / frontier.FILE
    file.write_bytes(crafted.TEXTS[name])
    with pytest.raises(ValueError, match="Received: .*frontier.json"):
        read(file)


def test_a_frontier_names_no_files_elsewhere(tmp_path):
    cost = {"params": 1, "flops": 1, "neurons": 1}
    for name in ("/etc/model.keras", "../model.keras", "C:\\model.keras"):
        point = {"number": 0, "kept": True, "metric": None, "cost": cost, "widths": {}}
        (tmp_path / frontier.FILE).write_text(json.dumps([point | {"file": name}]))
        with pytest.raises(ValueError, match="leaves the folder"):
            frontier.read(tmp_path)


def test_an_image_of_more_pixels_than_a_photo_is_refused(tmp_path):
    from PIL import Image

    path = tmp_path / "image.png"
    Image.new("1", (20_000, 20_000)).save(path)
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="The image must be a file"):
        inversion.read_image(path, model)


BREAKS = """
import os, resource, sys
from pathlib import Path
from prune_keras.cli import guarded
from prune_keras.models import networks
what = sys.argv[1]
def breaks(path, compile=False):
    if what == "memory":
        return bytearray(2**34)
    if what == "crash":
        os.abort()
    while True:
        pass
networks.read_model = breaks
guarded.SECONDS = 1
with guarded.forks():
    try:
        guarded.read_model(Path(sys.argv[2]))
    except ValueError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("what", ["memory", "crash", "time"])
@pytest.mark.skipif(sys.platform != "linux", reason="forks on Linux only")
def test_a_file_that_breaks_its_reader_ends_in_a_message(what, tmp_path):
    path = tmp_path / "model.keras"
    crafted.small().save(path)
    done = subprocess.run(
        [sys.executable, "-c", BREAKS, what, str(path)], capture_output=True, text=True, timeout=300
    )
    assert "must be readable with the memory and time" in done.stdout, done.stderr
