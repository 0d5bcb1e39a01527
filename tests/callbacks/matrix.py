"""What ProgressivePruning works with and what it refuses: the cases of the tests as a table.

The `test_matrix_*.py` of a group list their cases in `CASES`; each of them is run by a test.
`python tests/callbacks/matrix.py` writes docs/callbacks.md from them; a test tells when that is to
be done.
"""

import dataclasses
import importlib
import sys
from pathlib import Path

GROUPS = {
    "callbacks": ("callbacks", "loggers"),
    "optimizers": ("optimizers",),
    "training": ("training",),
}
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "callbacks.md"
BEGIN, END = "<!-- table -->", "<!-- end of table -->"


@dataclasses.dataclass(frozen=True)
class Case:
    """One way to use the callback.

    Args:
        name: what the user does, as the table says it.
        note: what holds then; for what is refused, the words of the error, which the test looks
            for.
        refused: whether it is refused before the first batch.
    """

    name: str
    note: str
    refused: bool = False

    def __str__(self):
        return self.name


def cases(group):
    """Return the cases of a group, those that are refused last."""
    found = [case for name in GROUPS[group] for case in _module(name).CASES]
    return sorted(found, key=lambda case: case.refused)


def _module(group):
    return importlib.import_module(f"test_matrix_{group}")


def table():
    """Return the table in Markdown, one section a group."""
    sections = []
    for group in GROUPS:
        rows = [_row(case) for case in cases(group)]
        heading = f"### {_module(group).TITLE}"
        sections.append("\n".join([heading, "", "| what | | |", "|---|---|---|", *rows]))
    return "\n\n".join(sections)


def _row(case):
    note = f"“{case.note}”" if case.refused else case.note
    return f"| {case.name} | {'refused' if case.refused else 'works'} | {note} |"


def document():
    """Return the page of the documentation with the table as it is now."""
    return filled(DOCUMENT, table())


def filled(page, content):
    """Return a page of the documentation with its table exchanged."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    return f"{before}{BEGIN}\n\n{content}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here), str(here.parent / "conformance")]
    DOCUMENT.write_text(document(), encoding="utf-8")
