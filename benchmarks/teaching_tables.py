"""Write the tables of results/teaching from what was measured.

python benchmarks/teaching_tables.py
"""

import subjects
from few_epochs_tables import cell
from tables import fill, markdown, read

RESULTS = subjects.RESULTS.parent / "teaching"
PARTS = {  # what tells rows of a table apart, and what is shown of them
    "terms": (("subject", "flops", "terms"), ("validation", "test")),
    "blocks": (("block", "way"), ("validation", "test")),
    "factors": (("subject", "flops", "terms"), ("validation", "test")),
    "ensemble": (("subject", "flops", "terms"), ("validation", "test")),
    "repairs": (("subject", "flops", "terms"), ("validation", "test")),
    "recipe": (("subject", "stage"), ("validation", "test")),
}
SIZES = {"params": "parameters", "flops_left": "FLOPs", "bytes": "bytes"}
TIMES = {"seconds": "seconds", "milliseconds": "ms"}


def main():
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    parts = [name for name in PARTS if f"<!-- {name} -->" in text]
    fill(
        RESULTS / "README.md", {name: table(read(RESULTS / f"{name}.csv"), name) for name in parts}
    )


def table(rows, part):
    """Return a line for each case; ranges are those of the seeds."""
    names, accuracies = PARTS[part]
    numbers = {n: said for n, said in (SIZES | TIMES).items() if any(row.get(n) for row in rows)}
    lines = []
    for key in dict.fromkeys(tuple(row[name] for name in names) for row in rows):
        own = [row for row in rows if tuple(row[name] for name in names) == key]
        cells = [cell(own, each) for each in accuracies]
        lines.append([*key, str(len(own)), *cells, *(middle(own, name) for name in numbers)])
    return markdown([*names, "seeds", *accuracies, *numbers.values()], lines)


def middle(rows, name):
    """Return the mean of a number; what is below ten with three digits."""
    found = [float(row[name]) for row in rows if row.get(name)]
    if not found:
        return ""
    mean = sum(found) / len(found)
    return f"{mean:,.0f}" if mean >= 10 else f"{mean:.3f}"


if __name__ == "__main__":
    main()
