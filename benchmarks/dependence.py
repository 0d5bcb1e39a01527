"""How much what is kept depends on what would be cut, before and after training with dropout.

    python benchmarks/dependence.py --data DIR

A small stack is trained plainly. From there it trains on, plainly and with targeted dropout, by the
same batches. Of all three, the loss of the same validation images is measured without the lowest
share of the neurons of each family, and expanded to second order: what of `w'Hw / 2` is of the
weights that are kept, of those that are cut, and of both together.
"""

import argparse
from itertools import product
from pathlib import Path

import keras
import measuring
import subjects
from matplotlib.figure import Figure

import prune_keras
from prune_keras.callbacks import TargetedDropout
from prune_keras.charts.style import BLUE, GREEN, ORANGE, styled
from prune_keras.models import cifar10, networks
from prune_keras.models.images import Batches

RESULTS = subjects.RESULTS.parent / "training"
SHARES = (0.25, 0.5, 0.75)
COLOURS = {"before": BLUE, "trained on plainly": ORANGE, "trained on with dropout": GREEN}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.npz")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--images", type=int, default=4000, help="training images")
    parser.add_argument("--judged", type=int, default=512, help="validation images")
    parser.add_argument("--epochs", type=int, nargs=2, default=[10, 10], help="plainly, and on")
    arguments = parser.parse_args()
    rows = measured(arguments, cifar10.load_data(arguments.data / "cifar10.npz"))
    arguments.output.mkdir(parents=True, exist_ok=True)
    measuring.write_table(arguments.output / "dependence.csv", rows)
    given = {"images": arguments.images, "judged": arguments.judged, "epochs": arguments.epochs}
    measuring.write_settings(arguments.output / "dependence.json", **given)
    with styled():
        drawn(rows).savefig(arguments.output / "dependence.png", dpi=150)


def measured(arguments, data):
    """Return a row a network and share."""
    keras.utils.set_random_seed(measuring.SEED)
    images, labels = (part[: arguments.images] for part in data.train)
    judged = tuple(part[: arguments.judged] for part in data.validation)
    model = networks.stack(filters=(16, 16, 32, 32), units=64)
    train(model, Batches(images, labels), arguments.epochs[0], 1e-3)
    before, rows = model.get_weights(), rows_of("before", model, judged)
    dropout = TargetedDropout(0.75, 0.75, ramp_epochs=arguments.epochs[1] // 2, seed=0)
    for way, callbacks in (("trained on plainly", []), ("trained on with dropout", [dropout])):
        model.set_weights(before)
        train(model, Batches(images, labels, seed=1), arguments.epochs[1], 1e-3, callbacks)
        rows += rows_of(way, model, judged)
    return rows


def train(model, batches, epochs, rate, callbacks=()):
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.learning_rate = rate
    model.fit(batches, epochs=epochs, callbacks=[*callbacks], verbose=2)


def rows_of(way, model, judged):
    found = [(share, prune_keras.dependence(model, judged, share)) for share in SHARES]
    return [{"way": way, "share": share, **told.to_dict()} for share, told in found]


def drawn(rows):
    """Draw what the loss grows by, measured and expanded, and the terms of the expansion."""
    shown = {
        "The loss grows by (dotted: to second order)": ("change", "second_order"),
        "k'Hc, of kept and cut weights together": ("second_cross",),
    }
    figure = Figure((8, 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown))
    for ax, (title, names) in zip(panels, shown.items(), strict=True):
        for (way, colour), (name, line) in product(COLOURS.items(), zip(names, "-:", strict=False)):
            mine = [row for row in rows if row["way"] == way]
            values = [row[name] for row in mine]
            label = way if line == "-" else None
            ax.plot(SHARES, values, line, marker="o", markersize=4, color=colour, label=label)
        ax.set_yscale("symlog", linthresh=0.1)
        ax.yaxis.set_major_formatter("{x:g}")
        ax.set(title=title, xlabel="share of each family that is cut", xticks=SHARES)
        ax.grid(True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


if __name__ == "__main__":
    main()
