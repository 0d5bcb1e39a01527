"""Write the tables on scores of results/scores and results/benchmarks from what was measured.

python benchmarks/score_tables.py
"""

import measuring
import subjects
from tables import fill, markdown, percent, read, with_interval

README = subjects.RESULTS / "README.md"
BENCHMARKS = measuring.RESULTS / "README.md"
DEBIASES = ("none", "sum", "mean", "max", "median", "l2", "zscore", "minmax", "rank", "robust")
DEBIASES += ("flops", "params")
DEFAULT = "mean(taylor, reconstruction)"
REPAIRS = ("none", "bias", "weights")
SHARES = ("0.9", "0.7", "0.5")
SETS = ("0", "1", "2")  # of samples


def main():
    tables = {"imbalance": imbalance, "agreement": agreement}
    tables |= {"first cut": first_cut, "default": default, "diversity": diversity}
    text = README.read_text(encoding="utf-8")
    measured = [name for name in tables if f"<!-- {name} -->" in text]
    fill(README, {name: tables[name]() for name in measured})
    fill(BENCHMARKS, {"scoring": costs()})


def imbalance():
    rows = read(subjects.RESULTS / "imbalance.csv")
    lines = [[r["network"], r["criterion"], *(percent(r[by], 0) for by in DEBIASES)] for r in rows]
    return markdown(["network", "criterion", *DEBIASES], lines)


def agreement():
    rows, lines = read(subjects.RESULTS / "agreement.csv"), {}
    for r in rows:
        line = lines.setdefault((r["network"], r["criterion"]), {"within": r["within"]})
        line[r["debias"]] = r["global"]
    columns = ["within", *DEBIASES, "affine"]
    lines = [[*key, *(f"{float(held[c]):.2f}" for c in columns)] for key, held in lines.items()]
    return markdown(["network", "criterion", *columns], lines)


def first_cut():
    rows, cells = read(subjects.RESULTS / "first_cut.csv"), {}
    for r in rows:
        line = cells.setdefault((r["network"], r["criterion"], r["debias"]), {})
        line.setdefault((r["flops"], r["repair"]), []).append(float(r["accuracy"]))
    columns = [(share, repair) for share in SHARES for repair in REPAIRS]
    lines = [
        [*key, *(percent(sum(held[c]) / len(held[c]), 1) for c in columns)]
        for key, held in cells.items()
    ]
    heads = [f"{percent(share, 0)}, {repair}" for share, repair in columns]
    return markdown(["network", "criterion", "debias", *heads], lines)


def default():
    """Return how far the default is ahead of its parts, fused, paired by sets of samples."""
    rows = [r for r in read(subjects.RESULTS / "first_cut.csv") if r["debias"] == "mean"]
    found = {(r["network"], r["criterion"], r["flops"], r["repair"], r["seed"]): r for r in rows}
    lines = []
    for network, share in sorted({(r["network"], r["flops"]) for r in rows}, reverse=True):
        line = [network, percent(share, 0)]
        for other in ("taylor", "reconstruction"):
            both = [
                [float(found[network, each, share, "weights", s]["accuracy"]) for s in SETS]
                for each in (DEFAULT, other)
            ]
            line.append(with_interval([a - b for a, b in zip(*both, strict=True)]))
        lines.append(line)
    return markdown(["network", "FLOPs left", "against taylor", "against reconstruction"], lines)


def diversity():
    rows, cells = read(subjects.RESULTS / "diversity.csv"), {}
    for r in rows:
        cells.setdefault((r["layer"], r["way"], r["repair"]), {})[r["kept"]] = r["accuracy"]
    kept = list(dict.fromkeys(r["kept"] for r in rows))
    lines = [[*key, *(percent(held[k], 1) for k in kept)] for key, held in cells.items()]
    return markdown(["layer", "way", "repair", *(f"{percent(k, 0)} kept" for k in kept)], lines)


def costs():
    rows = read(measuring.RESULTS / "scoring.csv")
    heads = ["network", "criterion", "seconds a batch", "against", "ratio", "bound"]
    return markdown([*heads, "memory ratio", "other seconds"], [*map(cost, rows)])


def cost(row):
    """Return the line of one criterion; `number` leaves out what was not measured."""

    def number(name, form):
        return f"{float(row[name]):{form}}" if row[name] else ""

    times = f"{row['passes']} times " if row["passes"] not in ("", "1") else ""
    against = f"{times}{row['against']}" if row["against"] else "weights alone"
    line = [row["network"], row["criterion"], number("seconds a batch", ".2g"), against]
    line += [number("time ratio", ".2f"), row["bound"], number("memory ratio", ".2f")]
    return [*line, number("other seconds", ".2g")]


if __name__ == "__main__":
    main()
