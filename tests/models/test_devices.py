"""Several devices: the whole run under MirroredStrategy, and a refusal where there are too few."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow")  # MirroredStrategy is its own

from generated_photos import write_photos  # noqa: E402

from prune_keras.models import devices  # noqa: E402

RUN = """
import sys, tensorflow as tf
from prune_keras.models import vgg16_transfer

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
vgg16_transfer.run(
    sys.argv[2], sys.argv[1], weights=None, devices=2, head_epochs=1, measure=False,
    network={"width": 0.125, "units": 16}, image_size=32, epochs=2, dense_epochs=1,
    precision="float32", batch_size=8, verbose=0,
    pruning={"target": {"neurons": 0.7}, "fraction": 0.5, "max_drop": 1.0},
)
"""


@pytest.mark.slow
def test_a_run_on_two_devices_ends_thinner(tmp_path):
    data = write_photos(tmp_path / "photos", {"train": 16, "validation": 8, "test": 8})
    done = subprocess.run(
        [sys.executable, "-c", RUN, data, tmp_path / "out"],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
    )
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        dense, pruned = csv.DictReader(file)
    assert int(pruned["neurons"]) <= 0.7 * int(dense["neurons"])


def test_too_few_devices_are_named():
    with pytest.raises(ValueError, match="Received: devices=64, while TensorFlow sees 1 of kind"):
        with devices.scope(64):
            pass
