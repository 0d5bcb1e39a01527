"""What processes tell each other: digests, and what is told where there is one process."""

import subprocess
import sys

import numpy as np
import pytest

from prune_keras import processes
from prune_keras.plan import Plan

PLAN = Plan({"conv": [0, 2], "dense": [1]}, {"conv": 3, "dense": 2})


@pytest.fixture
def two(monkeypatch):
    """Let this process be the first of two; the other one holds what is put in the list."""
    others = []

    def gathered(values):
        other = others.pop(0) if others else values
        return np.stack([values, np.frombuffer(np.asarray(other).tobytes(), np.uint8)])

    monkeypatch.setattr(processes._backend, "processes", lambda: (2, 0))
    monkeypatch.setattr(processes._backend, "gathered", gathered)
    return others


def raw(told):
    return np.frombuffer(bytes.fromhex(processes.digest(told)), np.uint8)


def test_a_digest_is_the_same_whatever_the_order_and_the_process():
    told = PLAN.to_dict()
    turned = {key: dict(reversed(each.items())) for key, each in reversed(told.items())}
    assert processes.digest(told) == processes.digest(turned)
    code = f"from prune_keras.processes import digest; print(digest({turned!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == processes.digest(told)


@pytest.mark.parametrize(
    "other",
    [
        Plan({"conv": [0, 1], "dense": [1]}, PLAN.widths),
        Plan({"conv": [0, 2], "dense": [1]}, {"conv": 4, "dense": 2}),
        Plan({"conv": [0, 2]}, {"conv": 3}),
    ],
)
def test_plans_that_differ_have_other_digests_and_stop_the_run(two, other):
    two.append(raw(other.to_dict()))
    with pytest.raises(ValueError, match=r"same plan.*Received: \w{12} in process 0.*`seed`"):
        processes.check_plan(PLAN.to_dict())


def test_the_same_plans_do_not(two):
    two.append(raw(PLAN.to_dict()))
    processes.check_plan(PLAN.to_dict())


def test_numbers_are_averaged_to_the_bit_where_they_are_the_same(two):
    assert processes.mean(0.1 + 0.2) == 0.1 + 0.2
    two.append(np.float64(0.5))
    assert processes.mean(0.25) == 0.375
    two.append(np.float64(0.5))
    assert processes.most(0.25) == 0.5
    assert processes.mean(None) is None and processes.most(None) is None


def test_batches_are_joined_bit_for_bit_in_the_order_of_processes(two):
    x, y = np.array([[0.1], [0.2]]), np.array([2**40, 3])
    described = raw([f"{each.dtype} {each.shape}" for each in (x, y)])
    two.extend([described, x + 1, y + 1])
    joined = [*processes.joined(iter([(x, y, None)]))]
    assert len(joined) == 1 and joined[0][2] is None
    np.testing.assert_array_equal(joined[0][0], np.concatenate([x, x + 1]))
    np.testing.assert_array_equal(joined[0][1], [2**40, 3, 2**40 + 1, 4])


def test_batches_of_other_shapes_stop_the_run(two):
    two.append(raw(["float64 (3, 1)"]))
    with pytest.raises(ValueError, match=r"as many samples of `data`.*Received.*equally"):
        [*processes.joined(iter([np.zeros((2, 1))]))]


def test_one_process_exchanges_nothing(monkeypatch):
    monkeypatch.setattr(processes._backend, "gathered", None)
    processes.check_plan(PLAN.to_dict())
    assert processes.mean(0.5) == processes.most(0.5) == 0.5
    assert [*processes.joined(iter([1, 2]))] == [1, 2]
    assert processes.count() == 1 and processes.is_first()
