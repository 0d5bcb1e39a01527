"""Page: a report as HTML that needs nothing beside itself, neither files nor scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from prune_keras.charts.svg import inline
from prune_keras.reporting.words import compared, outcome_rows, sized
from prune_keras.text import printable, printable_lines

STYLE = """
.pk{--pk-ink:#1b1b1d;--pk-pale:#a5a8ae;--pk-grid:#e3e4e8;--pk-back:#fff;--pk-card:#f5f6f8;
--pk-dim:#5c6068;--pk-good:#00694c;--pk-bad:#a33f00;color:var(--pk-ink);background:var(--pk-back);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
-webkit-text-size-adjust:100%;color-scheme:light dark}
@media (prefers-color-scheme:dark){.pk{--pk-ink:#e8e8ea;--pk-pale:#7d818a;--pk-grid:#34363c;
--pk-back:#17181b;--pk-card:#212327;--pk-dim:#a3a7b0;--pk-good:#4fd0a8;--pk-bad:#ff9d5c}}
.pk *{box-sizing:border-box}
.pk main{max-width:76rem;margin:0 auto;padding:1rem}
.pk h1{font-size:1.35rem;margin:.2rem 0;overflow-wrap:anywhere}
.pk h2{font-size:1.05rem;margin:0 0 .4rem}
.pk p{margin:.3rem 0}
.pk .dim{color:var(--pk-dim);font-size:.875rem}
.pk .cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.5rem,1fr));gap:.6rem;
margin:.8rem 0}
.pk .card,.pk section{background:var(--pk-card);border-radius:.5rem;padding:.7rem .9rem;min-width:0}
.pk .card b{display:block;font-size:1.35rem;line-height:1.25;font-variant-numeric:tabular-nums}
.pk .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));
gap:.8rem;align-items:start}
.pk .charts section:only-child{max-width:45rem}
.pk figure{margin:0;max-height:min(46rem,85vh);overflow-y:auto}
@media print{.pk figure{max-height:none}}
.pk svg{display:block;width:100%;max-width:40rem;height:auto}
.pk svg text{font-family:system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",
sans-serif!important}
.pk .more{display:grid;gap:.8rem;margin-top:.8rem}
.pk .scroll{overflow-x:auto}
.pk table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums;width:100%}
.pk th,.pk td{text-align:right;padding:.2rem .5rem;border-bottom:1px solid var(--pk-grid);
white-space:nowrap}
.pk th{color:var(--pk-dim);font-weight:600}
.pk td.t,.pk th.t{text-align:left;white-space:normal;overflow-wrap:anywhere}
.pk td.n,.pk th.n{text-align:left}
.pk summary{cursor:pointer;font-weight:600}
.pk pre{white-space:pre-wrap;overflow-wrap:anywhere;margin:.4rem 0;font-size:.875rem}
.pk ul{margin:.2rem 0;padding-left:1.2rem;overflow-wrap:anywhere}
.pk .good{color:var(--pk-good)}.pk .bad{color:var(--pk-bad)}
body.pk{margin:0}
@media(max-width:36rem){.pk main{padding:.5rem}.pk .card,.pk section{padding:.6rem}}
"""


def page(report: Any) -> str:
    """Return the report as a whole page."""
    title = escape(printable(f"{report.name}, pruned"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>"
        f'<body class="pk"><main>{_body(report)}</main></body></html>\n'
    )


def fragment(report: Any) -> str:
    """Return the report as a piece of another page."""
    return f'<div class="pk"><style>{STYLE}</style><main>{_body(report)}</main></div>'


def _body(report: Any) -> str:
    head = f"<h1>{_text(report.name)}</h1>{_told_by(report)}{_cards(report)}"
    charts = "".join(_charts(report))
    more = "".join(_more(report))
    return (
        f'<header>{head}</header><div class="charts">{charts}</div><div class="more">{more}</div>'
    )


def _text(value: object) -> str:
    """Return text for a page: nothing in it is a tag, and nothing is invisible."""
    return escape(printable(value))


def _told_by(report: Any) -> str:
    told = [f"scored by {report.scores}"] if report.scores else []
    told += (
        [f"{sum(not p.kept for p in report.frontier)} rounds rolled back"]
        if any(not p.kept for p in report.frontier)
        else []
    )
    return f'<p class="dim">{_text("; ".join(told))}</p>' if told else ""


def _cards(report: Any) -> str:
    cards = (
        f'<div class="card"><span class="dim">{_text(name)}</span>'
        f"<b>{_text(share or after)}</b>"
        f'<span class="dim">{_text(before)} → {_text(after)}</span></div>'
        for name, before, after, share in compared(report)
    )
    return f'<div class="cards">{"".join(cards)}</div>'


def _charts(report: Any) -> Iterable[str]:
    for name, title, told, draw in _known(report):
        yield (
            f'<section id="pk-{name}"><h2>{_text(title)}</h2><figure role="img" tabindex="0" '
            f'aria-label="{_text(title)}">{inline(draw(), f"pk-{name}")}</figure>'
            f'<p class="dim">{_text(told)}</p></section>'
        )


def _known(report: Any) -> Iterable[tuple[str, str, str, Callable[[], Any]]]:
    """Yield name, title, caption and drawing of the charts that there is something for."""
    if any(each.metric is not None for each in report.frontier):
        told = "Each point is the model at the end of a round; 0 is the start."
        yield "frontier", "What each size is worth", told, report.plot_frontier
    if report.training and report.training.epochs:
        told = "Each thin line is a cut, numbered; what is shaded was rolled back."
        yield "curves", "The fit", told, report.plot_curves
    if report.rows:
        told = "In the order of the graph; hatched: removed."
        yield "widths", "Units of each layer", told, report.plot_widths
    if report.layers:
        told = "Each layer as wide as it is; hatched: removed; green: what goes round other layers."
        yield "architecture", "Architecture", told, report.plot_architecture
    if report.distributions:
        told = "As the first cut was chosen. Upright marks: the cut took what lies below."
        yield "scores", "Scores of each family", told, report.plot_scores
    if report.seconds:
        yield "seconds", "Where the time of cuts went", "Over all rounds.", report.plot_seconds


def _more(report: Any) -> Iterable[str]:
    if report.outcomes:
        heads, cells = outcome_rows(report.outcomes)
        heads = [f"{heads[0]}|", *heads[1:]]
        yield _details("Models at the end", _table(heads, cells), True)
    if report.frontier:
        yield _details("Rounds", _rounds(report), len(report.frontier) < 13)
    rows = (
        (e.path, e.kind, e.units, e.left, f"{e.left / e.units:.0%}")
        for e in report.rows
        if not e.merges
    )
    yield _details("Widths", _table(("layer|", "type|", "before", "after", "remains"), rows))
    if report.families:
        coupled = (
            (", ".join(e.paths), e.neurons, e.left) for e in report.families if len(e.paths) > 1
        )
        yield _details(
            "Coupled groups",
            _table(("layers that lose the same units|", "before", "after"), coupled),
        )
    if report.fixed:
        fixed = ((each.path, each.units, each.reason) for each in report.fixed)
        yield _details("Not pruned", _table(("layer|", "units", "why|"), fixed), True)
    if report.notes:
        yield _details(
            "Notes", f"<ul>{''.join(f'<li>{_text(n)}</li>' for n in report.notes)}</ul>", True
        )
    yield from _origin(report)


def _origin(report: Any) -> Iterable[str]:
    if report.origin.call:
        code = escape(printable_lines(report.origin.call))
        yield _details("To do it again", f"<pre><code>{code}</code></pre>", True)
    if report.origin.environment:
        rows = report.origin.environment.items()
        yield _details("Environment", _table(("|", "|"), rows))


def _rounds(report: Any) -> str:
    """Return a table of the frontier, without columns in which nothing is known."""
    points = report.frontier
    columns = {
        "round": [each.number for each in points],
        report.metric_name: [_known_or_not(each.metric, "{:.4f}".format) for each in points],
        "FLOPs": [_known_or_not(each.cost.flops, lambda n: sized(n, "flops")) for each in points],
        "parameters": [sized(each.cost.params, "params") for each in points],
        "ms": [_known_or_not(each.latency_ms, "{:.3g}".format) for each in points],
        "!": ["" if each.kept else "rolled back" for each in points],
        "model!": [_known_or_not(each.file, lambda file: PurePath(file).name) for each in points],
    }
    told = {head: column for head, column in columns.items() if any(map(str, column))}
    folders = {str(PurePath(each.file).parent) for each in points if each.file}
    where = f'<p class="dim">Models in {_text(", ".join(sorted(folders)))}</p>' if folders else ""
    return _table([*told], zip(*told.values(), strict=True)) + where


def _known_or_not(value: Any, told: Callable[[Any], str]) -> str:
    return "" if value is None else told(value)


def _details(title: str, inner: str, is_open: bool = False) -> str:
    shown = " open" if is_open else ""
    return f"<section><details{shown}><summary>{_text(title)}</summary>{inner}</details></section>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table; headings end in `|` over words, in `!` over such that stay on one line."""
    kinds = [_KINDS.get(head[-1:], "") for head in heads]
    top = "".join(
        f"<th{kind}>{_text(head[:-1] if kind else head)}</th>"
        for kind, head in zip(kinds, heads, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{_cell(v)}</td>" for k, v in zip(kinds, row, strict=True))
        + "</tr>"
        for row in rows
    )
    table = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


_KINDS = {"|": ' class="t"', "!": ' class="n"'}


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)
