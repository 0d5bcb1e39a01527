"""Cats against dogs: pretrained VGG-16, transferred, pruned while it is fine-tuned, exported.

`python -m prune_keras.models.vgg16_transfer` does what `prune-keras cats-vs-dogs` does.
"""

from pathlib import Path

from prune_keras.models import devices as devices_
from prune_keras.models import precision as precision_
from prune_keras.models import records, runs
from prune_keras.models.images import batches
from prune_keras.models.photos import load_data
from prune_keras.models.settings import Settings, compile_model
from prune_keras.models.vgg16 import build, convolutions, load_weights

__all__ = ["build", "load_data", "load_weights", "main", "run", "settings", "train_head"]

HEAD_LEARNING_RATE = 1e-4  # at 1e-3 the large features of VGG-16 kill the hidden relus
# Chosen on validation photos: Taylor scores a FLOP saved, and readers that make up for what goes.
PRUNING = {
    "criterion": "taylor",
    "debias": "flops",
    "fuse": "weights",
    "fraction": 0.15,
    "max_drop": 0.01,
    "round_to": 8,
}


def settings(image_size=128, seed=0, precision=None, epochs=12, pruning=None, **changes):
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
    chosen = {
        "model": f"vgg16 {image_size}x{image_size}",
        "seed": seed,
        "precision": precision or precision_.fastest(),
        "optimizer": "adam",
        "batch_size": 32,
        "validation_batch_size": 100,
        "shift": 0,
        "rotate": 0.04,
        "zoom": 0.1,
        "samples": 512,
        "dense_epochs": 2,
        "dense_learning_rate": 5e-5,
        "epochs": epochs,
        "fine_tune_epochs": epochs // 4,
        "learning_rate": 5e-5,
        "pruning": PRUNING | {k: v for k, v in (pruning or {}).items() if v is not None},
        "verbose": 2,
    }
    return Settings(**chosen | {k: v for k, v in changes.items() if v is not None})


def train_head(model, data, settings, epochs, log=None):
    """Train the layers behind the convolutions, which keep their weights meanwhile.

    Args:
        model: from `build`.
        data: a `Data`.
        settings: `Settings`.
        epochs: how long.
        log: CSV file for the epochs. Defaults to `None`: none.

    Returns:
        The same model, all of whose layers are trainable.
    """
    kept = convolutions(model).values()
    for layer in kept:
        layer.trainable = False
    images = batches(data, settings, settings.seed)
    compile_model(model, settings, HEAD_LEARNING_RATE, epochs * len(images))
    runs.fit(model, images, data, settings, epochs, [records.Recorder("head", log)])
    for layer in kept:
        layer.trainable = True
    return model


def run(output, data=None, weights="imagenet", devices=1, head_epochs=1, network=None, **changes):
    """Transfer VGG-16 to cats and dogs, prune it while it is fine-tuned, and write it all down.

    Args:
        output: folder for the networks, tables and pictures; made if it is not there.
        data: folder of the photos; see `load_data`.
        weights: what `load_weights` takes, or `None` to draw them.
        devices: number of devices that share each batch.
        head_epochs: epochs of the new head before all layers are fine-tuned.
        network: arguments of `build` that differ from its own.
        **changes: arguments of `settings`.

    Returns:
        A `prune_keras.models.runs.Result`.

    Raises:
        ValueError: if photos or weights are not there, with what to get.
    """
    chosen, output = settings(**changes), Path(output)
    size = changes.get("image_size", 128)

    def transferred():
        model = build(size, weights=weights, precision=chosen.precision, **(network or {}))
        return train_head(model, photos, chosen, head_epochs, output / "head.csv")

    photos = load_data(data, size)
    with devices_.scope(devices):
        result = runs.run(transferred, photos, chosen, output)
    return result


def main():
    """Run `prune-keras cats-vs-dogs`."""
    from prune_keras.cli import app

    app(["cats-vs-dogs", *__import__("sys").argv[1:]])


if __name__ == "__main__":
    main()
