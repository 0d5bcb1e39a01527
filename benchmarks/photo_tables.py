"""Write the tables and the picture of results/vgg16_cats_vs_dogs from what the runs left there.

python benchmarks/photo_tables.py
"""

import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from tables import between, fill, interval, markdown, percent, points, read  # noqa: E402

from prune_keras.models import records  # noqa: E402

RESULTS = Path(__file__).resolve().parent.parent / "results" / "vgg16_cats_vs_dogs"


def main():
    seeds = sorted(RESULTS.glob("seed*"))
    tables = {"headline": headline, "pairs": pairs, "rounds": rounds, "widths": widths}
    made = {name: table(seeds) for name, table in tables.items()}
    if (RESULTS / "frontier").exists():
        made["frontier"] = rounds([RESULTS / "frontier"])
    if (RESULTS / "comparison").exists():
        made |= {"comparison": comparison(), "criteria": criteria()}
    if (RESULTS / "parts.csv").exists():
        made["parts"] = parts()
    fill(RESULTS / "README.md", made)
    draw([*seeds, RESULTS / "frontier"], RESULTS / "frontier.png")


def headline(seeds):
    """Return a row a seed and network, and one for the means of each network."""
    rows = [{"seed": s.name[4:]} | r for s in seeds for r in read(s / "results.csv")]
    names = list(dict.fromkeys(row["network"] for row in rows))
    lines = [line(row) for row in rows]
    for name in names:
        own = [row for row in rows if row["network"] == name]
        numbers = {key: statistics.mean(float(row[key]) for row in own) for key in NUMBERS}
        lines.append(line(own[0] | numbers | {"seed": "mean"}))
    return markdown(["seed", "network", "epochs", *NUMBERS.values()], lines)


NUMBERS = {
    "val_accuracy": "validation",
    "test_accuracy": "test",
    "params": "parameters",
    "flops": "FLOPs",
    "seconds": "seconds",
}


def line(row):
    return [
        *(str(row[key]) for key in ("seed", "network", "epochs")),
        *(f"{percent(row[key], 1)} %" for key in ("val_accuracy", "test_accuracy")),
        f"{float(row['params']) / 1e6:.2f} M",
        f"{float(row['flops']) / 1e9:.2f} G",
        f"{float(row['seconds']):.0f}",
    ]


def pairs(seeds):
    """Return how the pruned network differs from each dense one, by seed and over all seeds."""
    rows = [{"seed": s.name[4:]} | r for s in seeds for r in read(s / "pairs.csv")]
    lines = [
        [row["seed"], row["second"], points(row["difference"]), between(row["low"], row["high"])]
        for row in rows
    ]
    for name in dict.fromkeys(row["second"] for row in rows):
        found = [float(row["difference"]) for row in rows if row["second"] == name]
        mean, reach = interval(found)
        lines.append(["mean", name, points(mean), "" if reach is None else between(*reach)])
    return markdown(["seed", "pruned less", "points of test accuracy", "95 % interval"], lines)


def rounds(folders):
    """Return what each round left, and its accuracy before, right after the cut, and in the end."""
    lines = []
    for folder in folders:
        found = records.read_json(folder / "rounds.json")
        whole = found[0]["before"]
        for each in found:
            left = [percent(each["after"][key] / whole[key], 1) for key in ("params", "flops")]
            metrics = [each[key] for key in ("metric_before", "metric_cut", "metric")]
            shown = ["" if metric is None else percent(metric, 1) for metric in metrics]
            kept = "kept" if each["kept"] else "undone"
            number, epochs = str(each["number"]), str(each["epochs"])
            lines.append([folder.name, number, *left, *shown, epochs, kept])
    heads = ["run", "round", "parameters left", "FLOPs left", "before the cut"]
    heads += ["right after it", "after fine-tuning", "epochs", ""]
    return markdown(heads, lines)


def widths(seeds):
    """Return the widths of every layer, before and after each run."""
    tables = [read(seed / "widths.csv") for seed in seeds]
    lines = [
        [rows[0]["layer"].split("/")[-1], rows[0]["before"], *(row["after"] for row in rows)]
        for rows in zip(*tables, strict=True)
    ]
    return markdown(["layer", "dense", *(seed.name for seed in seeds)], lines)


def comparison():
    rows = read(RESULTS / "comparison" / "comparison.csv")
    dense = rows[0]
    lines = [
        [
            row["way"],
            row["epochs"],
            *(percent(row[key], 1) for key in ("val_accuracy", "test_accuracy")),
            *(percent(float(row[k]) / float(dense[k]), 1) for k in ("params", "flops")),
            *(percent(row.get(k) or 1, 0) for k in ("convolutions_kept", "dense_kept")),
            f"{float(row['seconds']):.0f}",
        ]
        for row in rows
    ]
    heads = ["way", "epochs", "validation", "test", "parameters left", "FLOPs left"]
    return markdown([*heads, "filters kept", "dense units kept", "seconds"], lines)


def criteria():
    rows = read(RESULTS / "comparison" / "comparison_rounds.csv")
    lines = [
        [
            row["way"],
            row["round"],
            *(percent(row[key], 1) if row[key] else "" for key in ("params", "flops", *METRICS)),
        ]
        for row in rows
    ]
    heads = ["way", "round", "parameters left", "FLOPs left", "before the cut"]
    return markdown([*heads, "right after it", "after fine-tuning"], lines)


def parts():
    """Return a line a kind and share: what is left, and the accuracy with and without a repair."""
    cells: dict = {}
    for row in read(RESULTS / "parts.csv"):
        cells.setdefault((row["kind"], row["gone"]), {})[row["fuse"]] = row
    lines = [
        [
            kind,
            *(
                percent(text, 1)
                for text in (gone, one["weights"]["params"], one["weights"]["flops"])
            ),
            *(percent(one[fuse]["accuracy"], 1) for fuse in ("weights", "none")),
        ]
        for (kind, gone), one in cells.items()
    ]
    heads = ["only", "units gone", "parameters left", "FLOPs left"]
    return markdown([*heads, "weights fused", "as it is"], lines)


METRICS = ("before", "after_cut", "after_fine_tuning")


TICKS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05)


def draw(folders, path):
    """Draw the accuracy of each round against the FLOPs that it left."""
    figure, panel = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for folder in (folder for folder in folders if folder.exists()):
        found = [each for each in records.read_json(folder / "rounds.json") if each["metric"]]
        left = [1.0, *(each["after"]["flops"] / found[0]["before"]["flops"] for each in found)]
        metrics = [found[0]["metric_before"], *(each["metric"] for each in found)]
        panel.plot(left, metrics, marker=".", label=folder.name)
    panel.set_xscale("log")
    panel.invert_xaxis()
    panel.set_xticks(TICKS, [f"{share:.0%}" for share in TICKS])
    panel.minorticks_off()
    panel.set_xlabel("share of the FLOPs left")
    panel.set_ylabel("validation accuracy")
    panel.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
