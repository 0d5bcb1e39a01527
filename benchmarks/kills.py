"""A run that is killed again and again, and must end as if nothing had happened.

    python benchmarks/kills.py --kills 200
    python benchmarks/kills.py --kills 3 --results FOLDER

scikit-learn's digits are learnt by a small network that is pruned meanwhile, in a process of its
own, which gets SIGKILL at a random moment; one time of three, as it writes a backup. The next
process is given the same folder. A run that comes to its end must have the plan, the rounds, and
bit for bit the weights and the optimizer's state of one that nobody disturbed; then another one
begins.

A row a kill: what was killed, and how many batches of training it cost.
"""

import argparse
import hashlib
import json
import mmap
import os
import random
import signal
import struct
import tempfile
import time
import traceback
from pathlib import Path

import measuring

RESULTS = measuring.RESULTS.parent / "reliability"
EPOCHS, EVERY, IMAGES, BATCH = 5, 3, 300, 30
BATCHES = IMAGES // BATCH
EARLY, BEGINNING = 0.15, 5  # share of kills as a process begins; seconds after which they come
FARTHEST, STEP = 25, 0.03  # batches to the next kill; seconds of a batch


def main(kills, results):
    begun, rng = time.perf_counter(), random.Random(measuring.SEED)
    place = Place()
    with tempfile.TemporaryDirectory() as folder:
        expected = undisturbed(Path(folder) / "whole", place)
        rows, ends = [], []
        while len(rows) < kills:
            run = Path(folder) / f"run{len(ends)}"
            rows += until_its_end(run, place, kills - len(rows), rng)
            ends.append(outcome(run) == expected)
    results.mkdir(parents=True, exist_ok=True)
    measuring.write_table(results / "kills.csv", rows)
    told = summary(rows, ends) | {"seconds": round(time.perf_counter() - begun)}
    (results / "kills.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))
    if not all(ends) or told["most batches lost"] > EVERY:
        raise SystemExit("a run did not end as it would have")


def summary(rows, ends):
    return {
        "kills": len(rows),
        "of them as a backup was written": sum(row["in a write"] for row in rows),
        "runs that came to their end": len(ends),
        "of them equal to the undisturbed one": sum(ends),
        "most batches lost": max(row["lost"] for row in rows),
        "batches from one backup to the next": EVERY,
        "batches of a run": EPOCHS * BATCHES,
    }


def undisturbed(folder, place):
    """Return what a run comes to."""
    if os.waitpid(start(folder, place), 0)[1]:
        raise SystemExit("the undisturbed run failed")
    return outcome(folder)


def until_its_end(folder, place, most, rng):
    """Kill a run up to so many times, then let it come to its end; return a row a kill."""
    rows, written = [], 0
    while len(rows) < most:
        process = start(folder, place)
        in_a_write, moment = rng.random() < 1 / 3, Moment(rng, place, written)
        if not kill(process, folder, moment, in_a_write):
            return rows
        rows.append({"run": folder.name, "in a write": int(in_a_write)} | loss(folder, place))
        written = rows[-1]["written"]
        print(rows[-1], flush=True)
    if os.waitpid(start(folder, place), 0)[1]:
        raise SystemExit("a run could not go on")
    return rows


class Moment:
    """A moment after a batch that a run is yet to come to, or as its process begins, by chance."""

    def __init__(self, rng, place, written):
        self._place, self._since = place, None
        is_early = rng.random() < EARLY
        self._batches = 0 if is_early else written + rng.randrange(1, FARTHEST)
        self._seconds = rng.uniform(0, BEGINNING if is_early else STEP)

    def __call__(self):
        now = time.perf_counter()
        if self._since is None and self._place.read() >= self._batches:
            self._since = now
        return self._since is not None and now - self._since > self._seconds


def kill(process, folder, moment, in_a_write):
    """Kill a process at a moment, or as it writes then; tell whether it was still there."""
    while os.waitpid(process, os.WNOHANG) == (0, 0):
        is_late = moment()
        if is_late and (not in_a_write or [*folder.glob("backup/.*.partial")]):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return True
        time.sleep(0.0002 if is_late else 0.005)
    return False


def loss(folder, place):
    """Return how far a process came, and how much of it no backup holds."""
    from prune_keras.backups import Store

    kept = Store(folder / "backup", 1).newest()
    state = {"epoch": 0, "batch": 0} if kept is None else kept.state
    written = state["epoch"] * BATCHES + state["batch"]
    return {"trained": place.read(), "written": written, "lost": max(place.read() - written, 0)}


class Place:
    """How many batches a run was trained by, for another process to see."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 8)

    def read(self):
        return struct.unpack("q", self._shared[:])[0]

    def write(self, batches):
        self._shared[:] = struct.pack("q", batches)


def start(folder, place):
    """Run in a process of its own; Keras is imported here, and has done nothing yet."""
    import keras  # noqa: F401

    from prune_keras import callbacks  # noqa: F401
    from prune_keras.models import digits  # noqa: F401

    place.write(0)
    process = os.fork()
    if process == 0:
        failed = 1
        try:
            run(folder, place)
            failed = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(failed)
    return process


def run(folder, place):
    """Prune a network for digits while it trains, from its beginning or its last backup."""
    import keras
    import tensorflow as tf

    from prune_keras.callbacks import Backup, Judge, ProgressivePruning
    from prune_keras.models import digits
    from prune_keras.models.images import Batches
    from prune_keras.models.networks import batch_norm_stack

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    keras.utils.set_random_seed(measuring.SEED)
    tf.config.experimental.enable_op_determinism()
    data = digits.load_data()
    model = batch_norm_stack((8, 8), 16, dropout=(0.1, 0.2), input_shape=digits.INPUT_SHAPE)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * BATCHES)
    adam, loss = keras.optimizers.Adam(rate), "sparse_categorical_crossentropy"
    model.compile(adam, loss, metrics=["accuracy"])
    images, labels = (array[:IMAGES] for array in data.train)
    pruning = ProgressivePruning(
        target={"flops": 0.5},
        fraction=0.2,
        batches_per_round=5,
        judge=Judge("val_accuracy", max_drop=0.02, against="best", start_from_epoch=1),
        data=(images[:100], labels[:100]),
        fuse=None,
        backup_dir=Backup(folder / "backup", EVERY),
    )

    class Placed(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.before = epoch * BATCHES

        def on_train_batch_end(self, batch, logs=None):
            place.write(self.before + batch + 1)

    model.fit(
        Batches(images, labels, BATCH, flip=False, shift=1),
        validation_data=data.validation,
        validation_batch_size=400,
        epochs=EPOCHS,
        callbacks=[pruning, Placed()],
        verbose=0,
    )
    write_outcome(folder, model, pruning)


def write_outcome(folder, model, pruning):
    """Write what a run came to: digests of all values, the plan, and the rounds."""
    import keras

    from prune_keras import atomic
    from prune_keras.surgery import trained_variables

    values = [keras.ops.convert_to_numpy(v.value) for v in trained_variables(model)]
    digests = [f"{v.shape} {hashlib.sha256(v.tobytes()).hexdigest()}" for v in values]
    rounds = [[each.number, each.kept, each.metric, each.widths] for each in pruning.rounds]
    told = {"values": digests, "plan": pruning.report.plan.to_dict(), "rounds": rounds}
    atomic.write_json(folder / "outcome.json", told)


def outcome(folder):
    return json.loads((folder / "outcome.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args()
    main(given.kills, given.results)
