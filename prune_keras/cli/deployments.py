"""Two models in the runtime that they are exported to: bytes and milliseconds, in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import tree

import prune_keras
from prune_keras.cli.guarded import read_model
from prune_keras.deploying import FORMATS, format_of
from prune_keras.deploying.formats import Format
from prune_keras.samples.drawing import OPEN_SIZES, draw, sample_shapes

if TYPE_CHECKING:
    from prune_keras.models.records import Row

REPEATS = 30


def compared(before: Path, after: Path, written: Path, format: str | None = None) -> list[Row]:
    """Return a row for each of two models: bytes, and the median time of one sample.

    Args:
        before: path of the `.keras` or `.h5` file of the original.
        after: path of the one that was exported.
        written: where it was exported to.
        format: its format, as `prune_keras.export` takes it. Defaults to None: as `written` ends.
    """
    form = format_of(Path(written), format)
    with tempfile.TemporaryDirectory() as folder:
        original = read_model(before)
        path = prune_keras.export(original, Path(folder) / Path(written).name, None, format)
        names = [Path(before).name, Path(after).name]
        names = [str(before), str(after)] if names[0] == names[1] else names
        files = dict(zip(names, (path, Path(written)), strict=True))
        sizes = {name: _bytes(file) for name, file in files.items()}
        times = {} if form is None else _times(original, form, files)
    return [
        {"model": name, "bytes": sizes[name]} | ({"milliseconds": times[name]} if times else {})
        for name in files
    ]


def _times(model: Any, form: Format, files: dict[str, Path]) -> dict[str, float]:
    """Return the median time of one sample by file, measured in turns."""
    inputs = tree.map_structure(np.asarray, draw(model, sample_shapes(model, OPEN_SIZES[1]), 1))
    calls = {name: form.load(file) for name, file in files.items()}
    took: dict[str, list[float]] = {name: [] for name in files}
    for turn in range(3 + REPEATS):
        for name, call in calls.items():
            begun = time.perf_counter()
            call(inputs)
            if turn >= 3:  # the first ones load and warm up
                took[name].append(1e3 * (time.perf_counter() - begun))
    return {name: statistics.median(each) for name, each in took.items()}


def _bytes(path: Path) -> int:
    """Return the size of a file with what belongs to it, or of all files of a folder."""
    beside = {each.suffix: each.beside for each in FORMATS.values()}.get(path.suffix, ())
    found = [*path.rglob("*")] if path.is_dir() else [path, *map(path.with_suffix, beside)]
    return sum(each.stat().st_size for each in found if each.is_file())
