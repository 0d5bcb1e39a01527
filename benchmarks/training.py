"""Training that prepares for a cut, on CIFAR-10: accuracy right after cuts, by way of training.

    python benchmarks/training.py --data DIR

Each network is trained from the same initial values as those of its seed, on the same batches, for
the same number of epochs; only what steps see or pay differs. It is then cut by unit, with the
lowest norms of each family gone, and by weight, in place, without any training afterwards; `own`
cuts choose and repair as this library does by itself, from 1,024 training images. Ways and shares
are fixed beforehand, and the test images are looked at once for each row. Rows are written as they
are measured, and a way and seed that are in the table are not trained again.
"""

import argparse
import csv
import os
import time
from pathlib import Path

import keras
import measuring
import numpy as np
import subjects
import tables

import prune_keras
from prune_keras.callbacks import (
    GroupPenalty,
    ScaleSparsity,
    SensitivityRegularization,
    TargetedDropout,
)
from prune_keras.models import cifar10, networks
from prune_keras.models.images import Batches

RESULTS = subjects.RESULTS.parent / "training"
UNIT, WEIGHT = (0.25, 0.5, 0.75, 0.9), (0.5, 0.75, 0.9, 0.95, 0.99)
OWN_IMAGES = 1024
SETTINGS = ("filters", "epochs", "images", "precision", "seed", "way")
HEADS = (*SETTINGS, "cut", "share", "validation", "test", "params", "step_ms", "device")


def ways(epochs):
    """Return callbacks by the name of a way; a ramp takes three quarters of the epochs."""
    ramp = max(1, epochs * 3 // 4)
    return {
        "plain": [],
        "dropout": [TargetedDropout(1.0, 0.25)],
        "l1": [],
        "unit .5 .5": [TargetedDropout(0.5, 0.5)],
        "unit .75 .9 ramped": [TargetedDropout(0.75, 0.9, ramp_epochs=ramp)],
        "weight .5 .5": [TargetedDropout(0.5, 0.5, "weight")],
        "weight .9 .75 ramped": [TargetedDropout(0.9, 0.75, "weight", ramp_epochs=ramp)],
        "weight .99 1 ramped": [TargetedDropout(0.99, 1.0, "weight", ramp_epochs=ramp)],
        "slimming": [ScaleSparsity(1e-4)],
        "greg": [GroupPenalty(1e-4, growth=1e-3, norm="l2", share=0.5)],
        "sensitivity": [SensitivityRegularization(1e-3, "specific", refresh_steps=10)],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.npz")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--filters", type=int, nargs=3, default=[16, 32, 64])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--images", type=int, default=45000, help="training images, at most")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", default=[*ways(1)])
    arguments = parser.parse_args()
    data = cifar10.load_data(arguments.data / "cifar10.npz")
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / "training.csv"
    for seed in arguments.seeds:
        for way in arguments.ways:
            of = settings(arguments, seed, way)
            known = {tuple(row[name] for name in SETTINGS) for row in tables.read(file)}
            if tuple(of.values()) not in known:
                model, step = trained(arguments, seed, way, data)
                write(file, [{**of, "step_ms": step, **row} for row in cuts(model, data)])


def settings(arguments, seed, way):
    """Return what rows are known by, as texts."""
    filters = "/".join(map(str, arguments.filters))
    told = (filters, arguments.epochs, arguments.images, arguments.precision, seed, way)
    return dict(zip(SETTINGS, map(str, told), strict=True))


def trained(arguments, seed, way, data):
    """Return a trained network, and the milliseconds of a step, the first epoch left out."""
    keras.utils.set_random_seed(seed)
    model = networks.resnet(20, filters=arguments.filters, precision=arguments.precision)
    if way == "l1":
        for variable in model.trainable_variables:
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L1(1e-5)
    images, labels = (part[: arguments.images] for part in data.train)
    batches = Batches(images, labels, seed=seed)
    rate = keras.optimizers.schedules.CosineDecay(0.1, arguments.epochs * len(batches))
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=5e-4),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    clock = Clock()
    callbacks = [*ways(arguments.epochs)[way], clock]
    model.fit(batches, epochs=arguments.epochs, callbacks=callbacks, verbose=2)
    return model, f"{1000 * clock.least / len(batches):.1f}"


class Clock(keras.callbacks.Callback):
    """Times epochs; `least` are the seconds of the fastest behind the first."""

    def on_train_begin(self, logs=None):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self._begun = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._begun)

    @property
    def least(self):
        return min(self.seconds[1:] or self.seconds)


def cuts(model, data):
    """Yield what is left of a network after each cut."""
    yield row(model, data, "none", 0)
    some = tuple(part[:OWN_IMAGES] for part in data.train)
    for share in UNIT:
        lowest = {"criterion": "l2", "debias": "none", "scope": "uniform", "fuse": None}
        first = next(path for path in prune_keras.trace(model).producers)
        thin, _ = prune_keras.prune(model, fraction=share, exclude=[first], **lowest)
        yield row(thin, data, "unit", share)
    for share in UNIT:
        thin, _ = prune_keras.prune(model, fraction=share, data=some)
        yield row(thin, data, "own", share)
    for share in WEIGHT:
        before = model.get_weights()
        prune_keras.sparsify(model, share)
        yield row(model, data, "weight", share)
        model.set_weights(before)


def row(model, data, cut, share):
    accuracies = {}
    for name, (images, labels) in (("validation", data.validation), ("test", data.test)):
        predicted = model.predict(images, batch_size=256, verbose=0).argmax(axis=-1)
        accuracies[name] = f"{np.mean(predicted == labels):.4f}"
    told = {"params": model.count_params(), "device": measuring.settings()["processor"]}
    return {"cut": cut, "share": share, **accuracies, **told}


def write(file, rows):
    """Append all rows of one network at once."""
    rows = list(rows)
    new = not file.exists()
    with file.open("a", newline="", encoding="utf-8") as written:
        writer = csv.DictWriter(written, HEADS)
        if new:
            writer.writeheader()
        writer.writerows(rows)
        written.flush()
        os.fsync(written.fileno())


if __name__ == "__main__":
    main()
