"""Diverse, important or random neurons of one layer, with and without fusing.

    python benchmarks/diversity.py --data DIR --stack results/cifar10/stack/dense.keras

After the figures of Mariet and Sra (2016): of an early, a middle and a late layer, a share of the
neurons stays, and the accuracy on validation images is measured without fine-tuning. What is drawn
is drawn by three seeds.
"""

import argparse

import matplotlib
import numpy as np
import subjects

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from first_cut import repaired  # noqa: E402

import prune_keras  # noqa: E402

LAYERS = {"early": "conv1", "middle": "conv3", "late": "hidden"}
SHARES = (0.1, 0.25, 0.5, 0.75)
WAYS = {"diverse": 3, "random": 3, "l2": 1, "taylor": 1}
REPAIRS = ("none", "weights")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    arguments = parser.parse_args()
    data, model = subjects.cifar10(arguments), subjects.load("stack", arguments)
    rows = list(measured(model, data))
    subjects.write(arguments.output / "diversity.csv", rows)
    draw(rows, arguments.output / "diversity.png")


def measured(model, data):
    """Yield a row for each layer, share, way and repair, averaged over seeds."""
    graph, scored = prune_keras.trace(model), subjects.first(data.train, subjects.SCORED)
    for place, path in LAYERS.items():
        for share in SHARES:
            for way, seeds in WAYS.items():
                plans = [plan_of(model, graph, scored, path, share, way, s) for s in range(seeds)]
                for repair in REPAIRS:
                    thin = (repaired(model, graph, plan, scored, repair) for plan in plans)
                    found = [subjects.accuracy(each, data.validation) for each in thin]
                    row = {"layer": place, "path": path, "kept": share, "way": way}
                    row |= {"repair": repair, "accuracy": float(np.mean(found))}
                    row |= {"lowest": min(found), "highest": max(found), "seeds": seeds}
                    print(row, flush=True)
                    yield row


def plan_of(model, graph, scored, path, share, way, seed):
    """Return the plan that keeps a share of one layer's units."""
    criterion = "random" if way == "diverse" else way
    scores = prune_keras.score(model, criterion, data=scored, seed=seed)
    others = [name for name in graph.widths if name != path]
    count = round(graph.widths[path] * (1 - share))
    plan = prune_keras.select(graph, scores, fraction=(count + 0.5) / graph.neurons, exclude=others)
    if way == "diverse":
        plan = prune_keras.diversify(model, plan, scored[0], seed=seed)
    return plan


def draw(rows, path):
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), sharey=True, layout="constrained")
    for panel, place in zip(panels, LAYERS, strict=True):
        for color, way in zip(("C0", "C7", "C1", "C2"), WAYS, strict=True):
            for repair, style in zip(REPAIRS, (":", "-"), strict=True):
                own = [
                    r for r in rows if (r["layer"], r["way"], r["repair"]) == (place, way, repair)
                ]
                label = f"{way}, {'fused' if repair == 'weights' else 'as it is'}"
                points = [r["kept"] for r in own], [r["accuracy"] for r in own]
                panel.plot(*points, style, color=color, marker=".", label=label)
        panel.set_title(f"{place}: {LAYERS[place]}", fontsize=10)
        panel.set_xlabel("share of the units kept")
    panels[0].set_ylabel("validation accuracy")
    panels[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
