"""What the command line shows: tables of plain values, and lines that are never wrapped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from prune_keras.text import printable, printable_lines

if TYPE_CHECKING:
    from pathlib import Path

    from prune_keras.graph import Graph
    from prune_keras.models.records import Row
    from prune_keras.models.runs import Result

_WIDE = 100_000  # columns of what is no screen: a pipe or a file


def say(line: object, stderr: bool = False, style: str | None = None) -> None:
    """Print a line as it is: no markup, no colours for numbers, no wrapping.

    What might move the cursor or hide text, in a name say, is shown escaped.
    """
    _print(printable(line), stderr, style)


def _print(text: str, stderr: bool = False, style: str | None = None) -> None:
    Console(stderr=stderr).print(
        text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def show_report(report: object) -> None:
    """Print a report, or its text."""
    _print(printable_lines(report))


def complain(line: str) -> None:
    """Print a line to standard error, in red; messages of Keras have several."""
    _print(printable_lines(line), stderr=True, style="red")


def show_graph(model: Any, graph: Graph, everything: bool = False) -> None:
    """Print a traced model: what can be reached, its layers, families, what is fixed, its cost.

    Args:
        model: the model.
        graph: what `prune_keras.trace` made of it.
        everything: whether layers without units are shown, too. Defaults to False.
    """
    from prune_keras.cli.inspecting import overview  # which brings Keras

    found = overview(model, graph)
    say(_verdict(graph, found))
    rows = [row for row in found["layers"] if everything or row["units"] is not None]
    show_table("Layers", [_shown(row) for row in rows], optional=("type", "FLOPs"))
    spanning = [each for each in found["families"] if len(each["layers"]) > 1]
    show_table("Families that span layers", [_joined(each) for each in spanning])
    for line in graph.fixed:
        say(f"Cannot be pruned: {line}")
    for note in graph.notes:
        say(f"Note: {note}")
    cost = graph.cost
    say(f"{cost.params:,} parameters, {as_text(cost.flops)} FLOPs, {cost.neurons:,} neurons")


def _verdict(graph: Graph, found: dict[str, Any]) -> str:
    kept = sum(fixed.units for fixed in graph.fixed)
    return (
        f"{graph.name}: {found['reached']:.1%} of the parameters can be reached, by "
        f"{found['neurons']:,} neurons in {len(graph.families)} families; {kept:,} units are fixed."
    )


def _shown(row: Row) -> Row:
    """Return a row for the screen; a family is named where it is not the layer's own."""
    others = [name for name in row["families"] if name != row["layer"]]
    blank = {name: "" for name in ("units", "prunable") if row[name] is None}
    return row | blank | {"families": ", ".join(others)}


def _joined(family: Row) -> Row:
    return family | {"layers": ", ".join(family["layers"])}


def show_run(result: Result, output: Path) -> None:
    """Print what a run came to: the report, a line a network, and the files."""
    show_report(result.report)
    show_table("Test images looked at once, at the end", _turned(result.rows))
    for pair in result.pairs:
        say(
            "Test images, {first} less {second}: {difference:+.1%}, in 95 % of resamples "
            "{low:+.1%} to {high:+.1%}".format(**pair)
        )
    for text in result.files.values():
        say(text)
    say(f"Tables and pictures: {output}")


def _turned(rows: list[Row]) -> list[Row]:
    """Return a row for every value and a column for every network, which fits a terminal."""
    names = [name for name in rows[0] if name != "network"]
    return [
        {"": name.replace("_", " ")} | {row["network"]: as_text(row[name]) for row in rows}
        for name in names
    ]


def show_table(title: str, rows: list[Row], optional: Sequence[str] = ()) -> None:
    """Print dictionaries as a table; texts stand left, numbers right, and nothing is broken.

    Args:
        title: what the table shows.
        rows: one dictionary a row, of the same names.
        optional: columns that a narrow screen goes without, the first one first. A pipe or a file
            gets all of them.
    """
    if not rows:
        return
    table, width = _table(title, rows), _screen_width()
    for name in optional:
        if _width_of(table) > width:
            rows = [{key: row[key] for key in row if key != name} for row in rows]
            table = _table(title, rows)
    Console(width=max(width, _width_of(table))).print(table)


def show_json(value: Any) -> None:
    """Print a value as JSON, where a program reads on."""
    _print(json.dumps(value, indent=1))


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD)
    for name in rows[0]:
        is_text = any(_is_word(row[name]) for row in rows)
        table.add_column(
            name.replace("_", " "), justify="left" if is_text else "right", no_wrap=True
        )
    for row in rows:
        table.add_row(*(Text(printable(as_text(value))) for value in row.values()))
    return table


def _screen_width() -> int:
    screen = Console()
    return screen.width if screen.is_terminal else _WIDE


def _width_of(table: Table) -> int:
    wide = Console(width=_WIDE)
    return Measurement.get(wide, wide.options, table).maximum


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value[:1].isalpha()


def as_text(value: Any) -> str:
    """Return a value as a table shows it.

    Example:

    >>> as_text(1250858), as_text(0.9173), as_text(None)
    ('1,250,858', '0.9173', 'unknown')
    """
    if value is None:
        return "unknown"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1 else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
