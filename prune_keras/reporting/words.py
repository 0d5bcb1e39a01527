"""Words: a report as text."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from prune_keras.accounting import METRICS, Cost
from prune_keras.text import printable

SAID = {"params": "parameters", "flops": "FLOPs", "weight_bytes": "bytes"}


def verdict(report: Any) -> str:
    """Return one line on costs, latency and metric, before and after."""
    told = [f"{name} {a} → {b} ({share})" for name, a, b, share in compared(report)]
    return f"{printable(report.name)}: " + ", ".join(each.removesuffix(" ()") for each in told)


def compared(report: Any) -> list[tuple[str, str, str, str]]:
    """Return name, before, after and share that remains, of all that is known of both."""
    whole = report.of or report.before
    shares = report.after.share_of(whole)
    told = [
        (said, sized(getattr(whole, n), n), sized(getattr(report.after, n), n), f"{shares[n]:.1%}")
        for n, said in SAID.items()
        if n in shares
    ]
    first, last = report.latency_ms
    if first is not None and last is not None:
        told.append(("latency", f"{first:.3g}", f"{last:.3g} ms", ""))
    first, last = report.metric
    if first is not None and last is not None:
        told.append((printable(report.metric_name), f"{first:.4f}", f"{last:.4f}", ""))
    return told


def sized(amount: int, metric: str) -> str:
    """Return an amount as it is said: with its magnitude, bytes in kB and MB.

    Example:

    >>> sized(25_557_032, "params"), sized(102_228_128, "weight_bytes"), sized(58, "params")
    ('25.6 M', '102 MB', '58')
    >>> sized(999_600, "params"), sized(999_400, "params")
    ('1 M', '999 k')
    """
    end = "B" if metric.endswith("bytes") else ""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if float(f"{amount:.3g}") >= factor:  # 999,600 is said as a million
            return f"{amount / factor:.3g} {unit}{end}"
    return f"{amount} {end}".strip()


def rendered(report: Any) -> str:
    """Return costs, widths of layers, seconds, and what is fixed."""
    console = Console(width=100, no_color=True, highlight=False, markup=False, emoji=False)
    whole = report.of or report.before
    lines = [f"scores: {report.scores}"] if report.scores else []
    took = ", ".join(f"{phase} {seconds:.1f}" for phase, seconds in report.seconds.items())
    lines += [f"seconds of rounds: {took}"] if took else []
    lines += [f"step {n}: {_remains(cost, whole)}" for n, cost in enumerate(report.steps, 1)]
    lines += [f"fixed: {fixed}" for fixed in report.fixed]
    lines += [f"note: {note}" for note in report.notes]
    with console.capture() as captured:
        console.print(verdict(report), soft_wrap=True)
        console.print(_cost_table(report))
        if report.outcomes:
            console.print(_outcome_table(report.outcomes))
        console.print(width_table(report.widths))
        for each in lines:
            console.print(printable(each), soft_wrap=True)
    return captured.get()


def _remains(cost: Cost, whole: Cost) -> str:
    """Return what a cost has of another one, metric by metric."""
    return ", ".join(f"{m} {share:.1%}" for m, share in cost.share_of(whole).items())


def _cost_table(report: Any) -> Table:
    table = Table(title=printable(report.name))
    costs = {} if report.of is None else {"original": report.of}
    costs |= {"before": report.before, "after": report.after}
    for heading in ("", *costs, "remains"):
        table.add_column(heading, justify="right" if heading else "left")
    shares = report.after.share_of(report.of or report.before)
    for metric in METRICS:
        amounts = [getattr(cost, metric) for cost in costs.values()]
        if None not in amounts:
            share = f"{shares[metric]:.1%}" if metric in shares else ""
            table.add_row(metric, *(f"{amount:,}" for amount in amounts), share)
    return table


def _outcome_table(outcomes: Any) -> Table:
    heads, rows = outcome_rows(outcomes)
    table = Table(title="models at the end")
    for heading in heads:
        table.add_column(heading, justify="left" if heading == heads[0] else "right")
    for row in rows:
        table.add_row(*row)
    return table


def outcome_rows(outcomes: Any) -> tuple[list[str], list[list[str]]]:
    """Return headings and a row of texts for each model; of what was not measured an empty one.

    Example:

    >>> from prune_keras.reporting.parts import Outcome
    >>> outcome_rows([Outcome("dense", {"accuracy": 0.91, "bytes": 1536.0, "ms": None})])
    (['model', 'accuracy', 'bytes', 'ms'], [['dense', '0.9100', '1,536', '']])
    """
    names = list(dict.fromkeys(name for each in outcomes for name in each.values))
    columns = [_column([each.values.get(name) for each in outcomes]) for name in names]
    rows = zip([printable(each.name) for each in outcomes], *columns, strict=True)
    return ["model", *map(printable, names)], [list(row) for row in rows]


def _column(values: list[float | None]) -> list[str]:
    """Return texts of a column: whole numbers, if all of them are."""
    known = [float(value) for value in values if value is not None]
    form = ",.0f" if all(map(float.is_integer, known)) else ",.4f"
    return ["" if value is None else f"{value:{form}}" for value in values]


def width_table(widths: Any) -> Table:
    """Return a table of units before and after, a row a layer."""
    table = Table(title="units of each layer")
    for heading in ("layer", "before", "after", "remains"):
        table.add_column(heading, justify="left" if heading == "layer" else "right")
    for path, (before, after) in widths.items():
        table.add_row(printable(path), str(before), str(after), f"{after / before:.0%}")
    return table
