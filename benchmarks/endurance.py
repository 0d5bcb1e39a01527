"""A thousand cuts of one model in one `fit`: memory of the process, and time a round.

    python benchmarks/endurance.py

A round is a cut of a tenth of the neurons in place, with Adam's state, and a training step. When
half of the neurons are gone, the model goes back to its full width. Memory and time must not grow:
old variables and traced functions have to be freed.
"""

import argparse
import time

import matplotlib

matplotlib.use("Agg")
import measuring  # noqa: E402

CUTS = 1000
WARM_UP = 100


def main(cuts):
    begun = time.perf_counter()
    rounds = measure(cuts)
    path = measuring.RESULTS / "endurance_rounds.csv"
    measuring.write_table(path, rounds)
    draw(rounds, measuring.RESULTS / "endurance.png")
    total = time.perf_counter() - begun
    measuring.finish("endurance", [summary(rounds)], cuts=cuts, seconds=round(total))


def summary(rounds):
    """Return medians of the first and the last hundred rounds after the warm-up."""
    late = rounds[WARM_UP:]
    share = min(100, len(late) // 2)
    row = {}
    for name in ("MB", "MB allocated", "seconds", "processor seconds"):
        first, last = (
            measuring.median([r[name] for r in part]) for part in (late[:share], late[-share:])
        )
        row |= {f"{name}, first": first, f"{name}, last": last, f"{name}, ratio": last / first}
    row["kB allocated a round"] = growth([r["MB allocated"] for r in rounds])
    return row | {"roll-backs": sum(r["rolled back"] for r in rounds)}


def growth(megabytes):
    """Return by how many kilobytes memory grows a round, in the middle of both its halves."""
    late = megabytes[WARM_UP:]
    half = len(late) // 2
    first, last = measuring.median(late[:half]), measuring.median(late[-half:])
    return (last - first) * 1e3 / (len(late) - half)


def measure(cuts):
    """Return a row a round: neurons, megabytes of the process, seconds."""
    import keras

    import prune_keras
    from prune_keras.rounds.progress import Progress
    from prune_keras.tracing import trace

    model, x, y = trained()
    progress = Progress(model, trace(model))
    rows = []

    class Cuts(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begun = time.perf_counter(), time.process_time()
            self.back = progress.graph.cost.neurons < progress.original.neurons / 2
            if self.back:
                progress.go_back()
            scores = prune_keras.score(model, "l2")
            progress.cut(model, prune_keras.select(progress.graph, scores, fraction=0.1))

        def on_epoch_end(self, epoch, logs=None):
            row = {"round": epoch, "neurons": progress.graph.cost.neurons}
            took = time.perf_counter() - self.begun[0], time.process_time() - self.begun[1]
            row |= {"seconds": took[0], "processor seconds": took[1]}
            row |= {"MB": measuring.resident() / 1e6, "MB allocated": measuring.allocated() / 1e6}
            rows.append(row | {"rolled back": int(self.back)})

    model.fit(x, y, batch_size=16, epochs=cuts, verbose=0, callbacks=[Cuts()])
    return rows


def trained():
    """Return a small network that was trained for a step, and its samples."""
    import keras
    import numpy as np

    from prune_keras.models import networks

    keras.utils.set_random_seed(measuring.SEED)
    model = networks.batch_norm_stack(filters=(16, 16, 24, 24), units=64)
    model.compile("adam", "sparse_categorical_crossentropy")
    rng = np.random.default_rng(measuring.SEED)
    x = rng.uniform(0, 255, (16, *model.input_shape[1:])).astype("float32")
    y = rng.integers(0, 10, len(x))
    model.fit(x, y, verbose=0)
    return model, x, y


def draw(rounds, path):
    """Draw memory and time over the rounds."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True, layout="constrained")
    for axis, name, unit in zip(
        axes, ("MB", "seconds"), ("MB resident", "seconds a round"), strict=True
    ):
        axis.plot([r["round"] for r in rounds], [r[name] for r in rounds], linewidth=0.8)
        axis.set_ylabel(unit)
        axis.set_ylim(bottom=0)
    axes[-1].set_xlabel("cut")
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=CUTS)
    given = parser.parse_args()
    if given.cuts < WARM_UP + 2:
        parser.error(f"--cuts must be at least {WARM_UP + 2}: the first {WARM_UP} warm up")
    main(given.cuts)
