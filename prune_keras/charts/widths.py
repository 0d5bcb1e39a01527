"""Widths: the units of each layer before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from prune_keras.charts.style import BLUE, PALE, axes_of, height_of, in_style, legend, rows
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
    places = range(len(layers))
    left = [each.left for each in layers]
    gone = [each.units - each.left for each in layers]
    ax.barh(places, left, 0.72, color=BLUE, label="stays")
    ax.barh(
        places,
        gone,
        0.72,
        left,
        color="none",
        edgecolor=PALE,
        hatch="/////",
        linewidth=0.6,
        label="removed",
    )
    most = max((each.units for each in layers), default=1)
    for place, each in zip(places, layers, strict=True):
        told = f"{each.units}" if each.left == each.units else f"{each.units} → {each.left}"
        ax.annotate(
            told,
            (each.units, place),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            annotation_clip=True,
        )
    ax.set_xlim(0, most * 1.25)
    ax.set_xlabel("units")
    ax.grid(axis="x")
    ax.figure.draw_without_rendering()
    rows(ax, [each.path for each in layers])
    legend(ax, ncols=2)
    return ax.figure
