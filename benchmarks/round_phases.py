"""Processor seconds of a round by phase, of this checkout and of another one, in turns.

    git worktree add ../before main
    python benchmarks/round_phases.py --against ../before

A round of `ProgressivePruning` with everything at its default: a tenth of the neurons goes, by
64 samples in batches of 32, on which the network is fitted too. "step anew" is what the first
training step after the cut takes more than a later one, "judge" the metric right after the cut.
Every measurement is a process of its own with one thread; what was compiled before the round is
warm. Processor seconds depend less on what else runs than those of a clock.
"""

import argparse
import functools
import json
import os
import time
from pathlib import Path

import measuring

HERE = Path(__file__).resolve().parent.parent
NETWORKS = ("ResNet50V2", "stack")
SAMPLES, BATCH_SIZE, PIXELS = 64, 32, 96
PHASES = ("score", "choose", "fuse", "cut", "recalibrate", "judge", "step anew")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")


def main(given):
    os.environ.update(dict.fromkeys(THREADS, "1"))
    trees = {"this": HERE} | ({"before": given.against} if given.against else {})
    rows = []
    for network in given.networks:
        found = {tree: [] for tree in trees}
        for _ in range(given.repetitions):
            for tree, path in trees.items():
                found[tree].append(measured(network, path))
        medians = {tree: measuring.medians(found[tree]) for tree in trees}
        rows += [{"network": network} | row for row in compared(medians)]
    options = {"samples": SAMPLES, "batch_size": BATCH_SIZE, "pixels": PIXELS}
    measuring.finish("round_phases", rows, repetitions=given.repetitions, threads=1, **options)


def compared(medians):
    """Return a row a phase, with the ratio of this checkout to the other one."""
    for phase in (*PHASES, "all", "a later step"):
        row = {"phase": phase} | {tree: found[phase] for tree, found in medians.items()}
        if row.get("before"):
            row["ratio"] = row["this"] / row["before"]
        yield row


def measured(network, tree):
    os.environ["PYTHONPATH"] = str(tree.resolve())
    return measuring.in_fresh_process(__file__, "--here", network)


def here(network):
    """Return the processor seconds of each phase of one round."""
    import keras

    from prune_keras.callbacks import ProgressivePruning, monitoring
    from prune_keras.repair import Repair
    from prune_keras.rounds import cutter, progress

    spent = dict.fromkeys(PHASES, 0.0)
    count(cutter.Cutter, "score", "score", spent)
    count(cutter.Cutter, "follow", "choose", spent)
    count(cutter, "check_alone", "cut", spent)
    count(Repair, "of", "fuse", spent)
    count(progress.Progress, "cut", "cut", spent)
    count(Repair, "apply", "recalibrate", spent)
    count(monitoring.Monitoring, "now", "judge", spent)
    keras.utils.set_random_seed(measuring.SEED)
    model, x, y = built(network)
    options = {"batch_size": BATCH_SIZE, "validation_data": (x, y), "verbose": 0}
    model.fit(x, y, **options)
    model.fit(x, y, **options)
    pruning = ProgressivePruning(target={"neurons": 0.9}, fraction=0.1, data=(x, y), verbose=0)
    steps = []
    begun = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs=None: steps.append(-time.process_time()),
        on_train_batch_end=lambda batch, logs=None: steps.append(steps.pop() + time.process_time()),
    )
    model.fit(x, y, epochs=2, callbacks=[pruning, begun], **options)
    first, *others = steps
    spent["step anew"] = first - measuring.median(others)
    return spent | {"all": sum(spent.values()), "a later step": measuring.median(others)}


def count(owner, name, phase, spent):
    """Add the processor seconds of a function to those of a phase."""
    given = vars(owner)[name]
    function = getattr(given, "__func__", given)

    @functools.wraps(function)
    def counted(*args, **kwargs):
        begun = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[phase] += time.process_time() - begun

    setattr(owner, name, classmethod(counted) if isinstance(given, classmethod) else counted)


def built(network):
    """Return a compiled network, and samples."""
    import keras
    import numpy as np

    from prune_keras.models import cifar10

    rng = np.random.default_rng(measuring.SEED)
    if network == "stack":
        size, model = 32, cifar10.stack()
    else:
        size = PIXELS
        network = getattr(keras.applications, network)
        model = network(weights=None, input_shape=(size, size, 3), classes=10)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x = rng.uniform(size=(SAMPLES, size, size, 3)).astype("float32")
    return model, x, rng.integers(10, size=SAMPLES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--here", choices=NETWORKS, help="measure it once, in this process")
    chosen = parser.parse_args()
    if chosen.here:
        print(json.dumps(here(chosen.here)))
    else:
        main(chosen)
