"""Architecture: the layers from input to output, as wide as they are, and what feeds what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from prune_keras.charts.style import (
    BLUE,
    GREEN,
    INK,
    PALE,
    axes_of,
    figure_of,
    height_of,
    in_style,
    rows,
)
from prune_keras.reporting.parts import Layer

LANE = 0.075
"""What a skip stands further out than one that it would cross, as a share of the widest layer."""


@in_style
def draw(layers: Sequence[Layer], ax: Any = None) -> Figure:
    """Draw each layer's width to scale, hatched where it was cut, with the skips beside.

    Args:
        layers: the layers in the order of the graph, and what each of them reads.
        ax: the axes to draw in. Defaults to None: a new figure, as high as it needs to be.

    Returns:
        The figure.
    """
    ax = axes_of(ax, height_of(len(layers)) - 0.3)
    wide = max((each.units for each in layers), default=1)
    for place, each in enumerate(layers):
        _merge(ax, place, each) if each.merges else _bar(ax, place, each)
    most = _edges(ax, layers, wide)
    ax.set_xlim(-0.56 * wide, (0.56 + LANE * (most + 1)) * wide)
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    figure_of(ax).draw_without_rendering()
    rows(ax, [_named(each) for each in layers], 34)
    return figure_of(ax)


def _named(layer: Layer) -> str:
    if layer.merges:
        return layer.path
    return f"{layer.path} {layer.units}" + ("" if layer.left == layer.units else f" → {layer.left}")


def _bar(ax: Any, place: int, layer: Layer) -> None:
    """Draw what stays in the middle, and what went on both sides of it."""
    gone = (layer.units - layer.left) / 2
    ax.barh(place, layer.left, 0.7, -layer.left / 2, color=BLUE)
    if gone:
        how = {"color": "none", "edgecolor": PALE, "hatch": "//////", "linewidth": 0.6}
        ax.barh([place] * 2, [gone] * 2, 0.7, [-layer.units / 2, layer.left / 2], **how)


def _merge(ax: Any, place: int, layer: Layer) -> None:
    """Draw a ring, crossed where several tensors meet; an input has nothing to merge."""
    ax.plot(0, place, "o", ms=6, mfc="none", mec=GREEN, mew=1.2)
    if layer.inputs:
        ax.plot(0, place, "+", ms=4, color=GREEN, mew=1.2)


def _edges(ax: Any, layers: Sequence[Layer], wide: float) -> int:
    """Draw what feeds what: to the next row straight, to others round it; return how many lanes."""
    skips = []
    for place, each in enumerate(layers):
        for source in each.inputs:
            if source == place - 1:
                ax.plot([0, 0], [source, place], color=INK, lw=0.9, zorder=0)
            elif source != place:
                skips.append((min(source, place), max(source, place)))
    lanes = _lanes(skips)
    for (start, end), lane in lanes.items():
        widest = max(0.18 * wide, *(each.units / 2 for each in layers[start : end + 1]))
        _skip(ax, start, end, widest + LANE * wide * (lane + 0.8), layers)
    return max(lanes.values(), default=-1) + 1


def _lanes(skips: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """Return a lane for each skip, short ones inside, so that none lies on another one.

    Example:

    >>> _lanes([(0, 5), (1, 3), (3, 5)])
    {(1, 3): 0, (3, 5): 0, (0, 5): 1}
    """
    lanes: dict[tuple[int, int], int] = {}
    for start, end in sorted(set(skips), key=lambda each: (each[1] - each[0], each)):
        taken = {lane for (a, b), lane in lanes.items() if a < end and start < b}
        lanes[start, end] = next(n for n in range(len(taken) + 1) if n not in taken)
    return lanes


def _skip(ax: Any, start: int, end: int, out: float, layers: Sequence[Layer]) -> None:
    """Draw a line from the right of one row to the right of another one."""
    from_, to = (layers[n].units / 2 for n in (start, end))
    bend = min(0.5, (end - start) / 3)
    points = [
        (from_, start),
        (out, start),
        (out, start + bend),
        (out, end - bend),
        (out, end),
        (to, end),
    ]
    codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3]
    line = PathPatch(Path(points, codes), fc="none", ec=GREEN, lw=1.0, zorder=0)
    ax.add_patch(line)
