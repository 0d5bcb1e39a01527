"""SVG: a figure as a piece of a page, in the page's colours."""

from __future__ import annotations

import io
import re

import matplotlib
from matplotlib.figure import Figure

from prune_keras.charts.style import GRID, INK, PALE, styled

# Colours that follow the page's, by name of the variable that holds them there.
_THEMED = {INK: "ink", PALE: "pale", GRID: "grid"}


def inline(figure: Figure, name: str) -> str:
    """Return a figure as an `<svg>` that stands in a page and loads nothing.

    Args:
        figure: the figure.
        name: what its ids begin with, so that several charts can stand in one page.
    """
    stream = io.StringIO()
    with styled(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", transparent=True)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\s(?:xmlns|xmlns:xlink)="[^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.S)
    text = _named(text, name)
    for colour, variable in _THEMED.items():
        text = text.replace(colour, f"var(--pk-{variable})")
    return text.strip()


def _named(text: str, name: str) -> str:
    """Return the text with ids of its own; what a chart shows stands between tags, not in them."""

    def renamed(tag: re.Match) -> str:
        return re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", tag[0])

    return re.sub(r"<[^>]*>", renamed, text)
