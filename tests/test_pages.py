"""Every Python block of README.md and docs/ runs, and prints what it shows."""

import re
from pathlib import Path

import page_examples
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# What takes more than five seconds of a processor.
SLOW = {
    "docs/how-to/inside-fit",
    "docs/how-to/latency-and-memory",
    "docs/how-to/microcontrollers",
    "docs/how-to/several-gpus",
    "docs/how-to/vgg16",
    "docs/index",
    "docs/quick-start",
}


def name_of(page):
    return page.relative_to(ROOT).with_suffix("").as_posix()


def cases():
    for page in PAGES:
        if page_examples.BLOCK.search(page.read_text(encoding="utf-8")):
            marks = pytest.mark.slow if name_of(page) in SLOW else ()
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", [*cases()])
def test_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page_examples.run(page, page_examples.world(monkeypatch))


def test_every_block_says_what_it_holds():
    fence = re.compile(r"^ *```(\S*)", re.MULTILINE)
    for page in PAGES:
        opening = fence.findall(page.read_text(encoding="utf-8"))[::2]
        assert {*opening} <= {"bash", "pycon", "python", "text"}, page


def test_slow_pages_are_pages():
    assert SLOW <= {name_of(page) for page in PAGES}
