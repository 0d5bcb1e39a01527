"""Ways to train a small model, as cases of the table."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from fits import (
    IMAGES,
    LABELS,
    SAMPLES,
    dense_model,
)
from matrix import Case

BACKEND = keras.backend.backend()
GOOD, BAD = 0.9, 0.1
LEVELS, LOSSES = (GOOD, BAD, GOOD), (BAD, GOOD, BAD)
WEIGHTS = np.linspace(0.5, 2, len(LABELS)).astype("float32")


@dataclass
class Training:
    """A compiled model and how it is trained.

    Args:
        model: the model.
        fit: arguments of `fit` beside `x`, `y` and validation data of the model's usual samples.
        pruning: arguments of the callback.
        evaluate: arguments of `evaluate` after it, beside `x` and `y`.
        logged: what the logs hold if training was what it should be.
    """

    model: Any
    fit: dict = field(default_factory=dict)
    pruning: dict = field(default_factory=dict)
    evaluate: dict = field(default_factory=dict)
    logged: tuple = ()

    def __post_init__(self):
        x = IMAGES if len(self.model.inputs[0].shape) == 4 else SAMPLES
        usual = {"x": x, "y": LABELS}
        self.evaluate = usual | self.evaluate
        if "x" not in self.fit:
            self.fit = usual | {"batch_size": 12, "validation_data": (x, LABELS)} | self.fit


@dataclass(frozen=True)
class Way:
    """A case of the table, with what makes its `Training` and the metrics of its epochs.

    Args:
        case: the case.
        make: function without arguments.
        levels: the metric of each epoch, None where there is no validation.
        backends: the backends that offer it; all, if empty.
    """

    case: Case
    make: Callable[[], Training]
    levels: tuple = LEVELS
    backends: tuple = ()

    def __str__(self):
        return self.make.__name__


WAYS: list[Way] = []


def way(name, note, **arguments):
    def register(make):
        WAYS.append(Way(Case(name, note), make, **arguments))
        return make

    return register


READY = {"shuffle": False}  # Keras warns that it does not shuffle these


def small_model():
    """A model whose steps are compiled fast."""
    return dense_model(optimizer=keras.optimizers.SGD(0.01, momentum=0.9))


@contextlib.contextmanager
def under_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    yield
    keras.config.set_dtype_policy(before)


def dataset_of(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays)


def reloaded(model):
    # Keras wraps the optimizer of a model that it loads only where the policy is mixed_float16.
    with tempfile.TemporaryDirectory() as folder, under_policy(model.dtype_policy):
        model.save(Path(folder) / "model.keras")
        return keras.models.load_model(Path(folder) / "model.keras")
