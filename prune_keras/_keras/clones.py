"""Private Keras, clones: a second model of the same structure, and what is hidden meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import tree

from prune_keras._keras.graphs import all_layers, models_in, operations_in


@contextlib.contextmanager
def uncompiled(model: Any) -> Iterator[None]:
    """Hide that the models were compiled, so that cloning makes no optimizer."""
    compiled = [nested for nested in models_in(model) if getattr(nested, "compiled", False)]
    try:
        for nested in compiled:
            nested.compiled = False
        yield
    finally:
        for nested in compiled:
            nested.compiled = True


@contextlib.contextmanager
def without_optimizer(model: Any) -> Iterator[None]:
    """Hide the optimizer, which Keras writes into `.keras` files with all of its state."""
    held = model.__dict__.pop("optimizer", None)
    try:
        yield
    finally:
        if held is not None:
            model.__dict__["optimizer"] = held


def clone_structure(model: Any) -> Any:
    """Clone the model's layers and graph; call in a `keras.StatelessScope` to make no weights."""
    with uncompiled(model):
        twin = keras.models.clone_model(model, clone_function=_clone_operation, recursive=True)
    for old, new in zip(all_layers(model), all_layers(twin), strict=True):
        new._trainable = old._trainable
        new.name = old.name  # Keras numbers those inside of attention anew
    for old, new in zip(model.variables, twin.variables, strict=True):
        new.trainable = old.trainable  # a layer and the one inside it may differ
    for old, new in zip(operations_in(model), operations_in(twin), strict=True):
        # Keras names the clone of an unnamed input after its tensor, and numbers raw operations.
        new.name = old.name
    return twin


def _clone_operation(operation: Any) -> Any:
    return operation.__class__.from_config(operation.get_config())


def compile_like(twin: Any, model: Any) -> None:
    """Compile `twin` as `model` was, with an optimizer and metrics of its own."""
    if getattr(model, "compiled", False):
        arguments = dict(model._compile_config.config)
        arguments["optimizer"] = _clone_operation(model.optimizer)
        twin.compile(**tree.map_structure(_own_metric, arguments))


def _own_metric(value: Any) -> Any:
    return _clone_operation(value) if isinstance(value, keras.metrics.Metric) else value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back Keras' advice against .h5, which is what the user asked for."""
    from absl import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
