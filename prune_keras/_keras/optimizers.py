"""Private Keras, optimizers: which of their variables belong to which weight, and by which key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from prune_keras._keras.graphs import models_in


@dataclass(frozen=True)
class Slot:
    """A variable of an optimizer that belongs to a weight.

    Args:
        name: what it is called, for messages.
        variable: the optimizer's variable.
        axes: the weight's axis along each axis of the variable; None if that is not known.
    """

    name: str
    variable: keras.Variable
    axes: tuple[int, ...] | None


def plain_optimizers(optimizer: Any) -> list:
    """Return the optimizer and those it wraps, outermost first."""
    if optimizer is None:
        return []
    inner = [getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())]
    return [optimizer, *(found for wrapped in inner for found in plain_optimizers(wrapped))]


def optimizer_of(model: Any) -> Any:
    return getattr(model, "optimizer", None)


def optimizers_of(model: Any) -> list:
    """Return all optimizers of a model and of those nested in it, wrapped ones too."""
    outer = {id(held): held for held in map(optimizer_of, models_in(model)) if held is not None}
    return [found for optimizer in outer.values() for found in plain_optimizers(optimizer)]


def optimizer_variables(model: Any) -> list[keras.Variable]:
    return [v for held in optimizers_of(model) for v in [*held.variables, *late_steps(held)]]


def late_steps(optimizer: Any) -> list[keras.Variable]:
    """Return what holds by how many steps a schedule was set back, where `let_be_late` let it."""
    return [held.steps for held in vars(optimizer).values() if isinstance(held, Late)]


class Late:
    """Gives the rate of an optimizer's schedule, as it stood some steps ago.

    Args:
        optimizer: an optimizer with a schedule.

    Attributes:
        steps: the variable that holds how many steps.
    """

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        self.steps = keras.Variable(
            0, dtype="int32", trainable=False, aggregation="only_first_replica", name="late"
        )

    def __call__(self) -> Any:
        count = self._optimizer._iterations
        return self._optimizer._learning_rate(count - keras.ops.cast(self.steps.value, count.dtype))


def highest_rate(optimizer: Any) -> float:
    """Return the highest learning rate of a schedule by now, or the rate where there is none."""
    rate = optimizer._learning_rate
    if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    done = int(keras.ops.convert_to_numpy(optimizer.iterations))
    steps = np.unique(np.linspace(0, done, _LOOKED_AT).astype(int))
    return max(float(keras.ops.convert_to_numpy(rate(int(step)))) for step in steps)


_LOOKED_AT = 64  # steps of a schedule


def at_rate(optimizer: Any, learning_rate: float) -> Any:
    """Return an optimizer like another one that has one learning rate; itself, if it has none."""
    config = optimizer.get_config()
    if "learning_rate" not in config:
        return optimizer
    return type(optimizer).from_config({**config, "learning_rate": learning_rate})


def optimizer_slots(model: Any) -> dict[int, list[Slot]]:
    """Return the optimizer's variables that belong to each model variable, by the latter's id."""
    slots: dict[int, list[Slot]] = {}
    for optimizer in optimizers_of(model):
        known = list(getattr(optimizer, "_trainable_variables", []))
        for name, held in vars(optimizer).items():
            if not isinstance(held, list) or len(held) != len(known) or name.endswith("variables"):
                continue
            for weight, variable in zip(known, held, strict=True):
                if isinstance(variable, keras.Variable):
                    axes = _axes(optimizer, name, weight, variable)
                    slot = Slot(f"{optimizer.name}.{name}", variable, axes)
                    slots.setdefault(id(weight), []).append(slot)
    return slots


def _axes(optimizer: Any, name: str, weight: Any, variable: Any) -> tuple[int, ...] | None:
    """Return the weight's axis along each axis of a slot, or None where that cannot be told."""
    rank = len(weight.shape)
    if isinstance(optimizer, keras.optimizers.Adafactor) and rank > 1:
        # Rows and columns of squared gradients, each averaged over one of the last two axes.
        factored = {"_r": tuple(range(rank - 1)), "_c": (*range(rank - 2), rank - 1)}
        if name in factored:
            return factored[name]
    if len(variable.shape) == 0:
        return ()
    return tuple(range(rank)) if tuple(variable.shape) == tuple(weight.shape) else None


