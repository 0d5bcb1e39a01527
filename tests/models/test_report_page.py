"""The page of a report: whole, self-contained, and unmoved by any name."""

import functools
import re
from html.parser import HTMLParser

import pytest
from reports import CHARTS, HOSTILE, report

from prune_keras.accounting import Cost
from prune_keras.plan import Plan
from prune_keras.report import Report
from prune_keras.text import printable

EMPTY = {"meta", "br", "hr", "img", "link", "input"}
LOADING = {"script", "link", "iframe", "object", "embed", "img", "image", "base", "form", "audio"}


class Reader(HTMLParser):
    """Collects tags, attributes and text of a page, and checks that tags are closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.drawn, self._open = [], [], [], [], []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "svg" in self._open:
            self.drawn.append(data)


def assert_self_contained(page, reader):
    """Assert that nothing is run or loaded, and that ids are unique and found."""
    assert not LOADING & {*reader.tags}
    for name, value in reader.attributes:
        assert not name.startswith("on")
        assert name not in ("src", "srcset", "href", "action", "data", "poster")
        if name == "xlink:href":
            assert value.startswith("#")
        assert "http" not in (value or "")
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, re.S))
    assert "@import" not in styles and "url(" not in styles
    ids = [value for name, value in reader.attributes if name == "id"]
    assert len({*ids}) == len(ids)
    used = {value[1:] for name, value in reader.attributes if name == "xlink:href"}
    used |= {*re.findall(r"url\(#(.*?)\)", " ".join(v for _, v in reader.attributes if v))}
    assert used <= {*ids}


def visible(page):
    assert not [c for c in page if not c.isprintable() and c != "\n"]


@functools.cache
def _fragment():
    return report(3)._repr_html_()


@pytest.mark.parametrize("number, name", [(5, "layer{}"), (len(HOSTILE), HOSTILE)])
def test_a_page_holds_all_charts_and_loads_nothing(number, name, tmp_path):
    given = report(number, name=name, monitor="val_<b>$x$\x1b")
    page = given.to_html(tmp_path / "deep" / "report.html")
    assert (tmp_path / "deep" / "report.html").read_text("utf-8") == page
    reader = Reader(page)
    assert ("content", "width=device-width, initial-scale=1") in reader.attributes
    assert_self_contained(page, reader)
    visible(page)
    sections = {
        value for name, value in reader.attributes if name == "id" and value.count("-") == 1
    }
    assert {f"pk-{chart}" for chart in CHARTS} <= sections
    assert reader.tags.count("svg") == len(CHARTS)
    told = "".join(reader.texts)
    for path in given.widths:
        assert printable(path) in told
    assert "<b>$" not in page and "$x$" in "".join(reader.drawn)


def test_charts_follow_the_colours_of_the_page():
    page = _fragment()
    for name in ("ink", "pale", "grid"):
        assert page.count(f"var(--pk-{name})") > 3
        assert page.count(f"--pk-{name}:") == 2  # light and dark
    assert "prefers-color-scheme:dark" in page


def test_a_report_on_little_is_a_page_too():
    given = Report("n", Plan({"a": [0]}, {"a": 2}), Cost(9, None, 2), Cost(5, None, 1), ())
    reader = Reader(given.to_html())
    assert reader.tags.count("svg") == 1
    assert "55.6%" in "".join(reader.texts)


def test_a_notebook_shows_the_same_without_a_page_around_it():
    fragment = _fragment()
    reader = Reader(fragment)
    assert_self_contained(fragment, reader)
    assert not {"html", "body", "head", "title"} & {*reader.tags}
    assert reader.tags.count("svg") == len(CHARTS)
    rules = re.sub(
        r"@media[^{]*\{|\}\}", "}", re.findall(r"<style>(.*?)</style>", fragment, re.S)[0]
    )
    for selectors in re.findall(r"(?:^|\})\s*([^{}@]+)\{", rules):
        for each in selectors.split(","):
            assert ".pk" in each  # nothing else in the notebook looks different


def test_rounds_tell_their_model_files_and_leave_out_what_is_unknown():
    told = "".join(Reader(_fragment()).texts)
    assert "round-001.keras" in told and "rolled back" in told and "Models in /models" in told
