"""Write the tables of results/few_epochs from what was measured.

python benchmarks/few_epochs_tables.py
"""

import subjects
from tables import fill, markdown, percent, read

RESULTS = subjects.RESULTS.parent / "few_epochs"
FULL = {"params": 271098, "flops": 81102080}  # of the network with padded shortcuts
SECONDS = ("cut_seconds", "seconds")
HEADS = ["way", "rate", "epochs", "seeds", "after the cut", "validation", "test"]
HEADS += ["parameters, %", "FLOPs, %", "seconds of the cut", "of training"]


def main():
    found = {name: table(read(RESULTS / f"{name}.csv")) for name in ("few_epochs", "rates")}
    fill(RESULTS / "README.md", found)


def table(rows):
    """Return a line for each way, rate and number of epochs; ranges are those of the seeds."""
    lines = []
    for key in dict.fromkeys((row["way"], row["rate"], row["epochs"]) for row in rows):
        own = [row for row in rows if (row["way"], row["rate"], row["epochs"]) == key]
        cells = [cell(own, part) for part in ("after_cut", "val_accuracy", "test_accuracy")]
        cells += [percent(mean(own, name) / whole, 1) for name, whole in FULL.items()]
        seconds = [f"{mean(own, name):.0f}" if own[0].get(name) else "" for name in SECONDS]
        lines.append([*key, str(len(own)), *cells, *seconds])
    lines.sort(key=lambda line: (line[0] != "dense", int(line[2]), line[0], line[1]))
    return markdown(HEADS, lines)


def mean(rows, name):
    return sum(float(row[name]) for row in rows) / len(rows)


def cell(rows, name):
    """Return a mean in percent, with the least and the largest where there are several."""
    found = [float(row[name]) for row in rows if row.get(name)]
    if not found:
        return ""
    middle = percent(sum(found) / len(found), 1)
    between = f" ({percent(min(found), 1)} to {percent(max(found), 1)})"
    return middle + (between if len(found) > 1 else "")


if __name__ == "__main__":
    main()
