"""Scores: how they lie in each family, as measured and as they were compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from prune_keras.charts.style import (
    BLUE,
    INK,
    ORANGE,
    SKY,
    figure_of,
    height_of,
    in_style,
    legend,
    panels_of,
    rows,
)
from prune_keras.reporting.parts import Distribution


@in_style
def draw(distributions: Sequence[Distribution], ax: Any = None) -> Figure:
    """Draw where the scores of each family lie: all of them, the middle half, and the median.

    Scores as measured stand on the left, those that families were compared by on the right; where
    they lie far apart, on a logarithmic axis, which is even about zero if some are not positive.

    Args:
        distributions: how the scores of each family are spread.
        ax: the axes to draw in, which are halved. Defaults to None: a new figure.

    Returns:
        The figure.
    """
    left, right = panels_of(ax, 2, height_of(len(distributions)))
    _panel(left, [each.raw for each in distributions], "score as measured")
    _panel(right, [each.debiased for each in distributions], "score compared by")
    for place, each in enumerate(distributions):
        _edge(right, place, each)
    names = [f"{each.family}" for each in distributions]
    right.set_yticks([])
    right.set_ylim(len(names) - 0.4, -0.6)
    legend(left, ncols=3, columnspacing=1.2, outside=ax is None)
    figure_of(left).draw_without_rendering()
    rows(left, names, 20)
    return figure_of(left)


def _panel(ax: Any, families: Sequence[tuple[float, ...]], label: str) -> None:
    known = [(place, each) for place, each in enumerate(families) if each]
    for place, each in known:
        first = place == known[0][0]
        named = ("all", "middle half", "median") if first else ("", "", "")
        ax.plot([each[0], each[-1]], [place] * 2, color=SKY, lw=1.6, label=named[0])
        ax.barh(place, each[15] - each[5], 0.5, each[5], color=BLUE, label=named[1])
        ax.plot(each[10], place, "|", color=ORANGE, ms=6, mew=2, label=named[2])
    if known and _spans(known):
        _by_powers(ax, [each for _, each in known])
    ax.set_xlabel(label)
    ax.tick_params(axis="x", labelsize=7)
    ax.set_axisbelow(True)
    ax.grid(axis="x")


def _by_powers(ax: Any, families: Sequence[tuple[float, ...]]) -> None:
    """Let powers of ten be as far from each other; below what most scores exceed, even steps."""
    if all(each[0] > 0 for each in families):
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=4))
    else:
        least = min(abs(score) for each in families for score in each[5::5] if score)
        ax.set_xscale("symlog", linthresh=least)
        ax.xaxis.get_major_locator().set_params(numticks=4)
    ax.xaxis.set_major_formatter(lambda value, _: _power(value))
    ax.xaxis.set_minor_locator(NullLocator())


def _power(value: float) -> str:
    """Return a power of ten as an axis has room for it.

    Example:

    >>> _power(100.0), _power(1e6), _power(1e-5)
    ('100', '1e6', '1e-5')
    """
    text = f"{value:g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return text if len(text) <= 4 else f"{mantissa}e{int(exponent)}"


def _spans(known: Sequence[tuple[int, tuple[float, ...]]]) -> bool:
    """Tell whether scores lie so far apart that an even axis would hide the small ones."""
    return max(each[-1] for _, each in known) > 30 * min(each[10] for _, each in known)


def _edge(ax: Any, place: int, each: Distribution) -> None:
    """Mark below which score the cut took what it took of a family, as near as quantiles tell."""
    if each.debiased and 0 < each.removed:
        share = min(each.removed / each.neurons, 1.0)
        number = round(share * (len(each.debiased) - 1))
        x = each.debiased[number]
        ax.plot([x, x], [place - 0.42, place + 0.42], color=INK, lw=1.2, label="")
