"""JAX: a model whose work devices or processes share is pruned as one on one device."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = [
    pytest.mark.xdist_group("shared_work"),  # one process makes what they share
    pytest.mark.skipif(keras.backend.backend() != "jax", reason="it belongs to JAX"),
]
PROGRAM = Path(__file__).parent / "shared_work.py"
FITS = ("dropping", "learning", "undone", "pruned")
HOST_DEVICES = "--xla_force_host_platform_device_count=4"


def started(*arguments, **environment):
    path = os.pathsep.join([str(PROGRAM.parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )


def started_both(kind, folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [started(kind, folder, place, port) for place in (0, 1)]


def printed(process):
    out, error = process.communicate(timeout=1800)
    assert process.returncode == 0, error
    return json.loads(out.splitlines()[-1])


@pytest.fixture(scope="module")
def found():
    """What came out on one device, on four, and with kernels in parts on four."""
    return printed(started("devices", XLA_FLAGS=HOST_DEVICES))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What came out in two processes, and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("processes")
    return [printed(each) for each in started_both("process", folder)], folder


def assert_same_scores(found, expected):
    for criterion, layers in expected.items():
        for path, scores in layers.items():
            np.testing.assert_allclose(
                found[criterion][path], scores, rtol=1e-5, atol=1e-7, err_msg=criterion
            )


def assert_same_weights(found, expected):
    for one, other in zip(expected["weights"], found["weights"], strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_four_devices_find_the_scores_of_one(found):
    assert_same_scores(found["four"]["scores"], found["one"]["scores"])


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_four_devices_cut_what_one_cuts(found, fit):
    one, four = (found[name]["fits"][fit] for name in ("one", "four"))
    assert four["plans"] == one["plans"] and four["plans"]
    assert four.get("kept") == one.get("kept")
    assert_same_weights(four, one)


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS[:-1])
def test_every_variable_lies_whole_on_all_devices_after_cuts(found, fit):
    assert found["four"]["fits"][fit]["devices"] == [4]
    assert found["four"]["fits"][fit]["whole"]


@pytest.mark.slow
def test_a_failing_step_of_several_devices_ends_in_its_own_error(found):
    assert found["four"]["failing"] == "ZeroDivisionError"


@pytest.mark.slow
def test_kernels_in_parts_keep_equal_parts(found):
    parts, rounded = found["parts"], found["rounded"]
    assert parts["parts"] == ["conv/kernel", "hidden/bias", "hidden/kernel"]
    assert not parts["whole"] and parts["devices"] == [4]
    assert parts["plans"] == rounded["plans"]
    assert_same_weights(parts, rounded)


@pytest.mark.slow
def test_a_plan_of_unequal_parts_is_refused_and_nothing_changed(found):
    for refused in found["parts"]["refused"]:
        assert "equal parts" in refused and "7 entries along axis 3" in refused
        assert refused.endswith("Select with round_to=2.")
    assert found["parts"]["unchanged"]


@pytest.mark.slow
def test_two_processes_find_the_scores_of_one_device(found, both):
    for each in both[0]:
        assert_same_scores(each["scores"], found["one"]["scores"])


@pytest.mark.slow
@pytest.mark.parametrize("fit", FITS)
def test_two_processes_cut_what_one_device_cuts(found, both, fit):
    one, (first, second) = found["one"]["fits"][fit], (each["fits"][fit] for each in both[0])
    assert first["plans"] == second["plans"] == one["plans"]
    assert first.get("kept") == second.get("kept") == one.get("kept")
    assert first["weights"] == second["weights"]
    assert_same_weights(first, one)


@pytest.mark.slow
def test_only_the_first_process_writes(both):
    _, folder = both
    rounds = [f"round-{number:03}.keras" for number in range(4)]
    assert sorted(each.name for each in (folder / "rounds").iterdir()) == ["frontier.json", *rounds]
    assert [each.name for each in (folder / "log").iterdir()] == ["rounds.json"]
    assert len([*(folder / "backup").iterdir()]) == 2


@pytest.mark.slow
def test_what_two_processes_came_to_is_found_again(both):
    for each in both[0]:
        assert each["again"] == each["backed"]


@pytest.mark.slow
def test_processes_of_which_one_died_go_on(both, tmp_path):
    first, second = started_both("dying", tmp_path)
    second.communicate(timeout=600)
    first.kill()  # it waits for the other one
    first.communicate()
    assert second.returncode == -signal.SIGKILL
    assert [*(tmp_path / "backup").iterdir()]
    for found, whole in zip(started_both("resuming", tmp_path), both[0], strict=True):
        assert printed(found) == whole["backed"]


@pytest.mark.slow
def test_processes_that_would_cut_apart_all_stop(both):
    messages = [each["plan"] for each in both[0]]
    assert messages[0] == messages[1]
    assert "the same plan, and nothing was cut. Received: " in messages[0]
    assert "in process 0" in messages[0] and "in process 1. Give a `seed`" in messages[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["count", "size"])
def test_processes_that_hold_unequal_samples_all_stop(both, kind):
    for each in both[0]:
        assert "as many samples of `data`" in each[kind]


@pytest.mark.slow
def test_a_process_prunes_a_model_of_its_own_but_not_in_fit(both):
    first, second = (each["alone"] for each in both[0])
    assert first["pruned"] == second["pruned"]
    assert "2 processes of JAX" in first["fit"] and "set_distribution" in first["fit"]