def unknown_slots(model: Any) -> list[keras.Variable]:
    """Return variables of the optimizer, scalars aside, that belong to no weight in a known way."""
    known = {id(slot.variable) for slots in optimizer_slots(model).values() for slot in slots}
    held = optimizer_variables(model)
    return [variable for variable in held if len(variable.shape) and id(variable) not in known]


def learning_rates(model: Any) -> list[keras.Variable]:
    """Return the variables that hold learning rates."""
    held = [getattr(optimizer, "_learning_rate", None) for optimizer in optimizers_of(model)]
    return [rate for rate in held if isinstance(rate, keras.Variable)]


@contextlib.contextmanager
def same_keys(model: Any) -> Iterator[None]:
    """Let optimizers find their weights again, after these got new backend variables within.

    On TensorFlow an optimizer knows a weight by the backend's variable, in its index as in what
    is excluded from weight decay.
    """
    known = [
        (optimizer, weight, optimizer._var_key(weight))
        for optimizer in optimizers_of(model)
        for weight in model.variables
    ]
    try:
        yield
    finally:  # also where some got new ones and others could not, to go back from there
        _follow_keys(known)


def _follow_keys(known: list[tuple[Any, Any, Any]]) -> None:
    renamed: dict[int, dict] = {}
    for optimizer, weight, old in known:
        new = optimizer._var_key(weight)
        if new != old:
            renamed.setdefault(id(optimizer), {})[old] = new
    for optimizer in {id(optimizer): optimizer for optimizer, _, _ in known}.values():
        _rename_keys(optimizer, renamed.get(id(optimizer), {}))


def _rename_keys(optimizer: Any, names: dict) -> None:
    """Give the optimizer new collections: TensorFlow does not save one that others change."""
    for attribute, held in list(vars(optimizer).items()):
        if not isinstance(held, dict | set) or names.keys().isdisjoint(held):
            continue
        if isinstance(held, dict):
            renamed: Any = {names.get(key, key): value for key, value in held.items()}
        else:
            renamed = {names.get(key, key) for key in held}
        setattr(optimizer, attribute, renamed)


def strategy_scope(model: Any) -> contextlib.AbstractContextManager:
    """Return the scope in which variables of the model are made."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


def build_optimizer(model: Any) -> None:
    """Make the optimizer's state now, where `fit` would make it with the first batch."""
    optimizer = optimizer_of(model)
    if optimizer is not None and not optimizer.built:
        with strategy_scope(model):
            optimizer.build(model.trainable_variables)


def averages_of(model: Any) -> list[tuple[keras.Variable, keras.Variable]]:
    """Return each weight with the average of it that an optimizer keeps (`use_ema`)."""
    pairs = [
        pair
        for optimizer in optimizers_of(model)
        if getattr(optimizer, "use_ema", False) and optimizer.built
        for pair in zip(
            optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True
        )
    ]
    return [(weight, average) for weight, average in pairs if average is not None]


def start_averages(model: Any) -> None:
    """Let averages begin with the weights, where Keras holds zeros until the first step."""
    for optimizer in optimizers_of(model):
        if getattr(optimizer, "use_ema", False) and not int(optimizer.iterations):
            held = {id(weight) for weight in optimizer._trainable_variables}
            for weight, average in averages_of(model):
                if id(weight) in held:
                    average.assign(_value(weight))


def finalize(model: Any) -> None:
    """Give the weights their averages, as `fit` does when it ends, if the optimizer keeps them."""
    for weight, average in averages_of(model):
        weight.assign(_value(average))


@contextlib.contextmanager
def averages_follow(model: Any) -> Iterator[None]:
    """Add to averages what is added to their weights within."""
    before = [(w, average, _value(w)) for w, average in averages_of(model)]
    yield
    for weight, average, old in before:
        average.assign_add(_value(weight) - old)


@contextlib.contextmanager
def same_steps(model: Any) -> Iterator[None]:
    """Let optimizers count on from where they are, whatever is brought back within."""
    held = optimizers_of(model)
    counts = [count for each in held for count in [each._iterations, *late_steps(each)]]
    before = [_value(count) for count in counts]
    yield
    for count, value in zip(counts, before, strict=True):
        count.assign(value)


def _value(variable: keras.Variable) -> np.ndarray:
    # Some backends hand out their own memory, which an assignment would share.
    return np.array(keras.ops.convert_to_numpy(variable.value))
