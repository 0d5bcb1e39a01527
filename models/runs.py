"""A whole run: train or load a dense network, prune it while it trains on, write what came of it.

Every decision is made on the validation images. The test images are looked at once, at the end,
for the networks as they stand then. A run that was interrupted goes on after the last network that
it finished, and while it prunes, from its last backup.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import prune_keras
from prune_keras import backups, schedules, strangers
from prune_keras.callbacks import Backup, ProgressivePruning
from prune_keras.models import devices, fingerprints, origins, pairing, precision, records
from prune_keras.models.fingerprints import Builder
from prune_keras.models.images import Batches, Data, Pair, batches
from prune_keras.models.records import Row
from prune_keras.models.settings import Settings, compile_model

__all__ = ["Result", "Settings", "accuracy", "compile_model", "fit", "run"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        rows: one dictionary a network: its name, epochs, seconds, accuracies and cost.
        pairs: one dictionary for each dense network: how the pruned one differs on test images.
        report: the report on pruning, as text.
        files: the exported files, and for a format that cannot hold the network, why.
    """

    rows: list[Row]
    pairs: list[Row]
    report: str
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network with the logs of the epochs that made it."""

    name: str
    model: keras.Model
    epochs: list[dict[str, str]]


def run(
    build: Builder | None,
    data: Data,
    settings: Settings,
    output: str | Path,
    overwrite: bool = False,
    train_head: Callable[[Any], Any] | None = None,
) -> Result:
    """Train, prune, fine-tune, evaluate and export a network; all files go to `output`.

    A network that lies in the folder already is not made again, if it was made of the same data,
    by the same builder (its layers and the weights it brings) and with the same settings. Else
    nothing is done.

    Args:
        build: a function that returns the dense network, built and not trained here; it is called
            more than once. `None` takes the dense network that lies in the folder.
        data: a `Data` of training, validation and test images.
        settings: `Settings`; the network is trained unless their `dense_epochs` is 0.
        output: folder to write to; made if it is not there.
        overwrite: whether networks in the folder that were made otherwise are deleted and made
            anew. Defaults to False.
        train_head: a function of the network that trains a part of it before all of it is.
            Defaults to None.

    Returns:
        A `Result`.

    Raises:
        ValueError: if the folder holds a network that was made otherwise, or there is neither a
            `build` nor a dense network.
    """
    output = Path(output)
    texts = fingerprints.of_data(data), _described(build, output)
    origin_of = functools.partial(origins.of_network, *texts, settings, output)
    if build is None:
        origins.check_fits(origin_of("dense"))
    _prepare(origin_of, settings, output, overwrite)
    dense, pruned = output / "dense.keras", output / "pruned.keras"
    origins.make(
        origin_of("dense"),
        # Without a builder the network is there, and is not made.
        lambda: _dense(build, data, settings, dense, train_head),  # type: ignore[arg-type]
    )
    origins.make(origin_of("pruned"), lambda: _prune(dense, data, settings, pruned))
    names = {"dense": dense, "pruned": pruned}
    if settings.baseline:
        trained_on = output / "trained_on.keras"
        origins.make(origin_of("trained_on"), lambda: _train_on(dense, data, settings, trained_on))
        names = {"dense": dense, "dense, trained on": trained_on, "pruned": pruned}
    networks = [_Network(n, _load(p, settings), _read_log(p)) for n, p in names.items()]
    rows, pairs = _judge(networks, data, settings)
    files = _export(networks[-1].model, output)
    history = [epoch for network in networks for epoch in network.epochs]
    records.write_run(output, rows, pairs, history)
    records.write_outcomes(output, {row["network"]: _told(row) for row in rows})
    report = (output / "report.txt").read_text(encoding="utf-8")
    return Result(rows, pairs, report, files)


def accuracy(model: Any, images_and_labels: Pair, settings: Settings) -> float:
    """Return the share of images that a compiled model classifies correctly."""
    images, labels = images_and_labels
    size = settings.validation_batch_size
    logs = model.evaluate(images, labels, batch_size=size, verbose=0, return_dict=True)
    return float(logs["accuracy"])


def fit(
    model: Any,
    batches: Batches,
    data: Data,
    settings: Settings,
    epochs: int,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    first: int = 0,
) -> None:
    """Fit a model on batches, up to an epoch, with a progress bar if somebody looks."""
    shown = 1 if sys.stdout.isatty() else 2
    model.fit(
        batches,
        validation_data=data.validation,
        validation_batch_size=settings.validation_batch_size,
        initial_epoch=first,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=shown if settings.verbose > 1 else 0,
    )


def _announce(phase: str, settings: Settings, epochs: int, first: int = 0) -> None:
    """Say what begins, unless silence was asked for."""
    if settings.verbose:
        print(f"\n{phase}: epochs {first + 1} to {epochs}", flush=True)


def _dense(
    build: Builder,
    data: Data,
    settings: Settings,
    path: Path,
    train_head: Callable[[Any], Any] | None,
) -> None:
    """Train the dense network."""
    keras.utils.set_random_seed(settings.seed)
    model = build()
    with devices.scope(settings.devices):
        precision.convert(model, settings.precision)
    if train_head is not None:
        train_head(model)
    recorder = records.Recorder("dense", _log_of(path))
    if settings.dense_epochs:
        images = batches(data, settings, settings.seed)
        steps = settings.dense_epochs * len(images)
        compile_model(model, settings, settings.dense_learning_rate, steps)
        _announce("Training the dense network", settings, settings.dense_epochs)
        fit(model, images, data, settings, settings.dense_epochs, [recorder])
    prune_keras.export(model, path)


def _train_on(dense: Path, data: Data, settings: Settings, path: Path) -> None:
    """Train the dense network for as long as the pruned one, in the same way."""
    model, images = _begin(dense, data, settings)
    recorder = records.Recorder("dense, trained on", _log_of(path))
    _announce("Training the dense network on", settings, settings.epochs)
    fit(model, images, data, settings, settings.epochs, [recorder])
    prune_keras.export(model, path)


def _prune(dense: Path, data: Data, settings: Settings, path: Path) -> None:
    """Prune the dense network while it trains on; fine-tune what is left."""
    model, images = _begin(dense, data, settings)
    start = accuracy(model, data.validation, settings)
    backup = path.parent / origins.BACKUP
    pruning = _callback(start, data, settings, path.parent, backup)
    recorder = records.Recorder("prune", _log_of(path))
    recorder.add_start(model, start)
    cut = settings.epochs - settings.fine_tune_epochs
    _announce("Pruning while it trains on", settings, cut)
    fit(model, images, data, settings, cut, [pruning, recorder])
    records.write_pruning(path.parent, pruning)
    reached, weights = accuracy(model, data.validation, settings), model.get_weights()
    if settings.fine_tune_epochs:
        recorder.phase = "fine-tune"
        _announce("Fine-tuning", settings, settings.epochs, first=cut)
        # An order of its own: what pruned in another process did not move that of `images`.
        images = batches(data, settings, settings.seed + 2)
        fit(model, images, data, settings, settings.epochs, [recorder], first=cut)
    if accuracy(model, data.validation, settings) < reached:
        with devices.scope(settings.devices):
            model.set_weights(weights)
    prune_keras.export(model, path)
    backups.delete(backup)


def _begin(dense: Path, data: Data, settings: Settings) -> tuple[Any, Batches]:
    """Return the dense network, compiled for the epochs to come, and its batches."""
    keras.utils.set_random_seed(settings.seed + 1)  # whichever process trained the dense network
    model, images = _load(dense, settings), batches(data, settings, settings.seed + 1)
    compile_model(model, settings, settings.learning_rate, settings.epochs * len(images))
    return model, images


def _callback(
    start: float, data: Data, settings: Settings, folder: Path, backup: Path
) -> ProgressivePruning:
    """Return the pruning callback; the dense network's accuracy is what a drop is counted from."""
    arguments = dict(settings.pruning)
    if arguments.get("schedule") is not None:
        arguments["schedule"] = schedules.get(arguments["schedule"])
    if arguments.pop("keep_rounds", False):
        arguments["keep_rounds"] = folder / "rounds"
    if arguments.get("max_drop") is not None:
        arguments["baseline"] = start
    samples = tuple(array[: settings.samples] for array in data.train)
    return ProgressivePruning(
        data=samples,
        seed=settings.seed,
        verbose=min(settings.verbose, 1),
        backup_dir=Backup(backup, settings.backup_every),
        **arguments,
    )


