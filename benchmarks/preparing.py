"""Half of the FLOPs of a small ResNet-20, at equal epochs: with preparation for a cut, or without.

    python benchmarks/preparing.py --data DIR --models FOLDER --images 8000

Each seed has one network, trained plainly, which is kept in FOLDER. From there all ways train for
the same number of epochs more, by batches of the same images: rounds while training, with and
without options; or half of the epochs that prepare for one cut, the cut, and the other half, behind
which `plain` prepares for nothing. What discrimination-aware pruning trains by itself counts among
its epochs. Cuts choose and repair by the first 1,024 training images. Ways are fixed beforehand;
the test images are looked at once for each row. A way and seed in the table are left out.
"""

import argparse
import csv
import math
import os
import time
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables

import prune_keras
from prune_keras.callbacks import FineTuning, GroupPenalty, ProgressivePruning, ScaleSparsity
from prune_keras.models import cifar10, networks
from prune_keras.models.images import Batches

RESULTS = subjects.RESULTS.parent / "training"
TARGET = {"flops": 0.5}
SEEN = 1024  # training images that cuts look at
HOW = prune_keras.DiscriminationAware(picks=2)
RATE, DENSE_RATE = 0.02, 0.1
SETTINGS = ("filters", "images", "trained", "epochs", "seed", "way")
MEASURED = ("moment", "own_epochs", "validation", "test", "params", "flops", "seconds", "device")
HEADS = (*SETTINGS, *MEASURED)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.npz")
    parser.add_argument("--models", type=Path, required=True, help="folder of trained networks")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--filters", type=int, nargs=3, default=[8, 16, 32])
    parser.add_argument("--images", type=int, default=45000, help="training images, at most")
    parser.add_argument("--trained", type=int, default=15, help="epochs before")
    parser.add_argument("--epochs", type=int, default=6, help="epochs from there, at least 2")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    arguments = parser.parse_args()
    data = cifar10.load_data(arguments.data / "cifar10.npz")
    data = data._replace(train=tuple(part[: arguments.images] for part in data.train))
    for folder in (arguments.output, arguments.models):
        folder.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "preparing.csv"
    for seed in arguments.seeds:
        for way in arguments.ways:
            of = settings(arguments, seed, way)
            known = {tuple(row[name] for name in SETTINGS) for row in tables.read(file)}
            if tuple(of.values()) not in known:
                write(file, of, gone(arguments, seed, way, data))


def settings(arguments, seed, way):
    """Return what rows are known by, as texts."""
    filters = "/".join(map(str, arguments.filters))
    told = (filters, arguments.images, arguments.trained, arguments.epochs, seed, way)
    return dict(zip(SETTINGS, map(str, told), strict=True))


def gone(arguments, seed, way, data):
    """Go a way from the network of a seed; return its rows."""
    model = dense(arguments, seed, data)
    keras.utils.set_random_seed(seed)
    batches = Batches(*data.train, seed=seed + 100)
    compiled(model, RATE, arguments.epochs * len(batches))
    run = Run(model, data, batches, arguments.epochs)
    WAYS[way](run)
    return run.rows


def dense(arguments, seed, data):
    """Return the network of a seed, trained plainly, from its file where there is one."""
    told = "-".join(map(str, [*arguments.filters, arguments.images, arguments.trained, seed]))
    file = arguments.models / f"resnet20-{told}.keras"
    if not file.exists():
        keras.utils.set_random_seed(seed)
        model, batches = (
            networks.resnet(20, filters=arguments.filters),
            Batches(*data.train, seed=seed),
        )
        compiled(model, DENSE_RATE, arguments.trained * len(batches))
        model.fit(batches, epochs=arguments.trained, verbose=2)
        prune_keras.export(model, file)
    return keras.models.load_model(file, compile=False)


def compiled(model, rate, steps, **options):
    """Compile for steps along which the rate falls to zero."""
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.SGD(
        schedule, momentum=0.9, nesterov=True, weight_decay=5e-4, **options
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])


