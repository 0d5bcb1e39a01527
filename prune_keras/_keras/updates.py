"""Private Keras, updates: at which point of their schedules optimizers are, and what they update.

Both are set on the optimizer object alone, so that its config, its files and its count of steps are
those of an ordinary one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from prune_keras._keras.optimizers import Late, late_steps, optimizers_of, strategy_scope
from prune_keras._keras.training import refresh, sync

_RATE, _UPDATE = "_get_current_learning_rate", "_backend_apply_gradients"


def rates_of(model: Any) -> list[Any]:
    """Return the learning rates of a model's optimizers: variables, schedules, or functions."""
    return [optimizer._learning_rate for optimizer in _with_rates(model)]


def let_be_late(model: Any) -> Callable[[], None]:
    """Let schedules of learning rates be set back from now on; `points` and `go_to` do that.

    By how much is among the variables of the optimizer for that time, as `optimizer_variables`
    gives them.

    Returns:
        A function that takes it back; to call it twice is no error.
    """
    scheduled = [each for each in optimizers_of(model) if _is_scheduled(each)]
    with strategy_scope(model):
        made = [(vars(each), Late(each)) for each in scheduled]
    for attributes, late in made:
        attributes[_RATE] = late
    refresh(model)

    def end() -> None:
        mine = [attributes for attributes, late in made if attributes.get(_RATE) is late]
        for attributes in mine:
            del attributes[_RATE]
        if mine:
            refresh(model)

    return end


def points(model: Any) -> list[float]:
    """Return where each learning rate is: the step that a schedule stands at, or a rate."""
    found = []
    for optimizer in _with_rates(model):
        if _is_scheduled(optimizer):
            found.append(int(optimizer._iterations) - sum(map(_number, late_steps(optimizer))))
        else:
            found.append(_number(optimizer._learning_rate))
    return found


def go_to(model: Any, where: list[float]) -> None:
    """Bring each learning rate back to where `points` said it was; see `let_be_late`."""
    for optimizer, point in zip(_with_rates(model), where, strict=True):
        if _is_scheduled(optimizer):
            for steps in late_steps(optimizer):
                steps.assign(int(optimizer._iterations) - int(point))
        else:
            optimizer._learning_rate.assign(point)


def update_only(model: Any, chosen: Callable[[keras.Variable], bool]) -> Callable[[], None]:
    """Let optimizers update some variables only from now on, whatever gradients others get.

    Neither momentum nor weight decay moves the others meanwhile.

    Args:
        model: the model; what is compiled of it is made anew.
        chosen: tells of a variable whether it is updated.

    Returns:
        A function that takes it back; to call it twice is no error.
    """
    made = [
        (vars(each), _choosing(getattr(each, _UPDATE), chosen)) for each in optimizers_of(model)
    ]
    for attributes, update in made:
        attributes[_UPDATE] = update
    sync(model)
    refresh(model)

    def end() -> None:
        mine = [attributes for attributes, update in made if attributes.get(_UPDATE) is update]
        for attributes in mine:
            del attributes[_UPDATE]
        if mine:
            refresh(model)

    return end


def _choosing(apply: Callable, chosen: Callable[[keras.Variable], bool]) -> Callable:
    @functools.wraps(apply)
    def choosing(grads: list, trainable_variables: list) -> None:
        pairs = [p for p in zip(grads, trainable_variables, strict=True) if chosen(p[1])]
        if pairs:
            apply([gradient for gradient, _ in pairs], [variable for _, variable in pairs])

    return choosing


def _number(variable: keras.Variable) -> float:
    return keras.ops.convert_to_numpy(variable.value).item()


def _with_rates(model: Any) -> list:
    return [each for each in optimizers_of(model) if hasattr(each, "_learning_rate")]


def _is_scheduled(optimizer: Any) -> bool:
    rate = getattr(optimizer, "_learning_rate", None)
    return isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