def _load(path: Path, settings: Settings) -> Any:
    """Return the network of a file, compiled to be evaluated."""
    with devices.scope(settings.devices):
        model = strangers.load_model(path)
        precision.convert(model, settings.precision)
    return compile_model(model, settings, 0.0, 1)


def _log_of(path: Path) -> Path:
    return path.with_suffix(".csv")


def _read_log(path: Path) -> list[dict[str, str]]:
    return records.read_table(_log_of(path))


def _judge(networks: list[_Network], data: Data, settings: Settings) -> tuple[list[Row], list[Row]]:
    """Return a row a network, and a row a pair; the one place that looks at the test images."""
    hits = {n.name: pairing.hits(n.model, data.test, settings) for n in networks}
    rows = [_row(n, hits[n.name], data, settings) for n in networks]
    pairs = [
        {"first": "pruned", "second": name} | pairing.compare(hits["pruned"], hits[name])
        for name in hits
        if name != "pruned"
    ]
    return rows, pairs


def _row(network: _Network, hits: np.ndarray, data: Data, settings: Settings) -> Row:
    """Return a line of the results."""
    return {
        "network": network.name,
        "epochs": sum(int(epoch["epoch"]) > 0 for epoch in network.epochs),
        "seconds": round(sum(float(epoch["seconds"]) for epoch in network.epochs), 1),
        "val_accuracy": accuracy(network.model, data.validation, settings),
        "test_accuracy": float(hits.mean()),
    } | dataclasses.asdict(prune_keras.cost(network.model))


