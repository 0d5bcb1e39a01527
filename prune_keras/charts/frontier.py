"""Frontier: the metric against what the model costs, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prune_keras.charts.style import (
    BLUE,
    GREEN,
    INK,
    RED,
    dense,
    figure_of,
    in_style,
    legend,
    number,
    panels_of,
    short,
)
from prune_keras.frontier import Point

NAMES = {"flops": "FLOPs", "params": "parameters"}


@in_style
def draw(
    points: Sequence[Point], monitor: str = "", bound: float | None = None, ax: Any = None
) -> Figure:
    """Draw the metric against FLOPs and parameters, as shares of the start.

    Args:
        points: the frontier, its start first.
        monitor: name of the metric. Defaults to `""`.
        bound: the worst metric allowed; a dashed line. Defaults to None: none.
        ax: the axes to draw in, which are halved. Defaults to None: a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: if no point has a metric.
    """
    measured = [each for each in points if each.metric is not None]
    if not measured:
        raise ValueError(
            "A frontier must have a metric to be drawn. Received: points without any. "
            "Pass monitor= and validation data, or report.measured(metric=(before, after))."
        )
    by = [n for n in NAMES if all(getattr(each.cost, n) is not None for each in points)]
    panels = panels_of(ax, len(by), 3.0)
    for panel, name in zip(panels, by, strict=True):
        _panel(panel, measured, getattr(points[0].cost, name), name, bound)
    panels[0].set_ylabel(short(monitor))
    for panel in panels[1:]:
        panel.set_ylim(panels[0].get_ylim())
        panel.tick_params(labelleft=False)
    legend(panels[0], ncols=2, columnspacing=1.2)
    figure_of(panels[0]).draw_without_rendering()
    for panel, name in zip(panels, by, strict=True):
        whole = getattr(points[0].cost, name)
        number(panel, [(p.number, getattr(p.cost, name) / whole, p.metric) for p in measured])
    return figure_of(panels[0])


def _panel(ax: Any, points: list[Point], whole: float, name: str, bound: float | None) -> None:
    size = dense(len(points))
    kept = [each for each in points if each.kept]
    undone = [each for each in points if not each.kept]

    def place(each: Point) -> tuple[float, float | None]:
        return getattr(each.cost, name) / whole, each.metric

    if kept:
        found = zip(*map(place, kept), strict=True)
        ax.plot(*found, color=BLUE, marker="o", ms=4 * size, label="kept")
    if undone:
        found = zip(*map(place, undone), strict=True)
        ax.plot(*found, color=RED, marker="x", ms=6 * size, ls="", label="rolled back")
    if bound is not None:
        ax.axhline(bound, color=INK, ls="--", lw=0.9, label="bound")
    with_file = [each for each in points if each.file]
    if 0 < len(with_file) < len(points):
        found = zip(*map(place, with_file), strict=True)
        ax.plot(*found, "o", ms=8 * size, mew=size, mfc="none", mec=GREEN, label="model on disk")
    ax.set_xlabel(f"{NAMES[name]} that remain")
    ax.xaxis.set_major_formatter(PercentFormatter(1, 0))
    ax.grid()
    ax.margins(0.09, 0.16)
