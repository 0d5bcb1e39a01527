"""What models came to at the end stands in a report: as text, on its page, and in its file."""

import html

import pytest
from reports import report as made

from prune_keras import Report

DENSE = {"test accuracy": 0.9125, "bytes": 2048, "ms": 1.5}
THIN = {"test accuracy": 0.9, "bytes": 1024, "ms": None}


@pytest.fixture
def told():
    return made(3).with_outcomes({"dense": DENSE, "thin <b>": THIN})


def test_outcomes_are_told_as_text_and_on_the_page(told):
    text, page = told.render(), told.to_html()
    assert "models at the end" in text and "Models at the end" in page
    for each in ("test accuracy", "0.9125", "0.9000", "2,048", "thin <b>"):
        assert each in text and html.escape(each) in page
    assert "thin <b>" not in page


def test_outcomes_are_stored(told, tmp_path):
    told.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == told


def test_what_is_measured_later_joins_what_was_known(told):
    more = told.with_outcomes({"thin <b>": {"ms": 0.5}, "int8": {"bytes": 300}})
    assert [each.name for each in more.outcomes] == ["dense", "thin <b>", "int8"]
    assert more.outcomes[1].values == THIN | {"ms": 0.5}
    assert told.outcomes[1].values["ms"] is None


def test_a_report_without_outcomes_has_no_table_of_them():
    report = made(3)
    for text in (report.render(), report.to_html()):
        assert "models at the end" not in text.lower()
