"""Accuracy right after a cut, without training: criteria, scopes, repairs, steps and samples.

    python benchmarks/untrained.py --data DIR --models FOLDER

Each row is one cut of a trained network to a share of its FLOPs, and the accuracy of what is left
on validation images that nothing else looked at; scores and repair look at training images. With
each seed these are other ones, or the small network for digits is trained with it. What a cut in
several steps leaves after each of them is a row, too. Rows are written as they are measured, and
those that are in the table are not made again. `--models` keeps the thin networks, of which
`--test` measures some on the test images.
"""

import argparse
import contextlib
import datetime
import time
from pathlib import Path
from typing import NamedTuple

import keras
import measuring
import subjects
import tables
from first_cut import TWO, repaired

import prune_keras
from prune_keras import pruning
from prune_keras.models import digits
from prune_keras.samples.batches import Samples

RESULTS = subjects.RESULTS.parent / "untrained"
OBS = ("obs", "none")
OLD = (TWO, "mean")
BATCH = 256


class Way(NamedTuple):
    """How a network is cut; all fields are texts, as in the table."""

    criterion: str
    debias: str
    scope: str
    repair: str
    images: str
    seed: str


KEYS = ("network", *Way._fields, "steps", "flops")


def cuts():
    """Yield how to cut, in how many steps, and to which shares, the most telling first."""
    best, old = (*OBS, "optimal", "sequential"), (*OLD, "global", "weights")
    plain = (*OBS, "global", "sequential"), (*OLD, "global", "sequential")
    for way in (best, *plain, old):
        yield Way(*way, "1024", "0"), 1, ("0.5", "0.7")
    for seed in ("1", "2"):
        for way in (best, *plain, old):
            yield Way(*way, "1024", seed), 1, ("0.5",)
    for seed in ("0", "1", "2"):
        yield Way(*best, "1024", seed), 4, ("0.5",)
    for way in (best, old, plain[1]):
        yield Way(*way, "1024", "0"), 1, ("0.9", "0.4", "0.25")
    for images in ("256", "4096"):
        yield Way(*best, images, "0"), 1, ("0.5",)
    for criterion in ("l2", "taylor"):
        for repair in ("weights", "sequential"):
            yield Way(criterion, "mean", "global", repair, "1024", "0"), 1, ("0.5", "0.7")
    others = [(*OBS, "optimal"), (*OBS, "global"), ("reconstruction", "mean", "global")]
    for way in (*others, ("obs", "mean", "global"), ("obs", "flops", "global")):
        yield Way(*way, "weights", "1024", "0"), 1, ("0.5", "0.7")


def cuts_of_digits(seed):
    """Yield the same for a small network that was trained with a seed, on 997 images."""
    for criterion in ("obs", TWO, "taylor", "reconstruction", "l2"):
        by = "none" if criterion == "obs" else "mean"
        for scope in ("global", "optimal") if criterion == "obs" else ("global",):
            for repair in ("weights", "sequential"):
                yield Way(criterion, by, scope, repair, "997", seed), 1, ("0.5", "0.25", "0.1")


def chosen():
    """Yield what is measured on test images, once: what left most, and what is done by itself."""
    best, now = (*OBS, "optimal", "sequential", "1024"), (*OLD, "global", "sequential", "1024")
    before = (*OLD, "global", "weights", "1024")
    for seed in ("0", "1", "2"):
        yield (*best, seed, "1", "0.5")
    for share in ("0.7", "0.4", "0.25", "0.9"):
        yield (*best, "0", "1", share)
    yield (*best, "0", "4", "0.5")
    for way in (now, before):
        for seed in ("0", "1", "2"):
            yield (*way, seed, "1", "0.5")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    subjects.add_arguments(parser)
    parser.add_argument("--models", type=Path, required=True, help="where thin networks are kept")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4], help="rows of these only")
    parser.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="rows of these only")
    parser.add_argument("--test", action="store_true", help="measure what is chosen on test images")
    parser.set_defaults(output=RESULTS, networks=["resnet20", "digits"])
    arguments = parser.parse_args()
    if arguments.test or "resnet20" in arguments.networks:
        model, data = subjects.load("resnet20", arguments), subjects.cifar10(arguments)
        if arguments.test:
            return test("resnet20", model, data, arguments)
        measure("resnet20", model, data, cuts(), arguments)
    for seed in arguments.seeds if "digits" in arguments.networks else ():
        measure("digits", *trained(int(seed)), cuts_of_digits(seed), arguments)


def trained(seed):
    """Return a network for digits, trained for a minute, and its data."""
    data = digits.load_data(seed)
    keras.utils.set_random_seed(seed)
    model = digits.network()
    optimizer = keras.optimizers.Adam(2e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(*data.train, batch_size=32, epochs=15, verbose=0)
    print("digits", subjects.accuracy(model, data.validation), flush=True)
    return model, data


def measure(name, model, data, asked, arguments):
    path = arguments.output / "untrained.csv"
    rows = tables.read(path)
    known = {tuple(row[key] for key in KEYS) for row in rows}
    for way, steps, shares in asked:
        if steps not in arguments.steps or way.seed not in arguments.seeds:
            continue
        wanted = [s for s in shares if (name, *way, str(steps), s) not in known]
        begin = int(way.seed) * int(way.images) if name == "resnet20" else 0
        samples = tuple(array[begin : begin + int(way.images)] for array in data.train)
        for key, thin, seconds in made(model, samples, way, steps, wanted):
            rows.append(row_of((name, *way, *key), model, thin, data.validation, seconds))
            print(rows[-1], flush=True)
            subjects.write(path, rows)
            thin.save(file_of(arguments.models, (name, *way, *key)))


def test(name, model, data, arguments):
    """Measure what is chosen, as far as it was made, and the network as it is."""
    path = arguments.output / "test.csv"
    rows = [{"network": name, "accuracy": subjects.accuracy(model, data.test)}]
    for key in chosen():
        file = file_of(arguments.models, (name, *key))
        if file.exists():
            thin = keras.models.load_model(file, compile=False)
            rows.append(row_of((name, *key), model, thin, data.test))
            print(rows[-1], flush=True)
        subjects.write(path, rows)


def file_of(folder, key):
    return folder / f"{'-'.join(key)}.keras"


def made(model, samples, way, steps, shares):
    """Yield (steps, share), a thin network and the seconds that it took."""
    for share in shares:
        begun = time.perf_counter(), time.process_time()
        if steps == 1:
            yield ("1", share), at_once(model, way, samples, float(share)), spent(begun)
        else:
            yield from in_steps(model, way, samples, steps, float(share), begun)


def spent(begun):
    return time.perf_counter() - begun[0], time.process_time() - begun[1]


def at_once(model, way, samples, share):
    graph, scores = prune_keras.trace(model), scores_of(model, way, samples)
    choice = {"scope": way.scope, "debias": way.debias, "running": way.criterion == "obs"}
    plan = prune_keras.select(graph, scores, target={"flops": share}, **choice)
    return repaired(model, graph, plan, Samples.of(samples, BATCH), way.repair)


def in_steps(model, way, samples, steps, share, begun):
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
            data_batch_size=BATCH,
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


def scores_of(model, way, samples):
    """Return scores, made once for each set of samples."""
    key = (id(model), way.criterion, way.images, way.seed)
    if key not in KNOWN:
        KNOWN[key] = prune_keras.score(model, way.criterion, samples, data_batch_size=BATCH)
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
