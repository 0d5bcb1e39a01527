"""Accuracy right after a cut, without training: criteria, scopes, repairs, steps and samples.

    python benchmarks/untrained.py --data DIR --models FOLDER

Each row is one cut of a trained network to a share of its FLOPs, and the accuracy of what is left
on validation images that nothing else looked at; scores and repair look at training images. With
each seed these are other ones, or the small network for digits is trained with it. What a cut in
several steps leaves after each of them is a row, too. Rows are written as they are measured, and
those that are in the table are not made again. `--models` keeps the thin networks, of which
`--test` measures some on the test images, and those that had to be trained first.
"""

import argparse
import contextlib
import datetime
import time
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables
from first_cut import repaired
from untrained_cuts import KEYS, NETWORKS, TESTED, chosen, cuts
from untrained_networks import load

import prune_keras
from prune_keras import pruning
from prune_keras.samples.batches import Samples

RESULTS = subjects.RESULTS.parent / "untrained"
BATCHES = {"vgg16": 32}  # of images that scores and repair see at once; else 256


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--models", type=Path, required=True, help="where thin networks are kept")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4], help="rows of these only")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="rows of these only")
    parser.add_argument("--test", action="store_true", help="measure what is chosen on test images")
    parser.set_defaults(output=RESULTS, networks=NETWORKS)
    arguments = parser.parse_args()
    for name in arguments.networks:
        if arguments.test:
            if name in TESTED:
                test(name, *load(name, 0, arguments), arguments)
        elif name == "digits":
            for seed in arguments.seeds:
                measure(name, *load(name, int(seed), arguments), cuts(name, [seed]), arguments)
        else:
            measure(name, *load(name, 0, arguments), cuts(name, arguments.seeds), arguments)


def measure(name, model, data, asked, arguments):
    path = arguments.output / f"{name}.csv"
    rows = tables.read(path)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for way, steps, shares in asked:
        if steps not in arguments.steps or way.seed not in arguments.seeds:
            continue
        wanted = [s for s in shares if (name, *way, str(steps), s) not in known]
        samples = drawn(name, way, data.train)
        for key, thin, seconds in made(model, samples, way, steps, wanted, BATCHES.get(name, 256)):
            rows.append(row_of((name, *way, *key), model, thin, data.validation, seconds))
            known.add((name, *way, *key))
            print(rows[-1], flush=True)
            subjects.write(path, rows)
            thin.save(file_of(arguments.models, (name, *way, *key)))


def drawn(name, way, pair):
    """Return the training images that a row looks at: others with each seed, where there are."""
    count = int(way.images)
    begin = 0 if name == "digits" else int(way.seed) * count
    return tuple(np.take(each, range(begin, begin + count), 0, mode="wrap") for each in pair)


def test(name, model, data, arguments):
    """Measure what is chosen, as far as it was made, and the network as it is."""
    path = arguments.output / f"{name}-test.csv"
    rows = [{"network": name, "accuracy": subjects.accuracy(model, data.test)}]
    for key in chosen(name):
        file = file_of(arguments.models, (name, *key))
        if file.exists():
            thin = keras.models.load_model(file, compile=False)
            rows.append(row_of((name, *key), model, thin, data.test))
            print(rows[-1], flush=True)
        subjects.write(path, rows)


def file_of(folder, key):
    return folder / f"{'-'.join(key)}.keras"


def made(model, samples, way, steps, shares, batch):
    """Yield (steps, share), a thin network and the seconds that it took."""
    for share in shares:
        begun = time.perf_counter(), time.process_time()
        if steps == 1:
            yield ("1", share), at_once(model, way, samples, float(share), batch), spent(begun)
        else:
            yield from in_steps(model, way, samples, steps, float(share), batch, begun)


def spent(begun):
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def at_once(model, way, samples, share, batch):
    graph, scores = prune_keras.trace(model), scores_of(model, way, samples, batch)
    choice = {"scope": way.scope, "debias": way.debias, "running": way.criterion == "obs"}
    plan = prune_keras.select(graph, scores, target={"flops": share}, **choice)
    return repaired(model, graph, plan, Samples.of(samples, batch), way.repair)


def in_steps(model, way, samples, steps, share, batch, begun):
    """Return what there is after each step of one cut."""
    found = []

    def see(thin):
        now = len(found) + 1
        reached = f"{share ** (now / steps):.2g}"
        found.append(((str(now), reached), keras.models.clone_model(thin), spent(begun)))
        found[-1][1].set_weights(thin.get_weights())

    with watched(see):
        prune_keras.prune(
            model,
            {"flops": share},
            criterion=way.criterion,
            debias=way.debias,
            scope=way.scope,
            data=samples,
            fuse=None if way.repair == "none" else way.repair,
            data_batch_size=batch,
            steps=steps,
        )
    return found


@contextlib.contextmanager
def watched(see):
    """Let a function see the thin model after each step of a cut."""

    class Watched(pruning._Cut):
        def cut(self, done, whole):
            super().cut(done, whole)
            see(self.thin)

    before, pruning._Cut = pruning._Cut, Watched
    try:
        yield
    finally:
        pruning._Cut = before


KNOWN = {}


def scores_of(model, way, samples, batch):
    """Return scores, made once for each set of samples."""
    key = (id(model), way.criterion, way.images, way.seed)
    if key not in KNOWN:
        KNOWN[key] = prune_keras.score(model, way.criterion, samples, data_batch_size=batch)
    return KNOWN[key]


def row_of(key, model, thin, images, seconds=None):
    """Return one row: what is left of the network, and how it does."""
    left = prune_keras.cost(thin).share_of(prune_keras.cost(model))
    thin.compile(loss=model.loss, metrics=["accuracy"])
    row = dict(zip(KEYS, key, strict=True)) | {"params": left["params"], "left": left["flops"]}
    row["accuracy"] = subjects.accuracy(thin, images)
    if seconds is not None:
        row["seconds"], row["cpu_seconds"] = (round(each, 1) for each in seconds)
    processor = measuring.settings()["processor"]
    return row | {"date": datetime.date.today().isoformat(), "processor": processor}


if __name__ == "__main__":
    main()
