"""Write the tables of results/training from what was measured.

python benchmarks/training_tables.py
"""

import equal_accuracy
import subjects
from few_epochs_tables import cell
from tables import fill, markdown, read

RESULTS = subjects.RESULTS.parent / "training"
CUTS = ("unit", "own", "weight")
SIZES = ("params", "flops")


def main():
    rows = read(RESULTS / "training.csv")
    found = {name: table(rows, name) for name in CUTS}
    equal = read(RESULTS / "equal_accuracy.csv")
    found |= {f"equal {cut}": equal_accuracy.table(equal, cut) for cut in ("weight", "unit")}
    found["preparing"] = preparing(read(RESULTS / "preparing.csv"))
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


def preparing(rows):
    """Return a line for each way: test accuracy right after the (last) cut, and at the end."""
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        own = {
            moment: [r for r in rows if r["way"] == way and r["moment"] == moment]
            for moment in ("cut", "end")
        }
        params, flops = (
            sum(float(row[name]) for row in own["end"]) / len(own["end"]) for name in SIZES
        )
        cells = [cell(own["cut"], "test"), cell(own["end"], "validation"), cell(own["end"], "test")]
        lines.append([way, str(len(own["end"])), *cells, f"{params:,.0f}", f"{flops:.0%}"])
    heads = ["way", "seeds", "test after the cut", "validation", "test", "parameters", "FLOPs"]
    return markdown(heads, lines)


if __name__ == "__main__":
    main()
