"""Reports on disk: what is read back is what was written, and nothing else is taken for one."""

import json
import re

import pytest
from reports import HOSTILE, report

from prune_keras.accounting import Cost
from prune_keras.frontier import Point
from prune_keras.plan import Plan
from prune_keras.report import FORMAT, Report

PLAIN = Report("net", Plan({"a": [0]}, {"a": 2}), Cost(9, None, 2), Cost(5, None, 1), ())


@pytest.mark.parametrize("given", [PLAIN, report(5), report(len(HOSTILE), name=HOSTILE)])
def test_what_is_read_back_is_what_was_written(given, tmp_path):
    file = tmp_path / "deep" / "report.json"
    given.save(file)
    assert Report.load(file) == given
    assert Report.load(file).render() == given.render()


def test_no_number_that_json_lacks_is_written(tmp_path):
    point = Point(0, True, float("nan"), Cost(9, 8, 7), {})
    given = Report("n", PLAIN.plan, Cost(9, 8, 7), Cost(9, 8, 7), (), frontier=(point,))
    given.save(tmp_path / "report.json")
    assert "NaN" not in (tmp_path / "report.json").read_text()
    assert Report.load(tmp_path / "report.json").frontier[0].metric is None


def test_a_report_without_a_format_is_read(tmp_path):
    stored = {n: v for n, v in PLAIN.to_dict().items() if n in ("name", "plan", "before", "after")}
    (tmp_path / "old.json").write_text(json.dumps({**stored, "fixed": [], "notes": ["so"]}))
    assert Report.load(tmp_path / "old.json").notes == ("so",)


def test_a_newer_format_is_refused(tmp_path):
    stored = PLAIN.to_dict() | {"format": FORMAT + 1, "of_later": 1}
    (tmp_path / "new.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=rf"format {FORMAT + 1} is newer.*update prune_keras"):
        Report.load(tmp_path / "new.json")


def broken():
    """Yield stored reports, each with one value that does not belong there."""
    for where, value, told in (
        (("name",), 3, "report.name` must be str"),
        (("before", "params"), "many", "report.before.params` must be int"),
        (("before", "params"), True, "report.before.params` must be int"),
        (("frontier", 1, "kept"), "yes", r"report.frontier\[1\].kept` must be bool"),
        (("frontier",), {}, "report.frontier` must be"),
        (("layers", 0, "inputs"), [0.5], r"inputs\[0\]` must be int"),
        (("seconds", "score"), [], r"report.seconds\['score'\]` must be float"),
        (("training", "epochs", 0), 3, r"epochs\[0\]` must be"),
        (("training", "more"), 3, "known entries only"),
        (("plan", "kept"), {"other": [0]}, "must name the same layers"),
        (("format",), "1", "format"),
    ):
        stored = json.loads(report(3).to_json())
        inner = stored
        for step in where[:-1]:
            inner = inner[step]
        inner[where[-1]] = value
        yield pytest.param(stored, told, id=".".join(map(str, where)))


@pytest.mark.parametrize("stored, told", [*broken()])
def test_a_value_that_does_not_belong_there_is_named(stored, told, tmp_path):
    file = tmp_path / "report.json"
    file.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=f"(?s)must hold a report.*{told}.*report.save"):
        Report.load(file)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b"null"])
def test_another_file_is_refused(content, tmp_path):
    file = tmp_path / "other.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=f"must hold a report.*{re.escape(str(file))}"):
        Report.load(file)


def test_the_verdict_tells_what_was_measured():
    measured = PLAIN.measured("accuracy", (0.9, 0.8), (4.0, 2.0))
    assert measured.metric == (0.9, 0.8) and measured.latency_ms == (4.0, 2.0)
    assert measured.verdict == (
        "net: parameters 9 → 5 (55.6%), latency 4 → 2 ms, accuracy 0.9000 → 0.8000"
    )
    again = measured.measured(latency_ms=(3.0, 1.0))
    assert again.metric == (0.9, 0.8) and again.latency_ms == (3.0, 1.0)
    assert [each.number for each in again.frontier] == [0, 1]


def test_what_was_measured_after_rounds_is_that_of_the_last_one_kept():
    given = report(3, rounds=5)  # of which 2 and 5 were undone
    measured = given.measured(latency_ms=(9.0, 8.0))
    assert [p.latency_ms for p in measured.frontier if p.number in (0, 4)] == [9.0, 8.0]
    assert [p.metric for p in measured.frontier] == [p.metric for p in given.frontier]
