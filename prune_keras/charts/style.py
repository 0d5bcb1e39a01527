"""Style: the colours, sizes and names that all charts share."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from prune_keras.text import printable

# Okabe and Ito, https://jfly.uni-koeln.de/color/: told apart by all kinds of colour vision.
BLUE, ORANGE, GREEN, PINK = "#0072b2", "#e69f00", "#009e73", "#cc79a7"
RED, SKY = "#d55e00", "#56b4e9"
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY)

# What a page turns into its own colours, so that one drawing fits light and dark.
INK, PALE, GRID = "#1b1b1d", "#b9bcc2", "#dfe0e3"

WIDTH = 4.5
"""Inches: text is readable on a phone, whose screen is about as wide."""

ROW = 0.2
"""Inches that a layer takes: a line of the smallest text, and air."""

_SETTINGS: Any = {
    "text.parse_math": False,  # names may hold dollars
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.0,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.7,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "svg.fonttype": "none",
}


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, and without words on letters that a font lacks."""
    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        yield


def in_style(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function draw in this style."""

    @wraps(function)
    def drawn(*args: Any, **kwargs: Any) -> Figure:
        with styled():
            return function(*args, **kwargs)

    return drawn


def axes_of(ax: Any, height: float, width: float = WIDTH) -> Any:
    """Return the axes to draw in: those given, or those of a new figure of this size in inches."""
    return Figure((width, height), layout="constrained").subplots() if ax is None else ax


def figure_of(ax: Any) -> Figure:
    """Return the whole figure that axes are in, those of a subfigure, too."""
    return ax.figure.figure


def panels_of(ax: Any, number: int, height: float, **how: Any) -> list[Any]:
    """Return several axes side by side: parts of those given, or those of a new figure."""
    if ax is None:
        figure = Figure((WIDTH, height), layout="constrained")
        return [*figure.subplots(1, number, squeeze=False, **how)[0]]
    if number == 1:
        return [ax]
    ax.axis("off")
    return [ax.inset_axes((n / number, 0, 0.88 / number, 1)) for n in range(number)]


def legend(ax: Any, outside: bool = False, **how: Any) -> None:
    """Tell what colours and marks stand for, above the axes, or above all axes of their figure."""
    if outside:  # one that is wider than its axes would take room beside them
        shown = ax.get_legend_handles_labels()
        ax.figure.legend(*shown, loc="outside upper center", **how)
    else:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.3, **how)


def short(name: object, most: int = 28, head: float = 0.5) -> str:
    """Return a name that fits: visible characters only, a part of a long one left out.

    Args:
        name: the name.
        most: number of characters, at most. Defaults to 28.
        head: share of them that stands before what is left out. Defaults to 0.5.

    Example:

    >>> short("conv5_block3_out/attention/query", 16)
    'conv5_b…on/query'
    """
    name = printable(name)
    if len(name) <= most:
        return name
    start = int(head * (most - 1))
    return f"{name[:start]}…{name[len(name) - (most - 1 - start) :]}"


def shortened(names: Sequence[str], most: int = 28) -> list[str]:
    """Return names that fit, shortened where as many as can be stay different.

    Example:

    >>> shortened(["block1/query/of/an/attention", "block2/query/of/an/attention"], 16)
    ['block1/…ttention', 'block2/…ttention']
    """
    ways = [[short(name, most, head) for name in names] for head in (0.5, 0.75, 0.25, 1.0)]
    return max(ways, key=lambda each: len({*each}))


def rows(ax: Any, names: Sequence[str], most: int = 28) -> None:
    """Name the rows of a chart from above, as many as fit without touching."""
    height = ax.get_window_extent().height / ax.figure.dpi  # inches
    step = max(1, -(-len(names) // max(1, int(height / 0.125))))
    shown = range(0, len(names), step)
    size = min(8.0, 72 * height / max(1, len(shown)) * 0.8)
    told = shortened(names, most)
    ax.set_yticks([*shown], [told[n] for n in shown], fontsize=size)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)


def dense(number: int, most: float = 40) -> float:
    """Return by how much marks are to be smaller where there are many: 1 for few of them."""
    return min(1.0, (most / max(number, 1)) ** 0.5)


def height_of(number: int) -> float:
    """Return the inches that a chart of so many rows takes, its axis included."""
    return 1.0 + ROW * max(number, 2)


def number(ax: Any, points: Sequence[tuple[int, float, float | None]]) -> None:
    """Write numbers beside points, each where it touches no other one, or not at all.

    Args:
        ax: the axes, which were drawn.
        points: number and place of each.
    """
    taken: list[Any] = []
    scale = 72 / ax.figure.dpi  # pixels to points
    marks = [ax.transData.transform((x, y)) * scale for _, x, y in points]
    for (told, x, y), (left, low) in zip(points, marks, strict=True):
        half = 2.2 * len(str(told))
        for right, up in ((0, 8), (0, -9), (5 + half, 0), (-5 - half, 0)):
            box = (left + right - half, low + up - 4, left + right + half, low + up + 4)
            dots = [(a - 3, b - 3, a + 3, b + 3) for a, b in marks]
            if not any(_touch(box, other) for other in [*taken, *dots]):
                taken.append(box)
                how = {"ha": "center", "va": "center", "fontsize": 7}
                ax.annotate(str(told), (x, y), (right, up), textcoords="offset points", **how)
                break


def _touch(one: Any, other: Any) -> bool:
    """Tell whether two boxes, left, low, right and high, have a place in common."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
