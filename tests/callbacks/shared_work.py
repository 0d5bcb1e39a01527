"""What a model comes to on one device of JAX, on four, and in two processes; run as a program.

`shared_work.py devices` looks at one device and at four; `shared_work.py process FOLDER PLACE PORT`
is one of two processes, as are `dying`, of which one is killed, and `resuming`. All print JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import prune_keras
from prune_keras.callbacks import Backup, ProgressivePruning, TargetedDropout

BATCH, COUNT = 16, 2
DRAWN = np.random.default_rng(0)
IMAGES = DRAWN.normal(size=(COUNT, BATCH, 6, 6, 2)).astype("float32")
LABELS = DRAWN.integers(0, 3, (COUNT, BATCH))
CRITERIA = ("taylor", "reconstruction", "apoz", "oracle")


def model_for(seed=0, optimizer="adam"):
    """A compiled model with what must be the same on all devices: statistics, seeds, slots."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((6, 6, 2), name="pixels")  # names as a backup finds them again
    x = keras.layers.Conv2D(8, 3, use_bias=False, name="conv")(pixels)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    x = keras.layers.Dense(8, activation="relu", name="hidden")(x)
    probabilities = keras.layers.Dense(3, activation="softmax", name="classes")(x)
    model = keras.Model(pixels, probabilities, name="network")
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