class Run:
    """One way of one network, and what was measured on it."""

    def __init__(self, model, data, batches, epochs):
        self.model, self.data, self.batches, self.epochs = model, data, batches, epochs
        self.some = tuple(part[:SEEN] for part in data.train)
        self.rows, self._begun, self._flops = [], time.perf_counter(), flops(model)

    def fit(self, begin, end, *callbacks):
        """Train from an epoch up to another one; the schedule stands where the epochs say."""
        self.model.optimizer.build(self.model.trainable_variables)
        self.model.optimizer.iterations.assign(begin * len(self.batches))
        options = {"initial_epoch": begin, "epochs": end, "callbacks": [*callbacks], "verbose": 2}
        self.model.fit(self.batches, **options)

    def measure(self, moment, model=None, own_epochs=0.0):
        """Add a row; the time that measuring takes does not count."""
        model, seconds = model or self.model, time.perf_counter() - self._begun
        told = {"moment": moment, "own_epochs": f"{own_epochs:.2f}", "seconds": f"{seconds:.1f}"}
        for name in ("validation", "test"):
            images, labels = getattr(self.data, name)
            predicted = model.predict(images, batch_size=500, verbose=0).argmax(axis=-1)
            told[name] = f"{np.mean(predicted == labels):.4f}"
        told |= {"params": model.count_params(), "flops": f"{flops(model) / self._flops:.4f}"}
        self.rows.append(told | {"device": measuring.settings()["processor"]})
        self._begun = time.perf_counter() - seconds


def flops(model):
    return prune_keras.cost(model).flops


class Copies(keras.callbacks.Callback):
    """Keeps the model as it is right after the last cut."""

    def on_cut(self, opened, logs=None):
        self.model_cut = keras.models.clone_model(self.model)
        self.model_cut.set_weights(self.model.get_weights())


def untouched(run):
    run.measure("end")


def rounds(run, length=1, rate_epochs=None, **options):
    """Cut round by round in the first two thirds of the epochs, and fine-tune in the last one."""
    if rate_epochs is not None:
        compiled(run.model, RATE, rate_epochs * len(run.batches))
    schedule = prune_keras.schedules.Geometric(rounds=max(run.epochs // 3, 1) * 2 // length)
    asked = {"target": TARGET, "data": run.some, "monitor": "loss", "schedule": schedule}
    asked |= subjects.FUSED | options
    asked["epochs_per_round"] = length
    copies = Copies()
    run.fit(0, run.epochs, ProgressivePruning(**asked), copies)
    run.measure("end")
    run.measure("cut", copies.model_cut)


def averages(run):
    """Keep averages of the weights, which stay as the training ends."""
    steps = run.epochs * len(run.batches)
    compiled(run.model, RATE, steps, use_ema=True, ema_momentum=0.99)
    rounds(run)


def around(run, callback, **cut):
    """Prepare for half of the epochs, cut once, and fine-tune for the other half."""
    half = run.epochs // 2
    run.fit(0, half, *([] if callback is None else [callback]))
    run.model, _ = prune_keras.prune(run.model, TARGET, data=run.some, **cut)
    run.measure("cut")
    run.fit(half, run.epochs)
    run.measure("end")


def discrimination(run):
    """Choose by heads, by as many images as make up half of the epochs, and fine-tune."""
    families = len(prune_keras.trace(run.model).families)
    passes = HOW.head_epochs + families * HOW.picks * (1 + HOW.epochs)
    images = len(run.batches.labels)
    seen = max(images * (run.epochs // 2) // passes, 32)
    some = tuple(part[:seen] for part in run.data.train)
    run.model, _ = prune_keras.discriminate(run.model, TARGET, some, how=HOW)
    own = passes * seen / images
    run.measure("cut", own_epochs=own)
    run.fit(min(math.ceil(own), run.epochs), run.epochs)
    run.measure("end", own_epochs=own)


WAYS = {
    "dense": untouched,
    "plain": lambda run: around(run, None),
    "progressive": rounds,
    "slimming": lambda run: around(run, ScaleSparsity(1e-4), criterion="bn_scale"),
    "greg": lambda run: around(
        run, GroupPenalty(1e-4, growth=1e-3, norm="l2", share=0.5), criterion="l2"
    ),
    "discrimination": discrimination,
    "rewinding": lambda run: rounds(run, length=2, rate_epochs=4, fine_tuning=FineTuning("fit")),
    "averages": averages,
    "last half epoch": lambda run: rounds(run, fine_tuning=FineTuning(scales_only=0.5)),
}


def write(file, of, rows):
    """Append all rows of one way at once."""
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as written:
        writer = csv.DictWriter(written, HEADS)
        if new:
            writer.writeheader()
        writer.writerows({**of, **row} for row in rows)
        written.flush()
        os.fsync(written.fileno())


if __name__ == "__main__":
    main()
