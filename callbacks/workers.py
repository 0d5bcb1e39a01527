"""Workers: a fit is pruned in one process, whatever number of devices it has."""

from __future__ import annotations

from typing import Any

from prune_keras import _backend


def check_one_process(model: Any) -> None:
    """Raise a ValueError if a model is trained by several processes at once.

    Each of them would score, judge and cut by itself, and nothing would see to it that all do the
    same. Keras' trainer for TensorFlow supports no such training at all.
    """
    found = _backend.several_workers(model)
    if found is not None:
        raise ValueError(
            "A model must be trained by one process to be pruned meanwhile. Received: "
            f"{found}. Use the devices of one process, by tf.distribute.MirroredStrategy or "
            "keras.distribution.DataParallel; or train with several, save the model, and prune it "
            "in one."
        )
