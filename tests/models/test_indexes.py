"""The indexes of benchmarks/ and results/: they name all that is there, and nothing else."""

import re
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "setup.cfg").is_file())
LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("folder", ["benchmarks", "results"])
def test_every_link_of_an_index_leads_somewhere(folder):
    links = LINK.findall((ROOT / folder / "README.md").read_text(encoding="utf-8"))
    assert links and not [link for link in links if not (ROOT / folder / link).exists()]


def test_the_index_of_benchmarks_names_every_script_once():
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == set(re.findall(r"\w+\.py", text))
    commands = re.findall(r"`python benchmarks/(\w+\.py)", text)
    assert len(commands) == len(set(commands))


def test_the_index_of_results_names_every_page_and_every_script_that_measures():
    text = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    pages = {path.parent.name for path in (ROOT / "results").glob("*/README.md")}
    assert pages == set(re.findall(r"\((\w+)/README\.md\)", text))
    measuring = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").split("These write")
    assert set(re.findall(r"benchmarks/(\w+\.py)", text)) == set(
        re.findall(r"`python benchmarks/(\w+\.py)", measuring[0])
    )
