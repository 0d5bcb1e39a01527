"""Board: rounds as TensorBoard shows them, written without a backend."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from prune_keras.reporting.parts import Distribution, Layer
from prune_keras.rounds.round import Round
from prune_keras.text import printable


def check_folder(folder: Any) -> None:
    """Raise a ValueError for a folder without what writes into it."""
    if not (folder is None or isinstance(folder, str | Path)):
        raise ValueError(
            f"`tensorboard` must be a folder. Received: tensorboard={folder!r}. "
            "Pass its path, or None for that of keras.callbacks.TensorBoard."
        )
    if folder is not None and not _is_installed():
        raise ValueError(
            "TensorBoard must be installed to write its files. Received: "
            f"tensorboard={str(folder)!r}. Run `pip install tensorboard`."
        )


def folder_of(folder: str | Path | None, callbacks: Iterable[Any]) -> Path | None:
    """Return where to write: the folder, or `pruning` in that of a TensorBoard of the same fit."""
    if folder is not None:
        return Path(folder)
    found = [each for each in callbacks if isinstance(each, keras.callbacks.TensorBoard)]
    return Path(found[0].log_dir) / "pruning" if found and _is_installed() else None


def _is_installed() -> bool:
    return importlib.util.find_spec("tensorboard") is not None


class Board:
    """Writes scalars of rounds, histograms of scores and bars of widths; steps are rounds.

    Args:
        folder: where to; made with the first event. Defaults to None: nothing is written.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._writer: Any = None

    def cut(
        self, opened: Round, spread: Sequence[Distribution], layers: Sequence[Layer], monitor: str
    ) -> None:
        """Write what a round cut: what is left, the scores, the widths, and the metric then."""
        if self._folder is None:
            return
        from tensorboard.plugins.histogram import metadata as histograms
        from tensorboard.plugins.image import metadata as images

        costs = {n: value for n, value in vars(opened.after).items() if value is not None}
        told = {"fraction": opened.fraction, f"{monitor} after the cut": opened.metric_cut}
        self._scalars(opened.number, costs | told)
        for each in spread:
            for name, edges in (("scores", each.raw), ("scores compared", each.debiased)):
                tag = f"{name}/{each.family}"
                found = histograms.create_summary_metadata(tag, "")
                self._write(opened.number, tag, found, buckets(edges, each.neurons))
        found = images.create_summary_metadata("widths", "")
        self._write(opened.number, "widths", found, _picture(layers))

    def end(self, ended: Iterable[Round], monitor: str) -> None:
        """Write how rounds were judged, and what they took."""
        for done in ended if self._folder is not None else ():
            told = {monitor: done.metric, "kept": float(done.kept), "ms": done.latency_ms}
            took = {f"seconds/{name}": value for name, value in done.phases.items()}
            took["seconds/fine-tuning"] = done.fine_tuning_seconds
            self._scalars(done.number, told | took)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left; the file is closed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _scalars(self, step: int, values: dict[str, Any]) -> None:
        from tensorboard.plugins.scalar import metadata

        for name, value in values.items():
            if value is not None:
                found = metadata.create_summary_metadata(name, "")
                self._write(step, name, found, np.asarray(value, np.float32))

    def _write(self, step: int, tag: str, metadata: Any, value: np.ndarray) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util.tensor_util import make_tensor_proto

        if self._writer is None:
            self._writer = EventFileWriter(str(self._folder))
        held = Summary.Value(tag=printable(tag), metadata=metadata, tensor=make_tensor_proto(value))
        self._writer.add_event(Event(step=step, summary=Summary(value=[held])))


def buckets(edges: Sequence[float], count: int) -> np.ndarray:
    """Return rows of left end, right end and count, one between each quantile and the next.

    Example:

    >>> buckets((0.0, 1.0, 3.0), 8)
    array([[0., 1., 4.],
           [1., 3., 4.]])
    """
    each = count / max(len(edges) - 1, 1)
    rows = [(left, right, each) for left, right in zip(edges, edges[1:], strict=False)]
    return np.array(rows, float).reshape(-1, 3)


def _picture(layers: Sequence[Layer]) -> np.ndarray:
    """Return width, height and file of a picture of the widths."""
    from prune_keras.charts import widths

    figure, stream = widths.draw(layers), io.BytesIO()
    figure.savefig(stream, format="png", dpi=100, facecolor="white")
    width, height = (str(int(100 * inches)).encode() for inches in figure.get_size_inches())
    return np.array([width, height, stream.getvalue()], object)
