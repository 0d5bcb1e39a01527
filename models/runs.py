"""A whole run: train or load a dense network, prune it while it trains on, write what came of it.

Every decision is made on the validation images. The test images are looked at once, at the end,
for the networks as they stand then. A run that was interrupted goes on after the last network that
it finished.
"""

import dataclasses
import sys
from pathlib import Path

import keras

import prune_keras
from prune_keras import schedules
from prune_keras.callbacks import ProgressivePruning
from prune_keras.models import devices, pairing, precision, records
from prune_keras.models.images import batches
from prune_keras.models.settings import Settings, compile_model

__all__ = ["Result", "Settings", "accuracy", "compile_model", "fit", "run"]

DENSE = ("model", "seed", "optimizer", "dense_epochs", "dense_learning_rate")
NOT_PRUNED = ("verbose", "baseline", "devices")  # they change nothing in the pruned network


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        rows: one dictionary a network: its name, epochs, seconds, accuracies and cost.
        pairs: one dictionary for each dense network: how the pruned one differs on test images.
        report: the report on pruning, as text.
        files: the exported files, and for a format that cannot hold the network, why.
    """

    rows: list[dict]
    pairs: list[dict]
    report: str
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network with the logs of the epochs that made it."""

    name: str
    model: keras.Model
    epochs: list[dict]


def run(build, data, settings, output):
    """Train, prune, fine-tune, evaluate and export a network; all files go to `output`.

    A network that lies in the folder already, made with the same settings, is not made again.

    Args:
        build: a function that returns the dense network, built; it is trained unless
            `settings.dense_epochs` is 0.
        data: a `Data` of training, validation and test images.
        settings: `Settings`.
        output: folder to write to; made if it is not there.

    Returns:
        A `Result`.

    Raises:
        ValueError: if the folder holds the dense network of other settings.
    """
    output = Path(output)
    _prepare(output, settings)
    dense = _dense(build, data, settings, output / "dense.keras")
    pruned = _prune(dense, data, settings, output / "pruned.keras")
    names = {"dense": dense, "pruned": pruned}
    if settings.baseline:
        trained_on = _train_on(dense, data, settings, output / "trained_on.keras")
        names = {"dense": dense, "dense, trained on": trained_on, "pruned": pruned}
    networks = [_Network(n, _load(p, settings), _read_log(p)) for n, p in names.items()]
    rows, pairs = _judge(networks, data, settings)
    files = _export(networks[-1].model, output)
    history = [epoch for network in networks for epoch in network.epochs]
    records.write_run(output, rows, pairs, history)
    report = (output / "report.txt").read_text(encoding="utf-8")
    return Result(rows, pairs, report, files)


def accuracy(model, images_and_labels, settings):
    """Return the share of images that a compiled model classifies correctly."""
    images, labels = images_and_labels
    size = settings.validation_batch_size
    logs = model.evaluate(images, labels, batch_size=size, verbose=0, return_dict=True)
    return float(logs["accuracy"])


def fit(model, batches, data, settings, epochs, callbacks=(), first=0):
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


def _announce(phase, settings, epochs, first=0):
    """Say what begins, unless silence was asked for."""
    if settings.verbose:
        print(f"\n{phase}: epochs {first + 1} to {epochs}", flush=True)


def _dense(build, data, settings, path):
    """Return the file of the dense network, which is made only if it is not there."""
    if path.exists():
        return path
    keras.utils.set_random_seed(settings.seed)
    model = build()
    with devices.scope(settings.devices):
        precision.convert(model, settings.precision)
    recorder = records.Recorder("dense", _log_of(path))
    if settings.dense_epochs:
        images = batches(data, settings, settings.seed)
        steps = settings.dense_epochs * len(images)
        compile_model(model, settings, settings.dense_learning_rate, steps)
        _announce("Training the dense network", settings, settings.dense_epochs)
        fit(model, images, data, settings, settings.dense_epochs, [recorder])
    return prune_keras.export(model, path)


