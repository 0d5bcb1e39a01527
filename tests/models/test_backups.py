"""Backups on disk: the newest that is whole, damaged ones named, and never more than two."""

import numpy as np
import pytest

from prune_keras import atomic
from prune_keras.backups import Store

VALUES = {"now/0": np.arange(6.0).reshape(2, 3), "now/1": np.array(3, "int64")}


def written(folder, times=3):
    store = Store(folder, 1)
    return store, [store.write({"epoch": n}, VALUES) for n in range(times)]


def test_what_is_read_is_what_was_written(tmp_path):
    store, files = written(tmp_path)
    kept = store.newest()
    assert kept.state["epoch"] == 2 and kept.file == files[-1]
    np.testing.assert_equal(kept.values, VALUES)
    assert sorted(tmp_path.iterdir()) == files[1:]
    assert Store(tmp_path, 2).newest() is None


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


@pytest.mark.parametrize("damage", [truncated, flipped, empty])
def test_a_damaged_one_is_named_and_the_one_before_it_used(damage, tmp_path):
    store, files = written(tmp_path)
    files[-1].write_bytes(damage(files[-1].read_bytes()))
    with pytest.warns(RuntimeWarning, match=f"{files[-1].name} is damaged"):
        assert store.newest().state["epoch"] == 1
    files[-2].write_bytes(damage(files[-2].read_bytes()))
    with (
        pytest.warns(RuntimeWarning, match="is damaged"),
        pytest.raises(ValueError, match="One backup must be whole"),
    ):
        store.newest()


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_write_that_fails_changes_nothing(step, tmp_path, monkeypatch):
    store, files = written(tmp_path, 2)

    def fails(*args):
        raise OSError("no space left")

    if step == "write":
        monkeypatch.setattr("prune_keras.arrays.write", fails)
    else:
        monkeypatch.setattr(atomic.os, step, fails)
    with pytest.raises(OSError, match="no space left"):
        store.write({"epoch": 9}, VALUES)
    monkeypatch.undo()
    assert sorted(tmp_path.iterdir()) == files
    assert store.newest().state["epoch"] == 1


def test_what_a_killed_write_left_is_no_backup_and_is_deleted(tmp_path):
    store, files = written(tmp_path, 2)
    left = tmp_path / f".fit-1-000003.77{atomic.PARTIAL}"
    left.write_bytes(files[-1].read_bytes()[:100])
    assert store.newest().state["epoch"] == 1
    assert not left.exists()