class Share:
    """The samples that one of several processes holds."""

    def __init__(self, place=0, of=1):
        part = slice(place * BATCH // of, (place + 1) * BATCH // of)
        self.images, self.labels = IMAGES[:, part], LABELS[:, part]
        self.batches = [*zip(self.images, self.labels, strict=True)]
        self.flat = (np.concatenate(self.images), np.concatenate(self.labels))
        self.size = len(self.images[0])


def fitted(share, epochs=3, others=(), **arguments):
    """Return a model that was pruned while it was fitted, and its callback."""
    model = model_for()
    asked = {"target": {"neurons": 0.4}, "fraction": 0.25, "criterion": "taylor", "verbose": 0}
    pruning = ProgressivePruning(data=share.batches, **asked | arguments)
    options = {"validation_data": share.flat, "batch_size": share.size, "shuffle": False}
    callbacks = [*others, pruning]
    model.fit(*share.flat, epochs=epochs, callbacks=callbacks, verbose=0, **options)
    return model, pruning


FITS = {
    "dropping": lambda share: fitted(share, others=[TargetedDropout(0.5, 1.0)]),
    "learning": lambda share: fitted(share, teacher="start", fuse="sequential"),
    "undone": lambda share: fitted(share, max_drop=0.02, baseline=0.9, min_fraction=0.1),
}


def told(model, pruning):
    """Return what a test compares, as JSON knows it."""
    variables = [*model.variables, *model.optimizer.variables]
    return {
        "plans": [done.plan.to_dict() for done in pruning.rounds],
        "kept": [done.kept for done in pruning.rounds],
        "weights": [np.asarray(weights).tolist() for weights in model.get_weights()],
        "devices": sorted({len(v.value.sharding.device_set) for v in variables}),
        "whole": all(v.value.is_fully_replicated for v in variables),
    }


def pruned(share):
    """Return the widths and weights that one call of `prune` leaves."""
    thin, report = prune_keras.prune(
        model_for(), {"neurons": 0.6}, criterion="obs", data=share.batches, fuse="sequential"
    )
    weights = [np.asarray(each).tolist() for each in thin.get_weights()]
    return {"plans": [report.plan.to_dict()], "weights": weights}


def scored(share):
    model = model_for()
    found = {name: prune_keras.score(model, name, share.batches) for name in CRITERIA}
    return {name: {k: v.tolist() for k, v in each.items()} for name, each in found.items()}


def all_of(share):
    fits = {name: told(*make(share)) for name, make in FITS.items()}
    return {"scores": scored(share), "fits": {**fits, "pruned": pruned(share)}}


def failing(share):
    """Return the error that a training step of a distributed model with a view ends in."""
    model = model_for()
    model.compute_loss = lambda *args, **kwargs: 1 / 0
    try:
        model.fit(
            *share.flat, batch_size=share.size, callbacks=[TargetedDropout(0.5, 1.0)], verbose=0
        )
    except Exception as error:
        return type(error).__name__
    return None


def layouts():
    """Return a distribution that lays kernels of two layers out over two devices of four."""
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(mesh)
    layout["conv/kernel"] = (None, None, None, "model")
    layout["hidden/kernel"] = (None, "model")
    layout["hidden/bias"] = ("model",)
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


def in_parts(share):
    """Return what comes of a model whose kernels lie in parts on several devices."""
    found = told(*fitted(share))
    model = model_for()
    lay = {v.path: v.value.sharding.spec for v in model.variables}
    widths = {"conv": 8, "hidden": 8}
    odd = prune_keras.Plan({"conv": range(7), "hidden": range(8)}, widths)
    before = [np.asarray(weights) for weights in model.get_weights()]
    refused = [
        _error(lambda: prune_keras.shrink_in_place(model, odd)),
        _error(lambda: prune_keras.shrink(model, odd)),
    ]
    same = all(map(np.array_equal, before, model.get_weights()))
    parts = sorted(path for path, spec in lay.items() if any(spec))
    return {**found, "refused": refused, "unchanged": same, "parts": parts}


def devices():
    share, found = Share(), {"one": None, "four": None}
    for name, kind in {"one": None, "four": keras.distribution.DataParallel()}.items():
        keras.distribution.set_distribution(kind)
        found[name] = all_of(share) | ({"failing": failing(share)} if kind else {})
    keras.distribution.set_distribution(None)
    rounded = told(*fitted(share, round_to={"conv": 2, "hidden": 2}))
    keras.distribution.set_distribution(layouts())
    return found | {"rounded": rounded, "parts": in_parts(share)}


class Dying(keras.callbacks.Callback):
    """Kills its process in the midst of an epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def dying(folder, place):
    """Fit until the second of two processes dies."""
    backed_up(folder, place, others=[Dying()] if place else [])


def resuming(folder, place):
    """Return what a fit comes to that goes on from what is in a folder, if it is there."""
    return told(*backed_up(folder, place))


def backed_up(folder, place, others=()):
    share, folder = Share(place, 2), Path(folder)
    kept = {"keep_rounds": folder / "rounds", "log_dir": folder / "log"}
    return fitted(share, others=others, backup_dir=Backup(folder / "backup", every=1), **kept)


def process(folder, place):
    """Return what one of two processes comes to, and the errors that both must end in."""
    share = Share(place, 2)
    backed, again = backed_up(folder, place), backed_up(folder, place)
    found = all_of(share) | {"backed": told(*backed), "again": told(*again)}
    uneven = [share.batches[: 1 + place], [(share.images[0][: 8 - place], None)]]
    calls = {
        "plan": lambda: fitted(share, criterion="random", seed=place),
        "count": lambda: prune_keras.score(model_for(), "apoz", uneven[0]),
        "size": lambda: prune_keras.score(model_for(), "apoz", uneven[1]),
    }
    return found | {name: _error(call) for name, call in calls.items()} | {"alone": _alone(share)}


def _error(call):
    try:
        call()
    except ValueError as error:
        return str(error)
    return None


def _alone(share):
    """Return what a process may do by itself, and not, where its model lies on its own device."""
    keras.distribution.set_distribution(None)
    thin, _ = prune_keras.prune(model_for(), {"neurons": 0.6}, data=share.batches)
    return {"pruned": thin.count_params(), "fit": _error(lambda: fitted(share))}


def main(kind, *arguments):
    if kind == "devices":
        print(json.dumps(devices()))
        return
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    folder, place, port = arguments
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, int(place))
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    print("\n" + json.dumps(PROCESSES[kind](folder, int(place))))


PROCESSES = {"process": process, "dying": dying, "resuming": resuming}


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "error")
    main(*sys.argv[1:])
