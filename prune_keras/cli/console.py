"""What the command line shows: rows of plain values as tables, and lines that are never wrapped."""

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prune_keras.text import printable, printable_lines


def say(line, stderr=False, style=None):
    """Print a line as it is: no markup, no colours for numbers, no wrapping.

    What might move the cursor or hide text, in a name say, is shown escaped.
    """
    _print(printable(line), stderr, style)


def _print(text, stderr=False, style=None):
    Console(stderr=stderr).print(
        text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True
    )


def show_report(report):
    """Print a report, or its text."""
    _print(printable_lines(report))


def complain(line):
    """Print a line to standard error, in red; messages of Keras have several."""
    _print(printable_lines(line), stderr=True, style="red")


def show_graph(model, graph):
    """Print a traced model: its layers, its families, what is fixed and why, and its cost."""
    show_table(f"Layers of {graph.name}", _layer_rows(model, graph))
    show_table("Families", _family_rows(graph))
    for line in graph.fixed:
        say(f"Cannot be pruned: {line}")
    cost = graph.cost
    say(f"{cost.params:,} parameters, {as_text(cost.flops)} FLOPs, {cost.neurons:,} neurons")


def show_run(result, output):
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


def _turned(rows):
    """Return a row for every value and a column for every network, which fits a terminal."""
    names = [name for name in rows[0] if name != "network"]
    return [
        {"": name.replace("_", " ")} | {row["network"]: as_text(row[name]) for row in rows}
        for name in names
    ]


def _layer_rows(model, graph, prefix=""):
    """Return a row for every layer with parameters, those of nested models included."""
    rows = []
    for layer in model.layers:
        path = prefix + layer.name
        if hasattr(layer, "layers"):
            rows += _layer_rows(layer, graph, f"{path}/")
        elif layer.weights:
            rows.append(_layer_row(path, layer, graph))
    return rows


def _layer_row(path, layer, graph):
    producer = graph.producers.get(path)
    return {
        "layer": path,
        "type": type(layer).__name__,
        "units": "" if producer is None else len(producer.neurons),
        "prunable": "" if producer is None else int(producer.prunable.sum()),
        "family": ", ".join(f.name for f in graph.families if path in f.paths),
        "parameters": layer.count_params(),
        "FLOPs": _flops(layer, graph),
    }


def _flops(layer, graph):
    """Return two for each multiply-add with the layer's weights, `None` where sizes are unknown."""
    owned = {id(variable) for variable in layer.weights}
    flops = 0
    for weight in graph.weights:
        if id(weight.variable) in owned:
            if weight.times is None:
                return None
            flops += 2 * weight.times * math.prod(weight.variable.shape)
    return flops


def _family_rows(graph):
    return [
        {"family": f.name, "neurons": f.size, "layers": ", ".join(f.paths)} for f in graph.families
    ]


def show_table(title, rows):
    """Print dictionaries as a table; texts stand left, numbers right."""
    if not rows:
        return
    table = Table(title=Text(printable(title)), title_justify="left")
    for name in rows[0]:
        is_text = any(_is_word(row[name]) for row in rows)
        table.add_column(
            name.replace("_", " "), justify="left" if is_text else "right", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(printable(as_text(value))) for value in row.values()))
    Console().print(table)


def _is_word(value):
    return isinstance(value, str) and value[:1].isalpha()


def as_text(value):
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
