"""Workers: a fit is pruned in one process, or in those that hold one model together."""

from __future__ import annotations

from typing import Any

from prune_keras import _backend


def check_one_process(model: Any) -> None:
    """Raise a ValueError if a model is trained by several processes that each cut by themselves.

    Keras' trainer for TensorFlow supports no training by several at all, and that for PyTorch
    leaves each one with weights of its own. On JAX a model may lie whole on devices of all.
    """
    found = _backend.several_workers(model)
    if found is not None:
        raise ValueError(
            "A model must be trained by one process to be pruned meanwhile, or on JAX lie whole on "
            f"the devices of all. Received: {found}. Use the devices of one process, by "
            "tf.distribute.MirroredStrategy or keras.distribution.DataParallel; on JAX, call "
            "keras.distribution.set_distribution(keras.distribution.DataParallel()) before the "
            "model is made; or train with several, save the model, and prune it in one."
        )
