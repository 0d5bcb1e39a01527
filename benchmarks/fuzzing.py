"""Files with random damage: each reader must read them, or say in a ValueError what is wrong.

    python benchmarks/fuzzing.py --files 100000
    python benchmarks/fuzzing.py --files 300 --results FOLDER

Plans, frontiers, backups, arrays, and models as .keras and .h5 are written, changed at random
places (bits, pieces cut out, doubled or replaced by what numbers end at), and read again. That
happens in a process of its own, which may take two gigabytes beside what it has, and ten seconds
of a processor for a file: what breaks or stops it, HDF5's library included, is found and named,
and the next file goes to a new one.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import resource
import signal
import struct
import tempfile
import time
import warnings
from pathlib import Path

import measuring

RESULTS = measuring.RESULTS.parent / "reliability"
EDGES = [
    b"\0",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"-1",
    b"1e999",
    b"9" * 20,
    b"[" * 50,
    b'"',
    b"{}",
]
MOST = 2 * 2**30
SECONDS = 10


def main(files, results, seed):
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        if subprocess_of(lambda: write_originals(Path(folder))):
            raise SystemExit("the files to damage could not be written")
        names = sorted(each.name for each in Path(folder).iterdir())
        each = files // len(names)
        rows = [{"file": name} | fuzz(Path(folder) / name, each, seed) for name in names]
    results.mkdir(parents=True, exist_ok=True)
    measuring.write_table(results / "fuzzing.csv", rows)
    told = {"files": sum(row["files"] for row in rows), "seed": seed}
    told |= {"broken": sum(row["broken"] + row["other errors"] for row in rows)}
    told |= {"stopped": sum(row["stopped"] for row in rows)}
    told |= {"seconds": round(time.perf_counter() - begun)}
    (results / "fuzzing.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps([told, rows], indent=1))
    if told["broken"]:
        raise SystemExit("a file broke its reader")


def subprocess_of(act):
    """Do something in a process of its own, so that this one runs no backend; return its code."""
    process = os.fork()
    if process == 0:
        failed = 1
        try:
            act()
            failed = 0
        finally:
            os._exit(failed)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def write_originals(folder):
    import keras
    import numpy as np

    import prune_keras
    from prune_keras.backups import Store
    from prune_keras.frontier import Point, write
    from prune_keras.plan import Plan

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a")], name="m")
    model.compile("adam", "mse")
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    plan = Plan({"a": [0, 2]}, {"a": 3})
    plan.save(folder / "plan.json")
    write([Point(0, True, 0.5, prune_keras.cost(model), {"a": 3})], folder)
    np.savez_compressed(folder / "data.npz", x_train=np.zeros((4, 4)), y_train=np.arange(4))
    state = {"epoch": 1, "course": plan.to_dict()}
    Store(folder, 1).write(state, {"now/0": np.arange(6.0)})


def read(path):
    """Read a file as the package does."""
    from prune_keras import arrays, backups, frontier, strangers
    from prune_keras.models import images
    from prune_keras.plan import Plan

    if path.name == "plan.json":
        return Plan.load(path)
    if path.name == frontier.FILE:
        return frontier.read(path.parent)
    if path.name == "data.npz":
        return images.read_samples(path)
    if path.suffix == ".npz":
        with contextlib.suppress(ValueError):
            backups.Store(path.parent, 1).newest()
        return arrays.read(path)  # as if the digest had been made to fit
    return strangers.load_model(path, compile=path.suffix == ".keras")


def fuzz(original, files, seed):
    """Read so many damaged copies of a file; return how many were read, refused, or broke."""
    counts = mmap.mmap(-1, 32)  # the next file, files that were read, refused, other errors
    broken, stopped = [], []
    while struct.unpack("4q", counts[:])[0] < files:
        ended = subprocess_of(lambda: go_through(original, files, seed, counts))
        if ended == 0:
            continue
        number, *others = struct.unpack("4q", counts[:])
        (stopped if ended == -signal.SIGPROF else broken).append(number)
        counts[:] = struct.pack("4q", number + 1, *others)
    _, well, refused, other = struct.unpack("4q", counts[:])
    row = {"files": files, "read": well, "refused": refused, "other errors": other}
    row |= {"broken": len(broken), "stopped": len(stopped)}
    return row | {"which": " ".join(map(str, [*broken, *stopped]))}


def go_through(original, files, seed, counts):
    limit_memory()
    warnings.simplefilter("ignore")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    content = original.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / original.name
        for number in range(struct.unpack("4q", counts[:])[0], files):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            path.write_bytes(damaged(content, random.Random(f"{seed} {original.name} {number}")))
            found = attempt(path, number)
            numbers = [number + 1, *struct.unpack("4q", counts[:])[1:]]
            numbers[found] += 1
            counts[:] = struct.pack("4q", *numbers)


def attempt(path, number):
    """Return 1 if a file was read, 2 if it was refused, and 3 for any other error."""
    try:
        read(path)
    except ValueError:
        return 2
    except BaseException as error:
        os.write(2, f"{path.name} {number}: {type(error).__name__}: {error}\n".encode()[:500])
        return 3
    return 1


def damaged(content, rng):
    """Return bytes with one to four changes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(max(len(changed), 1))
        length = rng.choice([1, 1, 2, 4, 8, 64, 512])
        way = rng.randrange(5)
        if way == 0 and changed:
            changed[start] ^= 1 << rng.randrange(8)
        elif way == 1:
            del changed[start : start + length]
        elif way == 2:
            changed[start:start] = changed[start : start + length]
        elif way == 3:
            edge = rng.choice(EDGES)
            changed[start : start + len(edge)] = edge
        else:
            changed[start : start + length] = rng.randbytes(length)
    return bytes(changed)


def limit_memory():
    used = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST, used + MOST))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    import keras  # noqa: F401

    from prune_keras.models import images  # noqa: F401

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=measuring.SEED)
    given = parser.parse_args()
    main(given.files, given.results, given.seed)
