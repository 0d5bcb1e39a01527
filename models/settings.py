"""What decides a run, and how a model is compiled by it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from prune_keras.models import devices, precision
from prune_keras.teaching.ends import ends

OPTIMIZERS = ("adam", "sgd")


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
        validation_batch_size: images a batch where nothing is learnt.
        flip: augmentation, as the next three; see `prune_keras.models.images.batches`.
        shift: augmentation.
        rotate: augmentation.
        zoom: augmentation.
        samples: training images, already shuffled, that score neurons, recalibrate statistics and
            fuse weights.
        head_epochs: epochs, before all others, of the layers behind pretrained ones alone; only the
            transfer of VGG-16 has such.
        dense_epochs: epochs of a dense network that is not there yet.
        dense_learning_rate: where they start.
        epochs: epochs after that, with pruning and fine-tuning.
        fine_tune_epochs: how many of them, the last ones, go without a cut in any case.
        learning_rate: where they start.
        baseline: whether the dense network also trains on for `epochs` epochs, to compare.
        pruning: arguments of `ProgressivePruning`; `schedule` may be a config, and `keep_rounds`
            tells whether the network of every round is kept, in `rounds/`.
        devices: number of devices that share each batch; see `prune_keras.models.devices`.
        backup_every: batches from one backup to the next within an epoch with pruning; `None` for
            none but at its end.
        verbose: 0 for silence, 1 for a line a round, 2 for a line an epoch, too.
    """

    model: str = "stack"
    seed: int = 0
    precision: str = "float32"
    optimizer: str = "adam"
    batch_size: int = 128
    validation_batch_size: int = 500
    flip: bool = True
    shift: int = 4
    rotate: float = 0.0
    zoom: float = 0.0
    samples: int = 5000
    head_epochs: int = 0
    dense_epochs: int = 40
    dense_learning_rate: float = 1e-3
    epochs: int = 30
    fine_tune_epochs: int = 5
    learning_rate: float = 3e-4
    baseline: bool = False
    pruning: dict[str, Any] = dataclasses.field(default_factory=dict)
    devices: int = 1
    backup_every: int | None = None
    verbose: int = 1

    def __post_init__(self) -> None:
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


def compile_model(model: Any, settings: Settings, learning_rate: float, steps: int) -> Any:
    """Compile for classification, with a learning rate that reaches zero after `steps` batches."""
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(steps, 1))
    with devices.scope(settings.devices):
        if settings.optimizer == "adam":
            optimizer = keras.optimizers.Adam(schedule)
        else:
            optimizer = keras.optimizers.SGD(
                schedule, momentum=0.9, nesterov=True, weight_decay=5e-4
            )
        model.compile(optimizer, loss_for(model), metrics=[accuracy_for(model)])
    return model


def loss_for(model: Any) -> Any:
    """Return the cross-entropy of a classifier with one output: binary, if that is one number."""
    if model.output_shape[-1] == 1:
        return keras.losses.BinaryCrossentropy(from_logits=_gives_logits(model, "sigmoid"))
    return keras.losses.SparseCategoricalCrossentropy(from_logits=_gives_logits(model, "softmax"))


def accuracy_for(model: Any) -> Any:
    """Return the metric `accuracy` of a classifier, which of one logit is told by its sign."""
    if model.output_shape[-1] == 1:
        return keras.metrics.BinaryAccuracy("accuracy", threshold=least(model))
    return "accuracy"


def least(model: Any) -> float:
    """Return above what a classifier with one output says that its class holds."""
    return 0.0 if _gives_logits(model, "sigmoid") else 0.5


def _gives_logits(model: Any, activation: str) -> bool:
    """Tell whether the last activation is left to the loss."""
    return ends(model)[0] != activation