def _train_on(dense, data, settings, path):
    """Train the dense network for as long as the pruned one, in the same way."""
    if path.exists():
        return path
    model, images = _begin(dense, data, settings)
    recorder = records.Recorder("dense, trained on", _log_of(path))
    _announce("Training the dense network on", settings, settings.epochs)
    fit(model, images, data, settings, settings.epochs, [recorder])
    return prune_keras.export(model, path)


def _prune(dense, data, settings, path):
    """Prune the dense network while it trains on; fine-tune what is left."""
    if path.exists():
        return path
    model, images = _begin(dense, data, settings)
    start = accuracy(model, data.validation, settings)
    pruning = _callback(start, data, settings, path.parent)
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
        fit(model, images, data, settings, settings.epochs, [recorder], first=cut)
    if accuracy(model, data.validation, settings) < reached:
        with devices.scope(settings.devices):
            model.set_weights(weights)
    return prune_keras.export(model, path)


def _begin(dense, data, settings):
    """Return the dense network, compiled for the epochs to come, and its batches."""
    model, images = _load(dense, settings), batches(data, settings, settings.seed + 1)
    compile_model(model, settings, settings.learning_rate, settings.epochs * len(images))
    return model, images


def _callback(start, data, settings, folder):
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
        data=samples, seed=settings.seed, verbose=min(settings.verbose, 1), **arguments
    )


def _load(path, settings):
    """Return the network of a file, compiled to be evaluated."""
    with devices.scope(settings.devices):
        model = keras.models.load_model(path, compile=False)
        precision.convert(model, settings.precision)
    return compile_model(model, settings, 0.0, 1)


def _log_of(path):
    return path.with_suffix(".csv")


def _read_log(path):
    return records.read_table(_log_of(path))


def _judge(networks, data, settings):
    """Return a row a network, and a row a pair; the one place that looks at the test images."""
    hits = {n.name: pairing.hits(n.model, data.test, settings) for n in networks}
    rows = [_row(n, hits[n.name], data, settings) for n in networks]
    pairs = [
        {"first": "pruned", "second": name} | pairing.compare(hits["pruned"], hits[name])
        for name in hits
        if name != "pruned"
    ]
    return rows, pairs


def _row(network, hits, data, settings):
    """Return a line of the results."""
    return {
        "network": network.name,
        "epochs": sum(int(epoch["epoch"]) > 0 for epoch in network.epochs),
        "seconds": round(sum(float(epoch["seconds"]) for epoch in network.epochs), 1),
        "val_accuracy": accuracy(network.model, data.validation, settings),
        "test_accuracy": float(hits.mean()),
    } | dataclasses.asdict(prune_keras.cost(network.model))


def _export(model, output):
    """Return format -> file, or why the format cannot hold the network."""
    files = {".keras": str(output / "pruned.keras")}
    try:
        files[".h5"] = str(prune_keras.export(model, output / "pruned.h5"))
    except ValueError as error:
        files[".h5"] = f"not written: {error}"
    return files


def _prepare(output, settings):
    """Make the folder; keep of it what was made with these settings.

    Raises:
        ValueError: if its dense network was made with others.
    """
    output.mkdir(parents=True, exist_ok=True)
    path, now = output / "settings.json", dataclasses.asdict(settings)
    before = records.read_json(path) if path.exists() else {}
    if (output / "dense.keras").exists():
        _check_same(output, {name: before.get(name, now[name]) for name in DENSE}, now)
    if any(before.get(name) != now[name] for name in now if name not in NOT_PRUNED):
        for name in ("pruned", "trained_on"):
            (output / f"{name}.keras").unlink(missing_ok=True)
    records.write_json(path, now)


def _check_same(output, before, now):
    """Raise if the folder's dense network was made with other settings."""
    differ = {name: value for name, value in before.items() if value != now[name]}
    if differ:
        raise ValueError(
            "A folder holds the runs of one dense network. Received: output="
            f"'{output}', whose network was made with {differ}, but now is "
            f"{ {name: now[name] for name in differ} }. Choose another folder, or delete this one."
        )
