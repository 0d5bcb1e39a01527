"""Curves: the metric and the loss over epochs, with cuts, roll-backs and the bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from prune_keras.accounting import Cost
from prune_keras.charts.style import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PALE,
    PINK,
    RED,
    WIDTH,
    dense,
    figure_of,
    in_style,
    legend,
    short,
)
from prune_keras.reporting.parts import Cut, Training

SIZES = {"flops": ("FLOPs", ORANGE), "params": ("parameters", GREEN), "neurons": ("neurons", PINK)}


@in_style
def draw(training: Training, start: Cost, ax: Any = None) -> Figure:
    """Draw the metric over epochs, above what was left of the model.

    Args:
        training: the fit.
        start: the cost of the model that shares are counted of.
        ax: the axes to draw in, which are parted. Defaults to None: a new figure.

    Returns:
        The figure.
    """
    above, below = _two(ax)
    epochs = training.epochs
    small: Any = {"marker": "o", "ms": 3 * dense(len(epochs))}
    _line(above, epochs, training.monitor, color=BLUE, **small, label=short(training.monitor))
    train = training.monitor.removeprefix("val_")
    if train != training.monitor:
        _line(above, epochs, train, color=PALE, lw=1, label=f"{short(train)} in training")
    _cuts(above, training)
    if training.bound is not None:
        above.axhline(training.bound, color=INK, ls="--", lw=0.9, label="bound")
    for name, (said, color) in SIZES.items():
        whole = getattr(start, name) or 1
        _line(below, epochs, name, whole, color=color, **small, label=said)
    _finish(above, below, training.cuts)
    return figure_of(above)


def _two(ax: Any) -> tuple[Any, Any]:
    if ax is None:
        figure = Figure((WIDTH, 4.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        return above, below
    ax.axis("off")
    below = ax.inset_axes((0, 0, 1, 0.3))
    return ax.inset_axes((0, 0.45, 1, 0.47), sharex=below), below


def _line(ax: Any, epochs: Sequence[Any], name: str, whole: float = 1, **how: Any) -> None:
    """Draw what the logs hold of a name, after so many epochs each."""
    known = [(n, e[name]) for n, e in enumerate(epochs, 1) if e.get(name) is not None]
    if known:
        ax.plot([n for n, _ in known], [value / whole for _, value in known], **how)


def _cuts(ax: Any, training: Training) -> None:
    """Mark each cut by what the metric fell to, and the epochs of those that were undone."""
    told, size = set[str](), dense(len(training.cuts), 20)
    for cut in training.cuts:
        if not cut.kept:
            name = "" if "undone" in told else "rolled back"
            ax.axvspan(cut.at, cut.ended, color=RED, alpha=0.16, lw=0, label=name)
            told.add("undone")
        ax.axvline(cut.at, color=PALE, lw=0.8 * size, label="" if "cut" in told else "cut")
        told.add("cut")
    fallen = [(cut.at, cut.metric_cut) for cut in training.cuts if cut.metric_cut is not None]
    if fallen:
        ax.plot(
            *zip(*fallen, strict=True), "v", color=INK, ms=4 * size, label="right after the cut"
        )


def _finish(above: Any, below: Any, cuts: Sequence[Cut]) -> None:
    above.set_ylabel("metric")
    below.set(ylabel="of the start", ylim=(0, 1.05), xlabel="epochs")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in (above, below):
        ax.grid()
    legend(above, ncols=2, columnspacing=1.2, fontsize=7.5)
    if below.get_legend_handles_labels()[0]:
        below.legend(loc="lower left", ncols=3, columnspacing=1.2, fontsize=7.5)
    figure_of(above).draw_without_rendering()
    _numbers(below, cuts)


def _numbers(ax: Any, cuts: Sequence[Cut]) -> None:
    """Write the number of each cut above the axes of sizes, where it touches no other one."""
    last = -math.inf
    for cut in cuts:
        ax.axvline(cut.at, color=PALE, lw=0.8 * dense(len(cuts), 20))
        place = ax.transData.transform((cut.at, 0))[0] * 72 / ax.figure.dpi  # points
        if place - last > 5 + 4.5 * len(str(cut.number)):
            how = {"ha": "center", "va": "bottom", "fontsize": 7}
            ax.annotate(
                str(cut.number),
                (cut.at, 1),
                (0, 1),
                ax.get_xaxis_transform(),
                "offset points",
                **how,
            )
            last = place
