"""Files are written at once, or stay as they were."""

import contextlib
import errno
import json
import math
import os

import numpy as np
import pytest

from prune_keras import Plan, atomic
from prune_keras.models import records


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch, failing):
    def full(*_):
        raise OSError("no space left")

    file = tmp_path / "settings.json"
    atomic.write_json(file, {"a": 1})
    monkeypatch.setattr(os, failing, full)
    for write in (
        lambda: atomic.write_json(file, {"a": 2}),
        lambda: records.write_table(file, [{"a": 2}]),
        lambda: Plan({"c": [0]}, {"c": 2}).save(file),
    ):
        with pytest.raises(OSError, match="no space left"):
            write()
        assert json.loads(file.read_text()) == {"a": 1}
        assert [path.name for path in tmp_path.iterdir()] == ["settings.json"]


def test_what_json_cannot_hold_leaves_the_file_as_it_was(tmp_path):
    atomic.write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError, match="not JSON serializable"):
        atomic.write_json(tmp_path / "a.json", {"a": object()})
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_numbers_without_a_word_in_json_are_null(tmp_path):
    value = {"a": [math.nan, (1.5, np.float64("inf"))], "b": {"c": -math.inf}}
    atomic.write_json(tmp_path / "a.json", value)
    stored = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert stored == {"a": [None, [1.5, None]], "b": {"c": None}}


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    atomic.write_text(tmp_path / "link", "text\r\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"text\r\n"


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_name_that_could_not_be_synced_is_told_of_where_systems_can(
    tmp_path, monkeypatch, number, passes
):
    opened = os.open

    def fails(path, *flags, **options):
        if path == tmp_path:
            raise OSError(number, os.strerror(number))
        return opened(path, *flags, **options)

    monkeypatch.setattr(atomic.os, "open", fails)
    with contextlib.nullcontext() if passes else pytest.raises(OSError, match="[Ii]nput/output"):
        atomic.write_text(tmp_path / "new.txt", "text")
    assert (tmp_path / "new.txt").read_text() == "text"
