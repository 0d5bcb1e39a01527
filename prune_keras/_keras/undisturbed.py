"""Private Keras, passes over samples that leave no trace: state, metrics and losses stay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR
from keras.src.trainers.compile_utils import CompileLoss

from prune_keras import _backend
from prune_keras._keras.graphs import all_layers, is_layer
from prune_keras._keras.name_scopes import same_name_scope


@contextlib.contextmanager
def passing(step: Callable, model: Any, calls: float | None = None) -> Iterator[Callable]:
    """Give a step compiled for passes over samples, and free it; what it updates stays as it was.

    Args:
        step: a function of tensors that reads the model's variables.
        model: the model.
        calls: how often it will be called, if it needs no gradients: a few calls are not worth
            compiling. Defaults to None: not known, or with gradients, where an operation that
            runs at once also gives the gradients that nobody asks for.
    """
    with undisturbed(model), _loss_apart(model):
        if not _backend.is_worth_compiling(calls):
            yield step
            return
        compiled = _backend.compiled(step, model)
        try:
            yield compiled
        finally:
            _backend.dispose(compiled)


@contextlib.contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Keep what calls of layers and of the loss update as it is, whatever happens.

    That is the state of layers, their losses and random seeds, all metrics, and in which name scope
    Keras is. Weights are not kept.
    """
    state = [(variable, keras.ops.copy(variable.value)) for variable in _state_of(model)]
    losses = [(layer, layer._losses[:], set(layer._loss_ids)) for layer in all_layers(model)]
    try:
        with same_name_scope():
            yield
    finally:
        for layer, added, ids in losses:
            layer._losses[:] = added
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)
        for variable, value in state:
            variable.assign(value)


def losses_of(operation: Any) -> list:
    """Return what the last call of an operation added to the loss."""
    if not is_layer(operation):
        return []
    return [loss for layer in all_layers(operation) for loss in layer._get_own_losses()]


def give_losses(operation: Any, losses: list) -> None:
    """Let it be that the last call of an operation added these to the loss."""
    if is_layer(operation):
        operation._clear_losses()
        for loss in losses:
            operation.add_loss(loss)


@contextlib.contextmanager
def _loss_apart(model: Any) -> Iterator[None]:
    """Let the model have the same loss, made anew, which knows nothing of outputs and targets yet.

    A loss of several outputs makes metrics as it first meets them, in the structure that they have.
    """
    held: Any = getattr(model, "_compile_loss", None)
    if type(held) is not CompileLoss:
        yield
        return
    names = held.output_names
    model._compile_loss = CompileLoss(held._user_loss, held._user_loss_weights, output_names=names)
    try:
        yield
    finally:
        model._compile_loss = held


def _state_of(model: Any) -> list:
    """Return the variables that a call may update: those that were not made to be trained."""
    drawn = get_global_attribute(GLOBAL_SEED_GENERATOR)
    found: list[Any] = [] if drawn is None else [drawn.state]
    metrics: list[Any] = list(getattr(model, "metrics", ()))
    for layer in all_layers(model):
        found += layer._non_trainable_variables
        found += [generator.state for generator in layer._seed_generators]
        metrics += layer._metrics
    found += [variable for metric in metrics for variable in metric.variables]
    return list({id(variable): variable for variable in found}.values())
