"""How far scores of layers lie apart, before and after each debias.

    python benchmarks/imbalance.py --data DIR --stack results/cifar10/stack/dense.keras

One number for it is the share of the variance of all scores that lies between families,
`sum_f n_f (mean_f - mean)^2 / sum_i (s_i - mean)^2`: 0 where layers are alike on average, 1 where
a ranking of all neurons is one of layers. A picture shows the scores of every family.
"""

import argparse

import matplotlib
import numpy as np
import subjects

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

import prune_keras  # noqa: E402
from prune_keras import debias  # noqa: E402
from prune_keras.selection.scores import combine_members, debiased  # noqa: E402

CRITERIA = {
    "stack": ("l1", "l2", "geometric_median", "mean_activation", "taylor"),
    "resnet20": ("l1", "l2", "geometric_median", "bn_scale", "mean_activation", "taylor"),
    "vgg16": ("l1", "l2", "geometric_median"),
}
DRAWN = ("l2", "taylor")
COLUMNS = 4  # of panels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.set_defaults(networks=list(CRITERIA))
    arguments = parser.parse_args()
    data, rows = subjects.cifar10(arguments), []
    for name in arguments.networks:
        model = subjects.load(name, arguments)
        graph = prune_keras.trace(model)
        for criterion in CRITERIA[name]:
            pair = subjects.first(data.train, subjects.SCORED) if name != "vgg16" else None
            scores = prune_keras.score(model, criterion, data=pair)
            combined = combine_members(graph, scores, "mean")
            rows.append({"network": name, "criterion": criterion} | shares(graph, combined))
            print(rows[-1], flush=True)
            if criterion in DRAWN:
                draw(graph, combined, name, criterion, arguments.output)
        subjects.write(arguments.output / "imbalance.csv", rows)


def shares(graph, combined):
    """Return the share between families after each debias."""
    return {by: between(debiased(graph, combined, debias.get(by))) for by in debias.DEBIASES}


def between(values):
    """Return the share of the variance that lies between families."""
    everything = np.concatenate(values)
    apart = sum(len(v) * (v.mean() - everything.mean()) ** 2 for v in values)
    return float(apart / (np.square(everything - everything.mean()).sum() or 1))


def draw(graph, combined, name, criterion, output):
    """Draw the scores of every family, one panel a debias."""
    names = [family.name.split("/")[-1] for family in graph.families]
    rows = -(-len(debias.DEBIASES) // COLUMNS)
    size = (12, rows * max(2.0, 0.15 * len(names)))
    figure, panels = plt.subplots(rows, COLUMNS, figsize=size, sharey=True, layout="constrained")
    for panel, by in zip(panels.flat, debias.DEBIASES, strict=True):
        values = debiased(graph, combined, debias.get(by))
        panel.boxplot(values, orientation="horizontal", widths=0.7, flierprops={"markersize": 2})
        panel.set_title(f"{by}: {between(values):.0%} between layers", fontsize=9)
        panel.tick_params(labelsize=6)
    panels[0, 0].set_yticks(range(1, len(names) + 1), names)
    panels[0, 0].invert_yaxis()
    figure.suptitle(f"{name}: {criterion} of all neurons, a row a family", fontsize=10)
    figure.savefig(output / f"imbalance_{name}_{criterion}.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
