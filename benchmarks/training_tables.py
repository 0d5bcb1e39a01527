"""Write the tables of results/training from what was measured.

python benchmarks/training_tables.py
"""

import subjects
from few_epochs_tables import cell
from tables import fill, markdown, read

RESULTS = subjects.RESULTS.parent / "training"
CUTS = ("unit", "own", "weight")


def main():
    rows = read(RESULTS / "training.csv")
    found = {name: table(rows, name) for name in CUTS}
    found["steps"] = steps(rows)
    fill(RESULTS / "README.md", found)


def table(rows, cut):
    """Return a line for each way to train: test accuracy uncut, and by the share that was cut."""
    shares = sorted({row["share"] for row in rows if row["cut"] == cut}, key=float)
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        whole = [row for row in own if row["cut"] == "none"]
        cells = [
            cell([r for r in own if r["cut"] == cut and r["share"] == share], "test")
            for share in shares
        ]
        lines.append([way, str(len(whole)), cell(whole, "test"), *cells])
    heads = ["trained with", "seeds", "uncut", *(f"{float(each):.0%} cut" for each in shares)]
    return markdown(heads, lines)


def steps(rows):
    """Return a line for each way to train: a step's time, as a multiple of plain training's."""
    times = {
        (row["way"], row["seed"]): float(row["step_ms"]) for row in rows if row["cut"] == "none"
    }
    lines = []
    for way in dict.fromkeys(way for way, _ in times):
        seeds = [seed for other, seed in times if other == way and ("plain", seed) in times]
        ratios = sorted(times[way, seed] / times["plain", seed] for seed in seeds)
        shown = f"{ratios[len(ratios) // 2]:.2f}" if ratios else ""
        lines.append([way, str(len(ratios)), shown])
    return markdown(["trained with", "seeds", "times a plain step"], lines)


if __name__ == "__main__":
    main()
