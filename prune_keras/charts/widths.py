"""Widths: the units of each layer before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from prune_keras.charts.style import (
    BLUE,
    PALE,
    axes_of,
    figure_of,
    height_of,
    in_style,
    legend,
    rows,
)
from prune_keras.reporting.parts import Layer


@in_style
def draw(layers: Sequence[Layer], ax: Any = None) -> Figure:
    """Draw a bar a layer in the order of the graph: what stays, and hatched what went.

    Args:
        layers: the layers; those without units of their own are left out.
        ax: the axes to draw in. Defaults to None: a new figure, as high as it needs to be.

    Returns:
        The figure.
    """
    layers = [each for each in layers if not each.merges]
    ax = axes_of(ax, height_of(len(layers)))
    _bars(ax, layers)
    for place, each in enumerate(layers):
        _tell(ax, place, each)
    most = max((each.units for each in layers), default=1)
    ax.set_xlim(0, most * 1.25)
    ax.set_xlabel("units")
    ax.set_axisbelow(True)
    ax.grid(axis="x")
    figure_of(ax).draw_without_rendering()
    rows(ax, [each.path for each in layers])
    legend(ax, ncols=2)
    return figure_of(ax)


def _bars(ax: Any, layers: Sequence[Layer]) -> None:
    """Draw what stays of each layer, and behind it what is removed."""
    places, left = range(len(layers)), [each.left for each in layers]
    gone = [each.units - each.left for each in layers]
    ax.barh(places, left, 0.72, color=BLUE, label="stays")
    hatched = {"color": "none", "edgecolor": PALE, "hatch": "/////", "linewidth": 0.6}
    ax.barh(places, gone, 0.72, left, label="removed", **hatched)


def _tell(ax: Any, place: int, layer: Layer) -> None:
    """Write the units of a layer behind its bar."""
    units, left = layer.units, layer.left
    told = f"{units}" if left == units else f"{units} → {left}"
    where = {"textcoords": "offset points", "va": "center", "annotation_clip": True}
    ax.annotate(told, (units, place), (3, 0), fontsize=7, **where)
