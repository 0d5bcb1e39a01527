"""Time and memory of a cut: VGG16 with 138 million parameters, in place and as a thinner copy.

    python benchmarks/surgery.py

Each measurement runs in a process of its own, on a new network. Time and memory are given in
copies of the network's weights; a copy is timed in the same process.
"""

import argparse
import json

import measuring

REPETITIONS = 5
FRACTIONS = (0.1, 0.5)  # of the neurons of every layer
WAYS = ("in place", "copy", "score l2")


def main():
    rows = []
    for way in WAYS:
        for fraction in FRACTIONS if way != "score l2" else FRACTIONS[:1]:
            found = [
                measuring.in_fresh_process(__file__, "--way", way, "--fraction", fraction)
                for _ in range(REPETITIONS)
            ]
            rows.append({"what": way, "fraction": fraction} | row(measuring.medians(found)))
    measuring.finish("surgery", rows, repetitions=REPETITIONS, network="VGG16(weights=None)")


def row(median):
    """Return what is compared with the bounds: 3 copies + 2 s and 1.2 copies; 2.2 for a copy."""
    return {
        "seconds": median["seconds"],
        "trace": median["trace"],
        "select": median["select"],
        "one copy, seconds": median["copy"],
        "3 copies + 2 s": 3 * median["copy"] + 2,
        "extra memory, copies": median["extra"] / median["bytes"],
        "params left": median["left"],
    }


def measure(way, fraction):
    """Measure one cut of a new network."""
    import keras
    import numpy as np

    import prune_keras

    keras.utils.set_random_seed(measuring.SEED)
    model = keras.applications.VGG16(weights=None)
    prune_keras.trace(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]))  # imports
    copy = measuring.seconds(lambda: copied(model))[0]
    before = model.count_params()
    times = {}

    def cut():
        times["trace"], graph = measuring.seconds(lambda: prune_keras.trace(model))
        rng = np.random.default_rng(measuring.SEED)
        scores = {path: rng.uniform(size=width) for path, width in graph.widths.items()}
        times["select"], plan = measuring.seconds(
            lambda: prune_keras.select(graph, scores, fraction=fraction, scope="uniform")
        )
        if way == "in place":
            return prune_keras.shrink_in_place(model, plan) or model
        return prune_keras.shrink(model, plan)

    def score():
        times.update(trace=0.0, select=0.0)
        return prune_keras.score(model, "l2") and model

    work = score if way == "score l2" else cut
    extra, (taken, thin) = measuring.peak_bytes(lambda: measuring.seconds(work))
    left = thin.count_params() / before
    return times | {
        "seconds": taken, "copy": copy, "extra": extra, "bytes": 4 * before, "left": left
    }  # fmt: skip


def copied(model):
    """Copy the weights as numbers, which is less than what any cut must do."""
    return [weights.copy() for weights in model.get_weights()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--way", choices=WAYS, help="measure once, in this process")
    parser.add_argument("--fraction", type=float, default=FRACTIONS[0])
    given = parser.parse_args()
    if given.way:
        print(json.dumps(measure(given.way, given.fraction)))
    else:
        main()
