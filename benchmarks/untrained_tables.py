"""Write the tables and the picture of results/untrained from what was measured.

python benchmarks/untrained_tables.py
"""

import os

os.environ.setdefault("MPLBACKEND", "Agg")

import matplotlib.pyplot as plt  # noqa: E402
import untrained  # noqa: E402
from first_cut import TWO  # noqa: E402
from tables import fill, markdown, percent, read  # noqa: E402
from untrained_cuts import NETWORKS, TESTED  # noqa: E402

REPAIRS = ("none", "weights", "sequential")
WAY = ("criterion", "debias", "scope", "repair", "steps", "images")
SHARES = ("0.9", "0.7", "0.5", "0.4", "0.33", "0.25", "0.1")


def main():
    found = {name: table(rows_of(name)) for name in NETWORKS}
    found |= {f"{name} test": table(rows_of(f"{name}-test")) for name in TESTED}
    found |= {"steps": steps(rows_of("resnet20")), "torch": torch(rows_of("torch_pruning"))}
    found["transformer"] = transformer(rows_of("transformer"))
    found["extras"] = extras(read(untrained.RESULTS / "extras.csv"))
    fill(untrained.RESULTS / "README.md", found)
    draw(rows_of("resnet20"), untrained.RESULTS / "untrained.png")


def rows_of(name):
    """Return the rows of cuts in a table."""
    rows = read(untrained.RESULTS / f"{name}.csv")
    return [row for row in rows if row.get("criterion", "torch")]


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
    if not shares:
        return "Not measured."
    sorted_by = len(WAY) + shares.index("0.5" if "0.5" in shares else shares[0])
    lines.sort(key=lambda line: (line[sorted_by].split(" ")[0], line), reverse=True)
    return markdown([*WAY, *(f"{percent(share, 0)} %" for share in shares)], lines)


def cell(found):
    """Return a mean in percent, with the least and the largest where there are several."""
    if not found:
        return ""
    mean = percent(sum(found) / len(found), 1)
    between = f" ({percent(min(found), 1)} to {percent(max(found), 1)})"
    return mean + (between if len(found) > 1 else "")


def torch(rows):
    """Return what Torch-Pruning leaves, by network and with batch normalization or without."""
    lines, shares = [], [share for share in SHARES if any(r["flops"] == share for r in rows)]
    for network in dict.fromkeys(row["network"] for row in rows):
        by = {row["flops"]: row for row in rows if row["network"] == network}
        for part in ("validation", "test"):
            for key, way in (("", "as cut"), ("recalibrated_", "batch normalization anew")):
                if key and network == "stack":  # has none to measure
                    continue
                cells = (percent(by[share][key + part], 1) for share in shares)
                lines.append([network, way, part, *cells])
    heads = ["network", "statistics", "images", *(f"{percent(share, 0)} %" for share in shares)]
    return markdown(heads, lines)


def transformer(rows):
    """Return a line for each cut and criterion, by repair: validation, and test in brackets."""
    every = read(untrained.RESULTS / "transformer.csv")
    dense = [row for row in every if row["cut"] == "none"]
    lines = [["none", "", both(dense), "", "", "1.00"]]
    for cut, criterion in dict.fromkeys((row["cut"], row["criterion"]) for row in rows):
        own = [r for r in rows if (r["cut"], r["criterion"]) == (cut, criterion)]
        cells = (both([r for r in own if r["repair"] == each]) for each in REPAIRS)
        left = sum(float(row["left"]) for row in own) / len(own)
        lines.append([cut, criterion, *cells, f"{left:.2f}"])
    return markdown(["cut", "criterion", *REPAIRS, "FLOPs left"], lines)


def extras(rows):
    """Return a line for what was added to each cut, without the fit and with it, or trained."""
    cells = {}
    for row in rows:
        line = cells.setdefault((row["network"], row["flops"], row["images"], row["extra"]), {})
        trained = row["extra"] == "at once" or row["extra"].startswith("fading")
        line["trained" if trained else row["repair"]] = percent(row["accuracy"], 1)
    columns = ("none", "sequential", "trained")
    lines = [
        [name, f"{percent(share, 0)} %", images, extra, *(line.get(each, "") for each in columns)]
        for (name, share, images, extra), line in cells.items()
    ]
    heads = ["network", "FLOPs", "images", "added", "no repair", "sequential", "after 3 epochs"]
    return markdown(heads, lines)


def both(rows):
    found = [cell([float(row[part]) for row in rows]) for part in ("validation", "test")]
    return "; ".join(filter(None, found))


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
        (TWO, "global", "sequential"): "mean(taylor, reconstruction), sequential",
        (TWO, "global", "weights"): "mean(taylor, reconstruction), weights",
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
