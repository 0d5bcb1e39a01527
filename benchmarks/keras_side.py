"""The side of prune_keras in `accuracy_against_torch_pruning.py` and `few_epochs.py`."""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from subjects import FUSED

import prune_keras
from prune_keras import schedules
from prune_keras.callbacks import ProgressivePruning
from prune_keras.models import cifar10, runs

SAMPLES = 2048  # training images that are scored and fused on
CUT_EPOCHS = 2  # in which a way of several rounds cuts


class Batches(keras.utils.PyDataset):
    """`SameBatches`, epoch after epoch."""

    def __init__(self, batches):
        super().__init__()
        self.batches, self.epoch = batches, 0

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, place):
        return self.batches.batch(self.epoch, place)

    def on_epoch_end(self):
        self.epoch += 1


def prune_and_tune(given, share, data, batches):
    """Return what pruning within the epochs makes of the network.

    Args:
        given: folder of the networks, seed, epochs, learning rate; `network`, the form to prune,
            `rounds` to prune it in, and `criterion` if it is not the default.
        share: of the FLOPs of the padded network that may remain.
        data: the splits.
        batches: `SameBatches`.
    """
    keras.utils.set_random_seed(given["seed"])
    folder, epochs = Path(given["folder"]), given["epochs"]
    model = keras.models.load_model(folder / f"{given['network']}.keras", compile=False)
    settings = cifar10.settings("resnet20", epochs=epochs, fine_tune_epochs=0)
    runs.compile_model(model, settings, given["learning_rate"], epochs * len(batches))
    budget = share * float(np.load(folder / "weights.npz")["flops"])
    pruning = callback(given, budget / prune_keras.cost(model).flops, data, len(batches))
    said = keras.callbacks.LambdaCallback(on_epoch_end=lambda *now: say(given["way"], *now))
    begun = time.perf_counter()
    model.fit(
        Batches(batches),
        validation_data=(data["x_validation"], data["y_validation"]),
        validation_batch_size=500,
        epochs=epochs,
        callbacks=[pruning, said],
        verbose=0,
    )
    seconds = time.perf_counter() - begun
    found = row(model, data, settings, pruning.rounds[-1].metric_cut)
    return found | {"epochs": epochs, "seconds": seconds}


def cut_and_tune(given, share, way, samples, data, batches):
    """Return what a cut by `prune_keras.prune`, and training after it, make of the network.

    Args:
        given: folder of the networks, and of those that were cut before; seed, epochs and learning
            rate.
        share: of the FLOPs of the padded network that may remain.
        way: arguments of `prune` that differ from its own.
        samples: what is scored and fitted on.
        data: the splits.
        batches: `SameBatches`.
    """
    keras.utils.set_random_seed(given["seed"])
    epochs, validation = given["epochs"], (data["x_validation"], data["y_validation"])
    settings = cifar10.settings("resnet20", epochs=epochs, fine_tune_epochs=0)
    thin, cut_seconds = cut_once(given, share, way, samples, settings)
    runs.compile_model(thin, settings, given["learning_rate"], epochs * len(batches))
    after_cut = runs.accuracy(thin, validation, settings)
    print(given["way"], "cut", after_cut, file=sys.stderr, flush=True)
    begun = time.perf_counter()
    said = keras.callbacks.LambdaCallback(on_epoch_end=lambda *now: say(given["way"], *now))
    thin.fit(
        Batches(batches),
        validation_data=validation,
        validation_batch_size=500,
        epochs=epochs,
        callbacks=[said],
        verbose=0,
    )
    seconds = {"cut_seconds": cut_seconds, "seconds": time.perf_counter() - begun}
    return row(thin, data, settings, after_cut) | seconds


def cut_once(given, share, way, samples, settings):
    """Return the network as it is right after the cut, and the seconds that this took."""
    folder = Path(given["folder"])
    file, known = (folder / f"{given['way']}-{given['seed']}{end}" for end in (".keras", ".json"))
    if not known.exists():
        model = keras.models.load_model(folder / "projected.keras", compile=False)
        runs.compile_model(model, settings, 0.0, 1)
        budget = share * float(np.load(folder / "weights.npz")["flops"])
        target = {"flops": budget / prune_keras.cost(model).flops}
        begun = time.perf_counter()
        thin, _ = prune_keras.prune(model, target, data=samples, data_batch_size=256, **way)
        seconds = time.perf_counter() - begun
        thin.save(file)
        known.write_text(json.dumps(seconds))
    return keras.models.load_model(file, compile=False), json.loads(known.read_text())


def callback(given, share, data, steps):
    """Return pruning in one round before the first batch, or in several over two epochs."""
    rounds = given["rounds"]
    pace = {"batches_per_round": CUT_EPOCHS * steps // rounds} if rounds > 1 else {}
    return ProgressivePruning(
        target={"flops": share},
        schedule=schedules.Geometric(rounds),
        data=(data["x_train"][:SAMPLES], data["y_train"][:SAMPLES]),
        seed=given["seed"],
        verbose=0,
        **pace,
        **{**FUSED, "criterion": given.get("criterion", FUSED["criterion"])},
    )


def say(way, epoch, logs):
    print(way, epoch + 1, logs["val_accuracy"], file=sys.stderr, flush=True)


def row(model, data, settings, after_cut):
    cost = prune_keras.cost(model)
    accuracies = {
        part: runs.accuracy(model, (data[f"x_{part}"], data[f"y_{part}"]), settings)
        for part in ("validation", "test")
    }
    return {
        "after_cut": "" if after_cut is None else after_cut,
        "val_accuracy": accuracies["validation"],
        "test_accuracy": accuracies["test"],
        "params": cost.params,
        "flops": cost.flops,
    }
