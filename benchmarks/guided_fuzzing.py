"""Files with damage that is led by coverage: what each reader of this project's own makes of them.

    pip install atheris
    python benchmarks/guided_fuzzing.py --runs 100000
    python benchmarks/guided_fuzzing.py --runs 2000 --results FOLDER --readers plan report

Atheris (libFuzzer) changes plans, reports, frontiers, backups and arrays of samples, and keeps what
reaches new branches of prune_keras to change it on. Each reader gets processes of its own, with two
gigabytes of memory and ten seconds a file; whatever is no `ValueError` ends one, is written to
`FOLDER/broken/`, and fails this command. `fuzzing.py` damages models, which take longer to read.
"""

import argparse
import contextlib
import hashlib
import io
import json
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import measuring

RESULTS = measuring.RESULTS.parent / "reliability"
READERS = ("plan", "report", "frontier", "backup", "state", "samples", "array")
MEGABYTES, SECONDS = 2048, 10
MAX_BYTES = 4096
TOLD = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
COVERED = re.compile(r"cov: (\d+) ft: (\d+)")


def main(runs, results, seed, readers):
    results.mkdir(parents=True, exist_ok=True)
    broken = results / "broken"
    rows = [fuzzed(name, runs, seed, broken) for name in readers]
    measuring.write_table(results / "guided_fuzzing.csv", rows)
    print(json.dumps(rows, indent=1))
    if any(row["broken"] for row in rows):
        raise SystemExit(f"files that broke a reader lie in {broken}")


def fuzzed(name, runs, seed, broken):
    """Return a row: how many files a reader was given, and whether one broke it."""
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        command = [sys.executable, __file__, "--reader", name, "--folder", folder]
        options = [
            f"-runs={runs}", f"-seed={seed + 1}", f"-max_len={MAX_BYTES}", f"-timeout={SECONDS}",
            f"-rss_limit_mb={MEGABYTES}", "-print_final_stats=1", f"-artifact_prefix={folder}/",
        ]  # fmt: skip
        done = subprocess.run([*command, *options, str(corpus)], capture_output=True, text=True)
        found = [each for each in Path(folder).glob("*-*") if each.is_file()]
        for each in found:
            broken.mkdir(exist_ok=True)
            (broken / f"{name}-{each.name}").write_bytes(each.read_bytes())
        if not TOLD.search(done.stderr):
            raise SystemExit(done.stderr[-2000:])
        edges, features = COVERED.findall(done.stderr)[-1]
        return {
            "reader": name,
            "files": int(TOLD.search(done.stderr)[1]),
            "branches": int(edges),
            "features": int(features),
            "kept": len(list(corpus.iterdir())),
            "broken": int(bool(done.returncode or found)),
        }


def fuzz(name, folder, options):
    """Let libFuzzer give files to a reader; it ends this process."""
    import atheris

    with atheris.instrument_imports(include=["prune_keras"]):
        read, example = READ[name](Path(folder))
    (Path(folder) / "corpus" / "example").write_bytes(example)
    warnings.simplefilter("ignore")

    def once(content):
        with contextlib.suppress(ValueError):
            read(content)

    atheris.Setup([sys.argv[0], *options], once)
    atheris.Fuzz()


def reader_of_plans(folder):
    from prune_keras.plan import Plan

    Plan({"a": [0, 2]}, {"a": 3}).save(folder / "example")
    return through(folder / "plan.json", Plan.load), (folder / "example").read_bytes()


def reader_of_reports(folder):
    from prune_keras import Report
    from prune_keras.accounting import Cost
    from prune_keras.plan import Plan

    report = Report("m", Plan({"a": [0]}, {"a": 2}), Cost(20, 8, 2), Cost(10, 4, 1), ())
    report = report.measured("accuracy", (0.9, 0.8)).with_outcomes({"thin": {"bytes": 512}})
    report.save(folder / "example")

    def seen(path):
        found = Report.load(path)
        return found.render(), found.verdict

    return through(folder / "report.json", seen), (folder / "example").read_bytes()


def reader_of_frontiers(folder):
    from prune_keras import frontier
    from prune_keras.accounting import Cost

    frontier.write([frontier.Point(0, True, 0.5, Cost(20, 8, 2), {"a": 2})], folder)
    path = folder / frontier.FILE
    return through(path, lambda path: frontier.read(path.parent)), path.read_bytes()


def reader_of_backups(folder):
    import numpy as np

    from prune_keras import backups

    folder = folder / "backup"
    store = backups.Store(folder, 1)
    example = store.write({"epoch": 1, "course": {"a": [1]}}, {"now/0": np.arange(6.0)})

    def read(content):
        digest = hashlib.blake2b(content, digest_size=8).hexdigest()
        path = folder / f"fit-1-000001-{digest}.npz"  # as if it had been written so
        path.write_bytes(content)
        try:
            backups.check(store.newest(), {"course": {"a": [1]}})
        finally:
            path.unlink()

    content = example.read_bytes()
    example.unlink()
    return read, content


def reader_of_states(folder):
    """Return a reader of what stands in a backup whose archive is whole."""
    import numpy as np

    from prune_keras import arrays

    read, _ = reader_of_backups(folder)

    def read_inside(content):
        archive = io.BytesIO()
        arrays.write(archive, {"state": np.frombuffer(content, "uint8")})
        read(archive.getvalue())

    return read_inside, b'{"format": 1, "epoch": 1, "course": {"a": [1]}}'


def reader_of_arrays(folder):
    """Return a reader of an array whose archive is whole."""
    import numpy as np

    from prune_keras import arrays

    def read_inside(content):
        with zipfile.ZipFile(folder / "one.npz", "w") as archive:
            archive.writestr("x_train.npy", content)
        arrays.read(folder / "one.npz")

    example = io.BytesIO()
    np.save(example, np.arange(6.0).reshape(2, 3))
    return read_inside, example.getvalue()


def reader_of_samples(folder):
    import numpy as np

    from prune_keras.models import images

    example = io.BytesIO()
    np.savez(example, x_train=np.zeros((2, 2), "uint8"), y_train=np.arange(2, dtype="uint8"))
    return through(folder / "samples.npz", images.read_samples), example.getvalue()


def through(path, read):
    """Return a function of bytes that has a reader read them from a file."""

    def read_bytes(content):
        path.write_bytes(content)
        return read(path)

    return read_bytes


FUNCTIONS = (
    reader_of_plans,
    reader_of_reports,
    reader_of_frontiers,
    reader_of_backups,
    reader_of_states,
    reader_of_samples,
    reader_of_arrays,
)
READ = dict(zip(READERS, FUNCTIONS, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000, help="files for each reader")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seed", type=int, default=measuring.SEED)
    parser.add_argument("--readers", nargs="+", choices=READERS, default=READERS)
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    given, options = parser.parse_known_args()
    if given.reader:
        fuzz(given.reader, given.folder, options)
    else:
        main(given.runs, given.results, given.seed, given.readers)