def _told(row: Row) -> dict[str, Any]:
    """Return of a line of the results what a report shows."""
    shown = {"epochs": "epochs", "val_accuracy": "validation accuracy"}
    shown |= {"test_accuracy": "test accuracy", "params": "parameters", "flops": "FLOPs"}
    return {name: row[key] for key, name in shown.items()}


def _export(model: Any, output: Path) -> dict[str, str]:
    """Return format -> file, or why the format cannot hold the network."""
    files = {".keras": str(output / "pruned.keras")}
    try:
        files[".h5"] = str(prune_keras.export(model, output / "pruned.h5"))
    except ValueError as error:
        files[".h5"] = f"not written: {error}"
    return files


def _described(build: Builder | None, output: Path) -> dict[str, str]:
    """Return texts for the network that a run begins with."""
    if build is not None:
        return fingerprints.of_network(build)
    if not (output / "dense.keras").exists():
        raise ValueError(
            f"A run must begin with a network. Received: build=None, while '{output}' holds no "
            "dense.keras. Pass a function that builds one."
        )
    return {}


def _prepare(
    origin_of: Callable[[str], origins.Origin], settings: Settings, output: Path, overwrite: bool
) -> None:
    """Make the folder; leave in it only what can be gone on with, and write down the settings."""
    output.mkdir(parents=True, exist_ok=True)
    names = ("dense", "pruned", "trained_on") if settings.baseline else ("dense", "pruned")
    for name in names:
        origins.clear(origin_of(name), overwrite)
    records.write_json(output / "settings.json", vars(settings))
