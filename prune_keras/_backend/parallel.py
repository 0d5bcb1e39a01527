"""Backends, parallel: devices and processes that share the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np


def several_workers(model: Any) -> str | None:
    """Return by what a model is trained in several processes that would cut it by themselves.

    None is returned for one process, and for those of JAX that hold one model whole, together.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        strategy = getattr(model, "distribute_strategy", None)
        names = ("MultiWorkerMirroredStrategy", "ParameterServerStrategy")
        for name in names:  # by which TensorFlow knows them; the classes have others
            older = getattr(tf.distribute.experimental, name)
            if isinstance(strategy, (getattr(tf.distribute, name), older)):
                return name
        return None
    if keras.backend.backend() == "jax":
        import jax

        count = jax.process_count()
        held = [variable.value for variable in model.variables] if count > 1 else []
        is_one = all(v.is_fully_replicated and not v.is_fully_addressable for v in held)
        return None if is_one else f"{count} processes of JAX"
    import torch.distributed as torch_distributed

    is_one = not (torch_distributed.is_available() and torch_distributed.is_initialized())
    count = 1 if is_one else torch_distributed.get_world_size()
    return f"{count} processes of torch.distributed" if count > 1 else None


def processes() -> tuple[int, int]:
    """Return how many processes share the work on what Keras makes now, and this one's place.

    A process of JAX whose models lie on devices of its own is one by itself.
    """
    distribution = keras.backend.backend() == "jax" and keras.distribution.distribution()
    if not distribution:
        return 1, 0
    import jax

    held = {device.process_index for device in distribution.device_mesh.backend_mesh.devices.flat}
    return (jax.process_count(), jax.process_index()) if len(held) > 1 else (1, 0)


def own_part(data: Any) -> Any:
    """Return what of a dataset a process reads: of one of tf.data that Keras shares out, a part."""
    shares = processes()[0] > 1 and hasattr(data, "cardinality")
    distribution = keras.distribution.distribution() if shares else None
    return data if distribution is None else distribution.distribute_dataset(data)


def gathered(values: np.ndarray) -> np.ndarray:
    """Return `(processes, values)`: small whole numbers of all processes, which all call this.

    Raises:
        ValueError: if processors may compute ahead, and then exchange in another order than others.
    """
    import jax
    from jax.experimental import multihost_utils

    if jax.default_backend() == "cpu" and jax.config.read("jax_cpu_enable_async_dispatch"):
        raise ValueError(
            "Processes on CPUs must compute one step after another to exchange what they found. "
            "Received: jax_cpu_enable_async_dispatch=True. Begin the program with "
            'jax.config.update("jax_cpu_enable_async_dispatch", False).'
        )
    return np.asarray(multihost_utils.process_allgather(values))


def mesh_of(variables: Sequence[Any]) -> Any:
    """Return the mesh of devices of JAX on which variables lie; None if they lie on one device."""
    import jax

    layouts = [getattr(variable.value, "sharding", None) for variable in variables]
    named = [each for each in layouts if isinstance(each, jax.sharding.NamedSharding)]
    return named[0].mesh if named else None


def shared_out(batch: Any, model: Any) -> Any:
    """Lay a batch out over the devices that share the work of a model, if they divide it.

    Those are devices of one process. Several processes, which must do all that they exchange in one
    order, each look at the whole batch.

    Args:
        batch: a structure of tensors `(samples, ...)`, or of None.
        model: the model that is to look at it.
    """
    distribution = keras.backend.backend() == "jax" and keras.distribution.distribution()
    is_shared = distribution and processes()[0] == 1
    if not is_shared or mesh_of(model.variables) != distribution.device_mesh.backend_mesh:
        return batch
    parts = distribution.num_model_replicas

    def laid_out(tensor: Any) -> Any:
        if tensor is None or tensor.shape[0] % parts:
            return tensor
        return keras.distribution.distribute_tensor(
            tensor, distribution.get_data_layout(tensor.shape)
        )

    return keras.tree.map_structure(laid_out, batch)


def devices() -> list[str]:
    """Return the names of the devices that the backend computes on."""
    if keras.backend.backend() == "torch":  # for which Keras lists none
        import torch

        count = torch.cuda.device_count()
        return [f"cuda:{number}" for number in range(count)] or ["cpu"]
    return [str(device) for device in keras.distribution.list_devices()]
