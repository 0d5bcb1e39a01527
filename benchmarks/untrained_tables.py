"""Write the tables and the picture of results/untrained from what was measured.

python benchmarks/untrained_tables.py
"""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt  # noqa: E402
import untrained  # noqa: E402
from tables import fill, markdown, percent, read  # noqa: E402

WAY = ("criterion", "debias", "scope", "repair", "steps", "images")
SHARES = ("0.9", "0.7", "0.5", "0.4", "0.25", "0.1")


def main():
    every = read(untrained.RESULTS / "untrained.csv")
    rows = [row for row in every if row["network"] == "resnet20"]
    test = [row for row in read(untrained.RESULTS / "test.csv") if row["criterion"]]
    found = {"validation": table(rows), "steps": steps(rows), "test": table(test)}
    found["digits"] = table([row for row in every if row["network"] == "digits"])
    fill(untrained.RESULTS / "README.md", found)
    draw(rows, untrained.RESULTS / "untrained.png")


def table(rows):
    """Return a line a way: the mean over seeds at each share, the most at half the FLOPs first."""
    cells = {}
    for row in rows:
        line = cells.setdefault(tuple(row[each] for each in WAY), {})
        line.setdefault(row["flops"], []).append(float(row["accuracy"]))
    shares = [share for share in SHARES if any(share in held for held in cells.values())]
    lines = [
        [*way, *(cell(held.get(share, [])) for share in shares)]
        for way, held in cells.items()
        if held.keys() & set(shares)
    ]
    sorted_by = len(WAY) + shares.index("0.5")
    lines.sort(key=lambda line: (line[sorted_by].split(" ")[0], line), reverse=True)
    return markdown([*WAY, *(f"{percent(share, 0)} %" for share in shares)], lines)


def cell(found):
    """Return a mean in percent, with the least and the largest where there are several."""
    if not found:
        return ""
    mean = percent(sum(found) / len(found), 1)
    between = f" ({percent(min(found), 1)} to {percent(max(found), 1)})"
    return mean + (between if len(found) > 1 else "")


def steps(rows):
    """Return what is left after each step of four, and the cut at once of the same samples."""
    own = [r for r in rows if r["scope"] == "optimal" and r["repair"] == "sequential"]
    own = [r for r in own if r["images"] == "1024"]
    lines = []
    for seed in sorted({r["seed"] for r in own if r["steps"] == "4"}):
        by = {(r["steps"], r["flops"]): r for r in own if r["seed"] == seed}
        way = [("1", "0.84"), ("2", "0.71"), ("3", "0.59"), ("4", "0.5"), ("1", "0.5")]
        found = [percent(by[each]["accuracy"], 1) if each in by else "" for each in way]
        lines.append([seed, *found])
    heads = ["seed", "84 %", "71 %", "59 %", "50 %", "50 % at once"]
    return markdown(heads, lines)


def draw(rows, path):
    """Draw accuracy against the FLOPs that are left, of the first set of samples."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    ways = {
        ("obs", "optimal", "sequential"): "obs, optimal, sequential",
        ("obs", "global", "sequential"): "obs, global, sequential",
        (untrained.TWO, "global", "sequential"): "mean(taylor, reconstruction), sequential",
        (untrained.TWO, "global", "weights"): "mean(taylor, reconstruction), weights",
    }
    for way, label in ways.items():
        own = [r for r in rows if (r["criterion"], r["scope"], r["repair"]) == way]
        own = [r for r in own if (r["steps"], r["images"], r["seed"]) == ("1", "1024", "0")]
        own.sort(key=lambda r: float(r["left"]))
        points = [[100 * float(r[key]) for r in own] for key in ("left", "accuracy")]
        axes.plot(*points, marker=".", label=label)
    axes.set_xlabel("FLOPs left, %")
    axes.set_ylabel("validation accuracy, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
