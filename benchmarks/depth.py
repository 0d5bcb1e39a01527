"""Time to trace, select and cut in place, over the number of layers.

    python benchmarks/depth.py

Three kinds of networks of convolutions with 32 filters: a plain stack; a residual stack, where
one family lives in every second layer; a dense block, where every layer reads all before it
through a concatenation. The labels that lie in a dense block, its kernels and its FLOPs grow with
the square of its depth, so that there time must do so no faster than they.
"""

import argparse
import json

import measuring

REPETITIONS = 3
DEPTHS = (20, 50, 100, 200, 400)
KINDS = ("plain", "residual", "dense")
STEPS = ("trace", "select", "cut")
FILTERS = {"plain": 32, "residual": 32, "dense": 8}


def main():
    rows = []
    for kind in KINDS:
        found = [measuring.in_fresh_process(__file__, "--kind", kind) for _ in range(REPETITIONS)]
        for number, depth in enumerate(DEPTHS):
            median = measuring.medians([repetition[number] for repetition in found])
            rows.append({"kind": kind, "depth": depth} | median)
    slopes = {kind: slopes_of([row for row in rows if row["kind"] == kind]) for kind in KINDS}
    measuring.finish("depth", rows, repetitions=REPETITIONS, filters=FILTERS, slopes=slopes)
    draw(rows, slopes)


def slopes_of(rows):
    """Return the slope of a line through the logarithms, for each step: 1 is linear."""
    import numpy as np

    depths = np.log([row["depth"] for row in rows])
    return {
        step: round(float(np.polyfit(depths, np.log([row[step] for row in rows]), 1)[0]), 2)
        for step in (*STEPS, "labels")
    }


def measure(kind, depth):
    """Return the seconds of each step on one new network, and how many labels lie in it."""
    import keras
    import numpy as np

    keras.utils.clear_session()
    keras.utils.set_random_seed(measuring.SEED)
    times, graph = pruned(built(kind, depth))
    labels = sum(np.size(ids) for weight in graph.weights for ids in weight.axes.values())
    return times | {"labels": labels}


def pruned(model):
    """Cut half of the units of every layer; return the seconds of each step and the trace."""
    import prune_keras

    trace, graph = measuring.seconds(lambda: prune_keras.trace(model))
    scores = prune_keras.score(model, "l2")
    select, plan = measuring.seconds(
        lambda: prune_keras.select(graph, scores, fraction=0.5, scope="uniform")
    )
    cut, _ = measuring.seconds(lambda: prune_keras.shrink_in_place(model, plan))
    return {"trace": trace, "select": select, "cut": cut}, graph


def built(kind, depth):
    """Return a network of `depth` convolutions, and as many activations."""
    from keras import Input, Model, layers

    filters = FILTERS[kind]
    inputs = Input((8, 8, 3))
    x = before = layers.Conv2D(filters, 3, padding="same")(inputs)
    for number in range(1, depth):
        x = layers.ReLU()(x)
        x = layers.Conv2D(filters, 3, padding="same")(x)
        if kind == "dense":
            x = before = layers.Concatenate()([before, x])
        elif kind == "residual" and number % 2 == 0:
            x = before = layers.Add()([before, x])
    return Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def draw(rows, slopes):
    """Draw seconds over depth, both logarithmic, one panel a step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(STEPS), figsize=(11, 4), sharey=True, layout="tight")
    for step, panel in zip(STEPS, panels, strict=True):
        for kind in KINDS:
            own = [row for row in rows if row["kind"] == kind]
            label = f"{kind}, slope {slopes[kind][step]:.2f}"
            panel.loglog([r["depth"] for r in own], [r[step] for r in own], "o-", label=label)
        panel.set_title(step)
        panel.set_xlabel("layers")
        panel.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0].set_ylabel("seconds")
    figure.savefig(measuring.RESULTS / "depth.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=KINDS, help="measure it once, in this process")
    given = parser.parse_args()
    if given.kind:
        measure("plain", 2)  # imports
        print(json.dumps([measure(given.kind, depth) for depth in DEPTHS]))
    else:
        main()
