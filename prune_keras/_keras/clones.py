"""Private Keras, clones: a second model of the same structure, and what is hidden meanwhile."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.backend.common.variables import Variable

from prune_keras._keras.cloning import Cloning
from prune_keras._keras.configs import (
    check_weights,
    is_optimizer,
    is_own,
    reason_of,
    same_layers,
)
from prune_keras._keras.graphs import all_layers, function_of, is_layer, models_in, operations_in
from prune_keras._keras.optimizers import at_rate
from prune_keras._keras.own_attributes import copied
from prune_keras._keras.own_state import copy_own_state
from prune_keras._keras.state import set_value_on_exit


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


@contextlib.contextmanager
def discarded() -> Iterator[None]:
    """Make what is thrown away: no weights, and Python's random numbers go on as before."""
    waiting = list(global_state.get_global_attribute("uninitialized_variables") or ())
    drawn = random.getstate()
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        random.setstate(drawn)
        global_state.set_global_attribute("uninitialized_variables", waiting)


@contextlib.contextmanager
def _values_in_scopes() -> Iterator[None]:
    """Let variables be made of values in a `keras.StatelessScope`, which knows initializers only.

    States of recurrent layers are such, and what constructors of users' layers make.
    """
    original = Variable.__init__

    @functools.wraps(original)
    def made(
        self: Any, initializer: Any, shape: Any = None, dtype: Any = None, *args: Any, **kw: Any
    ) -> None:
        if not (callable(initializer) or isinstance(initializer, str)):
            value = self._convert_to_tensor(initializer, dtype=dtype)
            shape, dtype = value.shape, dtype or keras.backend.standardize_dtype(value.dtype)
            initializer = functools.partial(_given, value)
        original(self, initializer, shape, dtype, *args, **kw)

    Variable.__init__ = made
    try:
        yield
    finally:
        Variable.__init__ = original


def _given(value: Any, *_: Any, **__: Any) -> Any:
    return value


def clone_structure(model: Any) -> Any:
    """Clone the model's layers and graph; call in a `keras.StatelessScope` to make no weights.

    Models keep their classes, and what these gave them.

    Raises:
        ValueError: if a layer cannot be made again from its config, or an attribute not be copied.
    """
    cloning = Cloning()
    with uncompiled(model), _values_in_scopes():
        twin = cloning.of(model)
        _be_alike(model, cloning)
    check_weights(model, twin)
    for old, new in same_layers(model, twin):
        new._trainable = old._trainable
    for old, new in zip(model.variables, twin.variables, strict=True):
        new.trainable = old.trainable  # a layer and the one inside it may differ
    for old, new in zip(operations_in(model), operations_in(twin), strict=True):
        if isinstance(old, keras.layers.InputLayer):
            new.sparse = new.output._sparse = old.sparse  # Keras makes dense ones
    return twin


def plain(model: Any) -> Any:
    """Return a model of Keras' own classes: the same, or a copy without attributes of its own."""
    if not any(is_own(type(each)) for each in models_in(model)):
        return model
    cloning = Cloning(plain=True)
    with keras.StatelessScope(), uncompiled(model), _values_in_scopes():
        twin = cloning.of(model)
        _be_alike(model, cloning)
        for old in _leaves(model):
            pairs = zip(_weights(old), _weights(cloning.of(old)), strict=True)
            for mine, other in pairs:
                other.trainable = mine.trainable
                set_value_on_exit(other, mine.value)
    for old in filter(is_layer, _leaves(model)):
        copy_own_state(old, cloning.of(old))
    return twin


def _be_alike(model: Any, cloning: Cloning) -> None:
    """Give clones of operations what no config tells: names inside of them, flags, and LoRA."""
    for old in (nested for nested in operations_in(model) if function_of(nested) is not None):
        cloning.of(old)._trainable = old._trainable
    for old in _leaves(model):
        new = cloning.of(old)
        new.name = old.name  # Keras numbers raw operations
        for mine, other in same_layers(old, new) if is_layer(old) else ():
            other._trainable = mine._trainable
            other.name = mine.name  # Keras numbers those inside of attention anew
            _share_activations(mine, other)
            _enable_lora(mine, other)
        check_weights(old, new)


def _leaves(model: Any) -> list:
    return [operation for operation in operations_in(model) if function_of(operation) is None]


def _weights(operation: Any) -> list:
    return operation.variables if is_layer(operation) else []


def _enable_lora(old: Any, new: Any) -> None:
    """Let a layer have LoRA as another one, for which attention and Dense forget to ask."""
    if getattr(old, "lora_enabled", False):
        if not new.lora_enabled:
            new.enable_lora(old.lora_rank)
        new.lora_alpha = old.lora_alpha


def _share_activations(old: Any, new: Any) -> None:
    """Give a clone the same functions; a config knows them by name, which others may have."""
    for name in ("activation", "recurrent_activation"):
        if inspect.isfunction(vars(old).get(name)):  # LSTM and its like show their cell's
            setattr(new, name, getattr(old, name))


def compile_like(twin: Any, model: Any, learning_rate: float | None = None) -> None:
    """Compile `twin` as `model` was, with its own optimizer and metrics, if these can be made.

    With a `learning_rate`, the optimizer keeps to it, whatever schedule there was.
    """
    if getattr(model, "compiled", False) and uncompilable(twin, model) is None:
        arguments = _arguments(twin, model)
        if learning_rate is not None:
            arguments["optimizer"] = at_rate(arguments["optimizer"], learning_rate)
        # A class may compile with arguments of its own; what it keeps of them was taken over.
        keras.Model.compile(twin, **arguments, auto_scale_loss=False)


def uncompilable(twin: Any, model: Any) -> str | None:
    """Return why `twin` cannot be compiled as `model` is, or None."""
    if not getattr(model, "compiled", False):
        return None
    try:
        _arguments(twin, model)
    except Exception as error:
        return reason_of(error)
    return None


def _arguments(twin: Any, model: Any) -> dict[str, Any]:
    given = {**model._compile_config.config, "optimizer": model.optimizer}
    return copied(given, _twins_of(twin, model), lambda layer: layer)


def _twins_of(twin: Any, model: Any) -> dict[int, Any]:
    """Return what takes the place of the model, its layers and what its attributes hold, by id."""
    layers = all_layers(model), all_layers(twin)
    # What was unfolded has others.
    alike = list(map(type, layers[0])) == list(map(type, layers[1]))
    twins = {id(old): new for old, new in zip(*layers, strict=True)} if alike else {}
    for name, value in vars(model).items():
        if name in vars(twin) and (is_optimizer(value) or isinstance(value, keras.metrics.Metric)):
            twins[id(value)] = vars(twin)[name]
    return twins


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
