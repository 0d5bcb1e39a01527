"""Write the tables of results/search/README.md from what the scripts on searching measured.

    python benchmarks/search_tables.py

Numbers are means over seeds. A difference is paired by seed; its 95 % interval is that of
Student's t, and needs two seeds.
"""

import argparse
from pathlib import Path

import numpy as np
from searching import RESULTS
from tables import fill, markdown, percent, read, with_interval

FIRST = "global, progressive"
THEIRS = "torch_pruning, one-shot"
MEASURES = ("after_cut", "val_accuracy", "test_accuracy")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="of the other scripts")
    folder = parser.parse_args().output
    tables = {"ways": ways, "all images": all_images, "parts": parts, "depth": depth}
    tables |= {"torch-pruning": torch_pruning}
    fill(folder / "README.md", {name: table(folder) for name, table in tables.items()})


def ways(folder):
    rows = [r for r in read(folder / "ways.csv") if not r["way"].startswith("only ")]
    return compared(rows, FIRST, read(folder / "ways.csv"))


def all_images(folder):
    return ways(folder / "all_images")


def parts(folder):
    rows = read(folder / "ways.csv")
    return compared([r for r in rows if r["way"].startswith("only ")], None, rows)


def torch_pruning(folder):
    rows = read(folder / "torch_pruning.csv")
    return compared(rows, THEIRS, rows)


def compared(rows, reference, everything):
    """Return a line a target and way, with the difference from a reference at that target.

    None is for ways that end at different FLOPs, which have no common reference.
    """
    if not rows:
        return "Not measured yet."
    found = by_seed(everything, "target", "way")
    lines = []
    for key in by_seed(rows, "target", "way"):
        target, way = key
        held, against = found[key], found.get((target, reference), {})
        shown = [mean(held, name, percent_of) for name in MEASURES]
        apart = [] if reference is None else ["" if way == reference else difference(held, against)]
        cost = [mean(held, name, short) for name in ("params", "flops", "epochs", "seconds")]
        if cost[2] == "0":  # a network that was there already
            cost[2:] = "", ""
        lines.append([target, way, str(len(held)), *shown, *apart, *cost])
    heads = ["target", "way", "seeds", "after the cut", "validation", "test"]
    heads += [f"test against {reference}"] if reference else []
    return markdown([*heads, "parameters", "FLOPs", "epochs", "seconds"], lines)


def depth(folder):
    """Return a line a depth and way, with the epochs of every seed."""
    found = by_seed(read(folder / "depth.csv"), "depth", "way")
    if not found:
        return "Not measured yet."
    lines = []
    for (layers, way), held in found.items():
        epochs = ", ".join(f"{float(r['epochs']):g}" for r in held.values())
        within = f"{sum(r['held'] == 'True' for r in held.values())} of {len(held)}"
        accuracies = [
            mean(held, name, percent_of)
            for name in ("dense_accuracy", "val_accuracy", "test_accuracy")
        ]
        line = [layers, way, mean(held, "cuts", short), mean(held, "epochs", short), epochs]
        lines.append([*line, within, *accuracies, mean(held, "flops", percent_of)])
    heads = ["convolutions", "way", "cuts", "epochs", "by seed", "within 2 points"]
    heads += ["dense, validation", "validation", "test", "FLOPs left"]
    return markdown(heads, lines)


def by_seed(rows, *columns):
    """Return the values of some columns -> seed -> row."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), {})[row["seed"]] = row
    return found


def mean(held, name, text):
    """Return the mean of a column as text; nothing if a row lacks it."""
    values = [row[name] for row in held.values()]
    return text(np.mean([float(value) for value in values])) if all(values) else ""


def difference(held, against):
    """Return the mean difference on test images in points, paired by seed, and its interval."""
    seeds = held.keys() & against.keys()
    apart = [test(held[seed]) - test(against[seed]) for seed in sorted(seeds)]
    return with_interval(apart) if apart else ""


def test(row):
    return float(row["test_accuracy"])


def percent_of(share):
    return percent(share, 1)


def short(number):
    if number >= 1e4:
        return f"{number / 1e6:.2f} M"
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


if __name__ == "__main__":
    main()
