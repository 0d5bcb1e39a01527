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
    text = re.sub(
        r"<!--.*?-->\n?|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S
    )
    return re.sub(r"<[^>]*>", lambda tag: _adapted(tag[0], name), text).strip()


def _adapted(tag: str, name: str) -> str:
    """Return a tag with ids of its own and the page's colours and size.

    What a chart shows stands between tags, and stays as it is.
    """
    if tag.startswith("<svg"):
        tag = re.sub(r'\s(?:xmlns|xmlns:xlink|width|height|version)="[^"]*"', "", tag)
    tag = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", tag)
    for colour, variable in _THEMED.items():
        tag = tag.replace(colour, f"var(--pk-{variable})")
    return tag
