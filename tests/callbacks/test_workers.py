"""Several processes that train one model are refused before the first batch."""

import types

import keras
import pytest

from prune_keras.callbacks.workers import check_one_process

KINDS = ["MultiWorkerMirroredStrategy", "ParameterServerStrategy"]


@pytest.mark.parametrize("kind", KINDS)
def test_strategies_of_several_workers_are_refused(kind):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("strategies belong to TensorFlow")
    import tensorflow as tf

    strategy = object.__new__(getattr(tf.distribute, kind))  # one needs workers to be made
    with pytest.raises(ValueError, match=rf"one process.*Received: {kind}.*MirroredStrategy"):
        check_one_process(types.SimpleNamespace(distribute_strategy=strategy))


def test_one_process_is_not():
    check_one_process(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))


def test_processes_of_torch_are_refused(monkeypatch):
    if keras.backend.backend() != "torch":
        pytest.skip("torch.distributed belongs to PyTorch")
    import torch.distributed

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="Received: 2 processes of torch.distributed.*in one"):
        check_one_process(model)
