"""What a stored network costs to run: bytes, latency, throughput and memory, each measured anew.

Each measurement runs in a process of its own, so that the memory of one cannot hide in another's.
The networks take turns, so that whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import prune_keras
from prune_keras import strangers

BATCHES = (1, 32)
SECONDS = 2.0  # for each batch size, at least
REPEATS = 5  # calls, at least

Measured = dict[str, Any]
"""Name -> milliseconds or bytes; None where the system does not tell."""


def compare(files: Mapping[str, str | Path], turns: int = 3) -> list[dict[str, Any]]:
    """Return one row a network: its cost, the size of its file, and medians of what was measured.

    Args:
        files: name -> `.keras` or `.h5` file.
        turns: how many processes measure each network.

    Returns:
        Dictionaries with `network`, `params`, `flops`, `neurons`, `file_bytes`, and for batches of
        1 and of 32 `latency_ms_1` and `images_per_second_1`, and so on; `peak_bytes` is the peak of
        resident memory over what the process held when the network was loaded, `None` where the
        system does not tell.
    """
    measured: dict[str, list] = {name: [] for name in files}
    for _ in range(turns):
        for name, file in files.items():
            measured[name].append(_in_fresh_process(file))
    return [_row(name, Path(file), measured[name]) for name, file in files.items()]


def gains(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[int, tuple[float, float]]:
    """Return by which factor each batch size got faster, and which share of the FLOPs' promise.

    Example:

    >>> rows = [{"flops": f, "images_per_second_1": i, "images_per_second_32": 2 * i}
    ...         for f, i in ((100, 10.0), (25, 36.0))]
    >>> gains(*rows)
    {1: (3.6, 0.9), 32: (3.6, 0.9)}
    """
    promised = before["flops"] / after["flops"]
    names = {size: f"images_per_second_{size}" for size in BATCHES}
    factors = {size: after[name] / before[name] for size, name in names.items()}
    return {size: (factor, factor / promised) for size, factor in factors.items()}


def _row(name: str, file: Path, measurements: list[Measured]) -> dict[str, Any]:
    cost = dataclasses.asdict(prune_keras.cost(strangers.load_model(file)))
    medians: Measured = {key: _median([m[key] for m in measurements]) for key in measurements[0]}
    rates = {
        f"images_per_second_{size}": 1e3 * size / medians[f"latency_ms_{size}"] for size in BATCHES
    }
    return {"network": name} | cost | {"file_bytes": file.stat().st_size} | medians | rates


def _median(numbers: list[float | None]) -> float | None:
    known = [each for each in numbers if each is not None]
    return None if len(known) < len(numbers) else statistics.median(known)


def _in_fresh_process(file: str | Path) -> Measured:
    command = [sys.executable, "-m", "prune_keras.models.speed", str(file)]
    root = str(Path(prune_keras.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    if done.returncode:
        raise OSError(f"Measuring '{file}' failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _measure(file: str) -> Measured:
    """Return the latencies and the peak memory of inference in this process."""
    model = strangers.load_model(file)
    images = np.zeros((max(BATCHES), *model.input_shape[1:]), "float32")
    resting = _memory("VmRSS")
    latencies = {f"latency_ms_{size}": _latency(model, images[:size]) for size in BATCHES}
    peak = _memory("VmHWM")
    return latencies | {"peak_bytes": None if peak is None or resting is None else peak - resting}


def _latency(model: Any, images: np.ndarray) -> float:
    """Return the median of the milliseconds that one batch takes, after one that compiles."""
    model.predict_on_batch(images)
    begun = time.perf_counter()
    took: list[float] = []
    while len(took) < REPEATS or time.perf_counter() - begun < SECONDS:
        mark = time.perf_counter()
        model.predict_on_batch(images)
        took.append(1e3 * (time.perf_counter() - mark))
    return statistics.median(took)


def _memory(key: str) -> int | None:
    """Return what Linux says of this process in bytes; `None` elsewhere."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) * 1024 for words in lines if words[0] == f"{key}:")


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1])))
