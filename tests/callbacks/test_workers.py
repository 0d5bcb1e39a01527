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
