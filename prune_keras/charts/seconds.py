"""Seconds: what the time of all cuts went into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from prune_keras.charts.style import BLUE, axes_of, figure_of, height_of, in_style, rows


@in_style
def draw(seconds: Mapping[str, float], ax: Any = None) -> Figure:
    """Draw a bar a phase.

    Args:
        seconds: phase -> seconds.
        ax: the axes to draw in. Defaults to None: a new figure.

    Returns:
        The figure.
    """
    ax = axes_of(ax, height_of(len(seconds)))
    bars = ax.barh(range(len(seconds)), [*seconds.values()], 0.7, color=BLUE)
    ax.bar_label(bars, [f"{each:.3g} s" for each in seconds.values()], padding=3, fontsize=7.5)
    ax.margins(x=0.15)
    ax.set_xlim(left=0)
    ax.set_xlabel("seconds")
    ax.set_axisbelow(True)
    ax.grid(axis="x")
    figure_of(ax).draw_without_rendering()
    rows(ax, [*seconds])
    return figure_of(ax)
