"""Pictures of what was done: the course of a run, and the widths it ended with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure

from prune_keras.charts import architecture
from prune_keras.report import Report
from prune_keras.reporting.start import Start
from prune_keras.tracing import trace

SHARES = ("params", "flops", "neurons")


def history(
    epochs: Mapping[str, Sequence[float]],
    path: str | Path,
    monitor: str = "val_accuracy",
    first: int = 1,
) -> Path:
    """Draw a metric, and what is left of parameters, FLOPs and neurons, over epochs.

    Args:
        epochs: values an epoch by name, as `keras.callbacks.History.history` holds them; those of
            `monitor` and any of `"params"`, `"flops"`, `"neurons"` are drawn. One that is shorter
            than others is of every second, third, ... epoch, as with `validation_freq`.
        path: picture to write; the ending gives the format, none that of .png.
        monitor: the metric. Defaults to `"val_accuracy"`.
        first: number of the first value; 0 if it was measured before any epoch. Defaults to 1.

    Returns:
        The path of the picture.

    Raises:
        ValueError: if the metric is not among the values, their number does not tell of which
            epochs they are, or no picture ends so.
    """
    if monitor not in epochs:
        raise ValueError(
            f"`monitor` must be in the history. Received: monitor={monitor!r}, while it holds "
            f"{sorted(epochs)}. Choose one of these."
        )
    figure = Figure(figsize=(7, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    numbers = range(first, first + max(map(len, epochs.values())))
    above.plot(_places(monitor, epochs, numbers), epochs[monitor], marker="o", color="black")
    above.set_ylabel(monitor)
    shares = [name for name in SHARES if name in epochs]
    for name in shares:
        left = [value / epochs[name][0] for value in epochs[name]]
        below.plot(_places(name, epochs, numbers), left, marker="o", label=name)
    below.set(xlabel="epoch", ylabel=f"share of epoch {first}", ylim=(0, 1.05))
    if shares:
        below.legend()
    return _save(figure, path)


def _places(name: str, epochs: Mapping[str, Sequence[float]], numbers: range) -> Sequence[int]:
    """Return the epochs that values are of: all, or those that one number divides.

    Example:

    >>> _places("val_loss", {"loss": [3, 2, 2, 1], "val_loss": [3, 2]}, range(1, 5))
    (2, 4)
    """
    spread = {tuple(n for n in numbers if n % step == 0) for step in range(1, numbers.stop + 1)}
    fitting = [each for each in spread if len(each) == len(epochs[name])]
    if len(fitting) != 1:
        raise ValueError(
            "The number of values must tell of which epochs they are. Received: "
            f"{len(epochs[name])} values of {name!r} for {len(numbers)} epochs. "
            "Put float('nan') where an epoch has none."
        )
    return fitting[0]


def widths(report: Report, path: str | Path) -> Path:
    """Draw the units of each layer before and after.

    Args:
        report: what was done.
        path: picture to write; the ending gives the format, none that of .png.

    Returns:
        The path of the picture.
    """
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(report.widths)), layout="constrained")
    axes: Any = figure.subplots()
    rows = list(report.widths)
    axes.barh(rows, [report.widths[row][0] for row in rows], color="lightgray", label="before")
    axes.barh(rows, [report.widths[row][1] for row in rows], color="tab:blue", label="after")
    axes.invert_yaxis()
    axes.set_xlabel("units")
    axes.legend()
    return _save(figure, path)


def plot_architecture(model_or_report: Any, ax: Any = None) -> Figure:
    """Draw the layers of a model as wide as they are, and what goes round others.

    Args:
        model_or_report: a built model, or a `Report`, whose layers are hatched where they were cut.
        ax: matplotlib's axes to draw in. Defaults to None: those of a new figure.

    Returns:
        The figure.

    Example:

    >>> import keras
    >>> layers = [keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2)]
    >>> figure = plot_architecture(keras.Sequential(layers))
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()][1]
    'a 3'
    """
    if isinstance(model_or_report, Report):
        return model_or_report.plot_architecture(ax)
    graph = trace(model_or_report)
    return architecture.draw(Start.of(model_or_report, graph).layers, ax)


def shares(
    before: Mapping[str, Any], after: Mapping[str, Any], names: Sequence[str], path: str | Path
) -> Path:
    """Draw what is left of several quantities, each as a share of what it was.

    Args:
        before: quantity by name; those that are None or 0 are left out.
        after: the same quantities after it.
        names: the quantities to draw, from above.
        path: picture to write; the ending gives the format, none that of .png.

    Returns:
        The path of the picture.
    """
    drawn = {name: after[name] / before[name] for name in names if before[name] and after[name]}
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(drawn)), layout="constrained")
    axes: Any = figure.subplots()
    bars = axes.barh([name.replace("_", " ") for name in drawn], list(drawn.values()))
    axes.bar_label(bars, fmt="{:.0%}", padding=3)
    axes.margins(x=0.12)
    axes.axvline(1, color="gray", zorder=0)
    axes.invert_yaxis()
    axes.set_xlabel("after pruning, as a share of before")
    return _save(figure, path)


def images(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """Draw rows of images side by side, each under its title.

    Args:
        rows: for each row a dictionary of title -> `(height, width, 3)` pixels from 0 to 255, or
            `(height, width, 1)` for grey ones.
        path: picture to write; the ending gives the format, none that of .png.

    Returns:
        The path of the picture.
    """
    across = max(map(len, rows))
    figure = Figure(figsize=(2.6 * across, 3.1 * len(rows)), layout="constrained")
    for number, row in enumerate(rows):
        for place, (title, pixels) in enumerate(row.items(), start=1):
            axes: Any = figure.add_subplot(len(rows), across, number * across + place)
            # The map of colours and its ends count where there is one channel.
            axes.imshow(pixels.clip(0, 255).astype("uint8"), cmap="gray", vmin=0, vmax=255)
            axes.set_title(title, fontsize=8)
            axes.axis("off")
    return _save(figure, path)


def picture(path: str | Path) -> Path:
    """Return the path of a picture, which ends in .png if it has no ending.

    Raises:
        ValueError: if matplotlib writes no pictures that end so.
    """
    path = Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    endings = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:].lower() not in endings:
        raise ValueError(
            f"A picture must end in one of {', '.join(sorted(endings))}. Received: {path}. "
            "Write, say, .png."
        )
    return path


def _save(figure: Figure, path: str | Path) -> Path:
    path = picture(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
