"""What the benchmarks share: time, peak memory, fresh processes, and tables with their settings."""

import csv
import ctypes
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

RESULTS = Path(__file__).resolve().parent.parent / "results" / "benchmarks"
SEED = 0


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def seconds(function, clock="wall"):
    """Return how long a call takes by one of `CLOCKS`, and what it returns."""
    gc.collect()
    begun = CLOCKS[clock]()
    returned = function()
    return CLOCKS[clock]() - begun, returned


def peak_bytes(function):
    """Return the peak of resident memory in a call over that before it, and what it returns.

    Linux only: the kernel keeps the peak and lets a process reset its own. TensorFlow keeps freed
    memory for later, so that is taken first; else a call could use it unseen.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    taken = _spare_memory()
    Path("/proc/self/clear_refs").write_text("5")
    resting = _status("VmRSS")
    returned = function()
    peak = _status("VmHWM") - resting
    del taken
    return peak, returned


def _spare_memory():
    """Return tensors that fill what the backend has freed but not given back."""
    import keras

    tensors = []
    for size in (2**exponent for exponent in range(28, 19, -1)):
        while True:
            before = _status("VmRSS")
            tensor = keras.ops.ones((size // 4,), "float32")
            if _status("VmRSS") - before > size // 2:
                break
            tensors.append(tensor)
    return tensors


def in_fresh_process(script, *arguments, interpreter=sys.executable):
    """Run a script in a process of its own and return the JSON of its last line."""
    command = [interpreter, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def median(numbers):
    return statistics.median(numbers)


def medians(measurements):
    """Return the median of every number over dictionaries with the same keys."""
    return {key: statistics.median(m[key] for m in measurements) for key in measurements[0]}


def resident():
    """Return the bytes of memory that the process holds now."""
    return _status("VmRSS")


def allocated():
    """Return the bytes that the process has asked the C library for and not freed.

    Resident memory counts what was freed between them as well, which shrinks and grows with the
    order of calls; a leak of a kilobyte cannot be seen in it. Small objects of Python are not among
    these: it takes memory for them by the megabyte.
    """
    library = ctypes.CDLL("libc.so.6")
    library.mallinfo2.restype = _Mallinfo
    found = library.mallinfo2()
    return found.uordblks + found.hblkhd


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names.split())


def write_table(path, rows):
    """Write dictionaries as CSV, empty where one lacks a column, and return the lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    table = [columns, *([_text(row.get(column, "")) for column in columns] for row in rows)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)
    return table


def write_settings(path, **with_):
    """Write what was measured with, as JSON of a table's name, and return it."""
    stored = json.dumps(settings() | with_, indent=2)
    path.with_suffix(".json").write_text(stored + "\n", encoding="utf-8")
    return stored


def finish(name, rows, **with_):
    """Print rows as a table; write them as CSV beside the settings they were measured with."""
    path = RESULTS / f"{name}.csv"
    table = write_table(path, rows)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print(write_settings(path, **with_))


def settings():
    """Return what a table was measured with."""
    import keras

    # Of a path, only the name says something on another machine.
    arguments = [Path(each).name if Path(each).is_absolute() else each for each in sys.argv[1:]]
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python benchmarks/{Path(sys.argv[0]).name} {' '.join(arguments)}".strip(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(LOAD, 2),
        "python": platform.python_version(),
        "keras": keras.__version__,
        "backend": f"{backend()} {_backend_version()}",
        "seed": SEED,
    }


LOAD = os.getloadavg()[0]


def backend():
    """Return the name of Keras' backend."""
    import keras

    return keras.backend.backend()


def _backend_version():
    return sys.modules[backend()].__version__


def _processor():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _status(key):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise ValueError(f"The kernel must tell the memory of a process. Received: no {key}.")


def _text(value):
    return f"{value:.4g}" if isinstance(value, float) else str(value)
