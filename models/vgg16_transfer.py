"""Cats against dogs: pretrained VGG-16, transferred, pruned while it is fine-tuned, exported.

`python -m prune_keras.models.vgg16_transfer` does what `prune-keras cats-vs-dogs` does.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras

from prune_keras import plots
from prune_keras.models import devices, records, runs, speed
from prune_keras.models import precision as precision_
from prune_keras.models.images import Data
from prune_keras.models.photos import load_data
from prune_keras.models.records import Row
from prune_keras.models.settings import Settings, compile_model
from prune_keras.models.vgg16 import HEADS, build, load_weights

__all__ = ["build", "load_data", "load_weights", "run", "settings", "train_head"]

HEAD_LEARNING_RATE = 3e-4
# Chosen on validation photos, by single cuts without training: with Taylor scores, "mean" kept as
# much accuracy as "none" at fewer parameters, and more than "flops".
PRUNING = {
    "criterion": "taylor",
    "debias": "mean",
    "fuse": "weights",
    "fraction": 0.25,
    "max_drop": 0.01,
    "max_epochs_per_round": 2,
    "round_to": 8,
}


def settings(
    image_size: int = 128,
    seed: int = 0,
    precision: str | None = None,
    epochs: int = 12,
    pruning: dict[str, Any] | None = None,
    **changes: Any,
) -> Settings:
    """Return the `Settings` of a transfer: Adam, small steps, flipped, turned and zoomed photos.

    Args:
        image_size: height and width of the photos.
        seed: seeds weights, dropout, order of the photos, and augmentation.
        precision: one of `"float32"`, `"mixed_bfloat16"`, `"mixed_float16"`. Defaults to the
            fastest that this machine does well.
        epochs: epochs with pruning, then fine-tuning; a quarter of them goes without a cut.
        pruning: arguments of `ProgressivePruning` that differ from `PRUNING`.
        **changes: other fields of `Settings`; `None` means no change.

    Example:

    >>> settings(epochs=8).fine_tune_epochs
    2
    """
    chosen: dict[str, Any] = {
        "model": f"vgg16 {image_size}x{image_size}",
        "seed": seed,
        "precision": precision or precision_.fastest(),
        "optimizer": "adam",
        "batch_size": 32,
        "validation_batch_size": 100,
        "shift": 0,
        "rotate": 0.02,
        "zoom": 0.05,
        "samples": 512,
        "dense_epochs": 3,
        "dense_learning_rate": 1e-4,
        "epochs": epochs,
        "fine_tune_epochs": epochs // 4,
        "learning_rate": 3e-5,
        "pruning": PRUNING | (pruning or {}),
        "verbose": 2,
    }
    return Settings(**chosen | {k: v for k, v in changes.items() if v is not None})


def train_head(
    model: Any, data: Data, settings: Settings, epochs: int, log: Path | None = None
) -> Any:
    """Train the layers behind the convolutions on what these make of each photo, computed once.

    Args:
        model: from `build`.
        data: a `Data`; its photos are taken as they are, without augmentation.
        settings: `Settings`.
        epochs: how long; an epoch takes no more than the layers of the head.
        log: CSV file for the epochs. Defaults to `None`: none.

    Returns:
        The same model, whose convolutions are as they were.
    """
    first = next(i for i, layer in enumerate(model.layers) if layer.name in HEADS)
    layers = model.layers[first:]
    body = keras.Model(model.inputs[0], layers[0].input)
    with devices.scope(settings.devices):
        copies = [type(layer).from_config(layer.get_config()) for layer in layers]
        head = keras.Sequential([keras.Input(layers[0].input.shape[1:]), *copies])
    train, validation = (
        (body.predict(x, batch_size=settings.validation_batch_size, verbose=0), y)
        for x, y in data[:2]
    )
    steps = epochs * -(-len(train[1]) // settings.batch_size)
    compile_model(head, settings, HEAD_LEARNING_RATE, steps)
    recorder = records.Recorder("head", log)
    head.fit(
        *train,
        batch_size=settings.batch_size,
        validation_data=validation,
        epochs=epochs,
        callbacks=[recorder],
        verbose=2 if settings.verbose > 1 else 0,
    )
    with devices.scope(settings.devices):
        for layer, copy in zip(layers, copies, strict=True):
            layer.set_weights(copy.get_weights())
    return model


def run(
    output: str | Path,
    data: str | Path | Data | None = None,
    weights: str | Path | None = "imagenet",
    head_epochs: int = 15,
    network: dict[str, Any] | None = None,
    measure: bool = True,
    overwrite: bool = False,
    **changes: Any,
) -> runs.Result:
    """Transfer VGG-16 to cats and dogs, prune it while it is fine-tuned, and write it all down.

    Args:
        output: folder for the networks, tables and pictures; made if it is not there.
        data: folder of the photos, see `load_data`; or a `Data`, what that returned.
        weights: what `load_weights` takes, or `None` to draw them.
        head_epochs: epochs of the new head before all layers are fine-tuned.
        network: arguments of `build` that differ from its own.
        measure: whether latency, throughput and memory are measured before and after.
        overwrite: see `prune_keras.models.runs.run`.
        **changes: arguments of `settings`, `devices` among them.

    Returns:
        A `prune_keras.models.runs.Result`.

    Raises:
        ValueError: if photos or weights are not there, with what to get, or `output` holds the
            networks of another run.
    """
    size, network, output = changes.get("image_size", 128), network or {}, Path(output)
    name = ", ".join([f"vgg16 {size}x{size}", *(f"{k}={v}" for k, v in network.items())])
    chosen = settings(model=name, head_epochs=head_epochs, **changes)
    photos = data if isinstance(data, Data) else load_data(data, size)

    def pretrained() -> Any:
        with devices.scope(chosen.devices):
            return build(size, weights=weights, precision=chosen.precision, **network)

    def with_head(model: Any) -> Any:
        return train_head(model, photos, chosen, head_epochs, output / "head.csv")

    result = runs.run(pretrained, photos, chosen, output, overwrite, with_head)
    if measure:
        write_speed(output)
    return result


def write_speed(folder: Path) -> list[Row]:
    """Measure the networks in a run's folder; write `speed.csv`, `speed.json` and `speed.png`."""
    files = {name: folder / f"{name}.keras" for name in ("dense", "pruned")}
    rows = speed.compare(files)
    records.write_table(folder / "speed.csv", rows)
    gains = {f"batch of {size}": pair for size, pair in speed.gains(*rows).items()}
    named = {
        key: dict(zip(("factor", "of_what_flops_promise"), v, strict=True))
        for key, v in gains.items()
    }
    records.write_json(folder / "speed.json", named)
    outcomes = {row["network"]: _told(row) for row in rows}
    records.write_outcomes(folder, outcomes, tuple(row["latency_ms_1"] for row in rows))
    before, after = rows
    plots.shares(
        before, after, [name for name in rows[0] if name != "network"], folder / "speed.png"
    )
    return rows


def _told(row: Row) -> dict[str, Any]:
    """Return of a line of the measurements what a report shows."""
    shown = {"file bytes": "file_bytes", "peak bytes": "peak_bytes"}
    shown |= {f"ms, batch of {size}": f"latency_ms_{size}" for size in speed.BATCHES}
    return {name: row[key] for name, key in shown.items()}


if __name__ == "__main__":
    from prune_keras.cli import app

    app(["cats-vs-dogs", *sys.argv[1:]])
