"""`prune-keras cats-vs-dogs`, killed again and again, must end as if nothing had happened.

    python benchmarks/killed_command.py --data cats_vs_dogs --kills 40

A narrow VGG-16 learns some of the photos at 32 px and is pruned meanwhile. Its process gets SIGKILL
at a random moment, one time of three as it writes a backup, and the same command is given again. A
run that comes to its end must have the plan, the rounds, and bit for bit the weights of one that
nobody disturbed; then another one begins. A row a kill: what lay in the run's folder.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kills
import measuring

LATEST = 40  # seconds
MOST = 4  # kills a run
PHOTOS = 60  # of each animal, in each split
SMALL = (
    ("--weights", "none", "--image-size", 32, "--width", 0.125, "--precision", "float32")
    + ("--head-epochs", 1, "--dense-epochs", 1, "--epochs", 4, "--batch-size", 20)
    + ("--target", "flops=0.6", "--no-measure")
)
# Newest first: what shows how far a run came.
PHASES = {"pruned.keras": "fine-tuned", "backup": "pruning", "dense.keras": "dense", "": "head"}


def main(data, most, results):
    begun, rng = time.perf_counter(), random.Random(measuring.SEED)
    with tempfile.TemporaryDirectory() as folder:
        photos = some_photos(data, Path(folder) / "photos")
        rows, ends, expected = [], [], undisturbed(photos, Path(folder) / "whole")
        while len(rows) < most:
            run = Path(folder) / f"run{len(ends)}"
            rows += until_its_end(photos, run, rng, min(MOST, most - len(rows)))
            ends.append(outcome(run) == expected)
            shutil.rmtree(run)
    results.mkdir(parents=True, exist_ok=True)
    measuring.write_table(results / "killed_command.csv", rows)
    told = {
        "kills": len(rows),
        "of them as a backup was written": sum(row["in a write"] for row in rows),
        "runs that came to their end": len(ends),
        "of them equal to the undisturbed one": sum(ends),
        "seconds": round(time.perf_counter() - begun),
    }
    (results / "killed_command.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    print(json.dumps(told, indent=1))
    if not all(ends):
        raise SystemExit("a run did not end as it would have")


def some_photos(data, folder):
    """Copy the first photos of each animal in each split."""
    for place in ("train", "validation", "test"):
        for animal in ("cats", "dogs"):
            (folder / place / animal).mkdir(parents=True)
            for photo in sorted((data / place / animal).iterdir())[:PHOTOS]:
                shutil.copy(photo, folder / place / animal)
    return folder


def undisturbed(photos, folder):
    """Return what a run comes to."""
    if start(photos, folder).wait():
        raise SystemExit("the undisturbed run failed")
    return outcome(folder)


def until_its_end(photos, folder, rng, most):
    """Kill a run until it was faster or was killed so many times; return a row a kill."""
    rows = []
    while len(rows) < most:
        process = start(photos, folder)
        in_a_write, moment = rng.random() < 1 / 3, Moment(rng, folder)
        if not kills.kill(process.pid, folder, moment, in_a_write):
            return rows
        found = next(phase for file, phase in PHASES.items() if (folder / file).exists())
        rows.append({"run": folder.name, "in a write": int(in_a_write), "killed in": found})
        print(rows[-1], flush=True)
    if start(photos, folder).wait():
        raise SystemExit("a run could not go on")
    return rows


class Moment:
    """Some seconds after a file of the run is there, or after its process began."""

    def __init__(self, rng, folder):
        self._file, self._since = folder / rng.choice([*PHASES][1:]), None
        self._seconds = rng.uniform(0, LATEST)

    def __call__(self):
        now = time.perf_counter()
        if self._since is None and self._file.exists():
            self._since = now
        return self._since is not None and now - self._since > self._seconds


def start(photos, folder):
    """Give the command, in a process of its own."""
    folder.mkdir(exist_ok=True)
    command = ("-m", "prune_keras.cli", "cats-vs-dogs", "--data", photos, "-o", folder, *SMALL)
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=os.environ | {"TF_DETERMINISTIC_OPS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.DEVNULL,
    )


def outcome(folder):
    """Return what a run came to: digests of all values, the plan, and the rounds."""
    import keras

    model = keras.models.load_model(folder / "pruned.keras")
    digests = [hashlib.sha256(value.tobytes()).hexdigest() for value in model.get_weights()]
    rounds = json.loads((folder / "rounds.json").read_text(encoding="utf-8"))
    told = [[each[name] for name in ("number", "kept", "metric")] for each in rounds]
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    return {"values": digests, "plan": plan, "rounds": told}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the photos")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--results", type=Path, default=kills.RESULTS)
    main(*vars(parser.parse_args()).values())
