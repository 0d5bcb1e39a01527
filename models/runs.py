"""A whole run: train or load a dense network, prune it while it trains on, write what came of it.

Every decision is made on the validation images. The test images are looked at once, at the end,
for the networks as they stand then.
"""

import dataclasses
from pathlib import Path
from typing import Any

import keras

import prune_keras
from prune_keras.callbacks import ProgressivePruning
from prune_keras.models import precision, records
from prune_keras.models.images import Batches

OPTIMIZERS = ("adam", "sgd")
SAMPLES = 5000  # training images, already shuffled, that score neurons and recalibrate statistics


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides a run, beside the data.

    Learning rates fall along half a cosine to zero, over the dense epochs and over the others.

    Args:
        model: name or file of the dense network, for the record.
        seed: seeds weights, dropout, order of the images and augmentation.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`.
        optimizer: `"adam"`, or `"sgd"` (Nesterov momentum 0.9, weight decay 5e-4).
        batch_size: images a batch.
        flip, shift: augmentation, see `Batches`.
        dense_epochs: epochs of a dense network that is not there yet.
        dense_learning_rate: where they start.
        epochs: epochs after that, with pruning and fine-tuning.
        fine_tune_epochs: how many of them, the last ones, go without a cut in any case.
        learning_rate: where they start.
        baseline: whether the dense network also trains on for `epochs` epochs, to compare.
        pruning: arguments of `ProgressivePruning`.
        verbose: 0 for silence, 1 for a line a round, 2 for a line an epoch, too.
    """

    model: str = "stack"
    seed: int = 0
    precision: str = "float32"
    optimizer: str = "adam"
    batch_size: int = 128
    flip: bool = True
    shift: int = 4
    dense_epochs: int = 40
    dense_learning_rate: float = 1e-3
    epochs: int = 30
    fine_tune_epochs: int = 5
    learning_rate: float = 3e-4
    baseline: bool = False
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    verbose: int = 1

    def __post_init__(self):
        precision.check(self.precision)
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"The optimizer must be one of {', '.join(OPTIMIZERS)}. "
                f"Received: optimizer={self.optimizer!r}. Choose one of these names."
            )
        if not 0 <= self.fine_tune_epochs < self.epochs:
            raise ValueError(
                "At least one epoch must be left for pruning. Received: epochs="
                f"{self.epochs}, fine_tune_epochs={self.fine_tune_epochs}. Make the second smaller."
            )


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Args:
        rows: one dictionary a network: its name, epochs, seconds, accuracies and cost.
        pruning: the callback, with its `report` and `rounds`.
        files: the exported files, and for a format that cannot hold the network, why.
    """

    rows: list[dict]
    pruning: ProgressivePruning
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class _Network:
    """A network with the logs of the epochs that made it."""

    name: str
    model: keras.Model
    epochs: list[dict]


def run(build, data, settings, output):
    """Train, prune, fine-tune, evaluate and export a network; all files go to `output`.

    A `dense.keras` that lies in the folder already is loaded rather than trained again.

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
    output.mkdir(parents=True, exist_ok=True)
    path = _dense(build, data, settings, output)
    networks = [_Network("dense", _load(path, settings), records.read_table(_log_of(path)))]
    if settings.baseline:
        networks.append(_train_on(path, data, settings))
    pruned, pruning = _prune(path, data, settings)
    networks.append(pruned)
    rows = [_row(network, data) for network in networks]
    files = _export(pruned.model, output)
    history = [epoch for network in networks for epoch in network.epochs]
    records.write_run(output, rows, history, pruning)
    return Result(rows, pruning, files)


def compile_model(model, settings, learning_rate, steps):
    """Compile for classification, with a learning rate that reaches zero after `steps` batches."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(steps, 1))
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = keras.optimizers.SGD(schedule, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=_gives_logits(model))
    model.compile(optimizer, loss, metrics=["accuracy"])
    return model


def _dense(build, data, settings, output):
    """Return the file of the dense network, which is made only if it is not there."""
    path = output / "dense.keras"
    _check_folder(path, settings)
    records.write_json(output / "settings.json", dataclasses.asdict(settings))
    if path.exists():
        return path
    keras.utils.set_random_seed(settings.seed)
    model = precision.convert(build(), settings.precision)
    recorder = records.Recorder("dense")
    if settings.dense_epochs:
        batches = _batches(data, settings, settings.seed)
        steps = settings.dense_epochs * len(batches)
        compile_model(model, settings, settings.dense_learning_rate, steps)
        _fit(model, batches, data, settings, 0, settings.dense_epochs, [recorder])
    prune_keras.export(model, path)
    records.write_table(_log_of(path), recorder.rows)
    return path


def _train_on(path, data, settings):
    """Train the dense network for as long as the pruned one, in the same way."""
    model, batches = _load(path, settings), _batches(data, settings, settings.seed + 1)
    compile_model(model, settings, settings.learning_rate, settings.epochs * len(batches))
    recorder = records.Recorder("dense, trained on")
    _fit(model, batches, data, settings, 0, settings.epochs, [recorder])
    return _Network("dense, trained on", model, recorder.rows)


def _prune(path, data, settings):
    """Prune the dense network while it trains on; fine-tune what is left."""
    model, batches = _load(path, settings), _batches(data, settings, settings.seed + 1)
    compile_model(model, settings, settings.learning_rate, settings.epochs * len(batches))
    start = accuracy(model, data.validation)
    pruning = _callback(start, data, settings)
    recorders = [records.Recorder("prune"), records.Recorder("fine-tune")]
    recorders[0].add_start(model, start)
    cut = settings.epochs - settings.fine_tune_epochs
    _fit(model, batches, data, settings, 0, cut, [pruning, recorders[0]])
    reached, weights = accuracy(model, data.validation), model.get_weights()
    if settings.fine_tune_epochs:
        _fit(model, batches, data, settings, cut, settings.epochs, [recorders[1]])
    if accuracy(model, data.validation) < reached:
        model.set_weights(weights)
    rows = [row for recorder in recorders for row in recorder.rows]
    return _Network("pruned", model, rows), pruning


def _callback(start, data, settings):
    """Return the pruning callback; the dense network's accuracy is what a drop is counted from."""
    arguments = dict(settings.pruning)
    if arguments.get("max_drop") is not None:
        arguments["baseline"] = start
    samples = tuple(array[:SAMPLES] for array in data.train)
    return ProgressivePruning(
        data=samples, seed=settings.seed, verbose=min(settings.verbose, 1), **arguments
    )


def accuracy(model, images_and_labels):
    """Return the share of images that a compiled model classifies correctly."""
    images, labels = images_and_labels
    return float(
        model.evaluate(images, labels, batch_size=500, verbose=0, return_dict=True)["accuracy"]
    )


def _fit(model, batches, data, settings, first, last, callbacks):
    model.fit(
        batches,
        validation_data=data.validation,
        validation_batch_size=500,
        initial_epoch=first,
        epochs=last,
        callbacks=callbacks,
        verbose=2 if settings.verbose > 1 else 0,
    )


def _batches(data, settings, seed):
    images, labels = data.train
    return Batches(images, labels, settings.batch_size, settings.flip, settings.shift, seed)


def _load(path, settings):
    """Return the network of a file, compiled to be evaluated."""
    model = keras.models.load_model(path, compile=False)
    return compile_model(precision.convert(model, settings.precision), settings, 0.0, 1)


def _log_of(path):
    return path.with_suffix(".csv")


def _row(network, data):
    """Return a line of the results; the one place that looks at the test images."""
    model = network.model
    return {
        "network": network.name,
        "epochs": sum(int(epoch["epoch"]) > 0 for epoch in network.epochs),
        "seconds": round(sum(float(epoch["seconds"]) for epoch in network.epochs), 1),
        "val_accuracy": accuracy(model, data.validation),
        "test_accuracy": accuracy(model, data.test),
    } | dataclasses.asdict(prune_keras.cost(model))


def _export(model, output):
    """Return format -> file, or why the format cannot hold the network."""
    files = {}
    for suffix in (".keras", ".h5"):
        path = output / f"pruned{suffix}"
        try:
            prune_keras.export(model, path)
            files[suffix] = str(path)
        except ValueError as error:
            files[suffix] = f"not written: {error}"
    return files


def _gives_logits(model):
    """Tell whether the last layer leaves the softmax to the loss."""
    last = model.layers[-1]
    softmax = isinstance(last, keras.layers.Softmax)
    return not softmax and getattr(last, "activation", None) is not keras.activations.softmax


def _check_folder(path, settings):
    """Raise if the folder's dense network was made with other settings."""
    before = path.with_name("settings.json")
    if not (path.exists() and before.exists()):
        return
    names = ("model", "seed", "optimizer", "dense_epochs", "dense_learning_rate")
    stored = records.read_json(before)
    now = {name: getattr(settings, name) for name in names}
    differ = {name: stored.get(name) for name in names if stored.get(name) != now[name]}
    if differ:
        raise ValueError(
            "A folder holds the runs of one dense network. Received: output="
            f"'{path.parent}', whose network was made with {differ}, but now is "
            f"{ {name: now[name] for name in differ} }. Choose another folder, or delete this one."
        )
