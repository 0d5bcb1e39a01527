"""Private Keras, views: what training calls of a model see in place of what its variables hold.

Nothing is written to the variables: within the call they show other tensors, which the backend
differentiates through, so that gradients and updates are those of the variables themselves. All
else, the optimizer, regularizers, `evaluate` and files among it, meets them as they are.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras
from keras.src.backend.common.variables import AutocastScope

from prune_keras._keras.graphs import all_layers
from prune_keras._keras.training import refresh

Shown = Iterable[tuple[keras.Variable, Any]]


@dataclass(frozen=True, eq=False)
class View:
    """What training calls see of some variables.

    Args:
        values: called once in each training step, compiled with it; gives variables and the tensors
            that stand in their place, of the same shapes. It may call `model.add_loss`.
        state: variables that it reads and updates: compiled with the step too, and no part of the
            model's weights and files.
    """

    values: Callable[[], Shown]
    state: tuple[keras.Variable, ...] = ()


_views: WeakKeyDictionary = WeakKeyDictionary()


def show(model: Any, view: View) -> None:
    """Let training calls of a model see what a view gives, from now on.

    Of several views of one variable, each one reads what those before it show.

    Raises:
        ValueError: if the model cannot be told whether it is called to train.
    """
    if not getattr(model, "_call_has_training_arg", False):
        raise ValueError(
            "The model's `call` must take `training`, by which calls of training are known. "
            f"Received: {type(model).__name__} {model.name!r}. Add the argument to its `call`."
        )
    views = _views.setdefault(model, [])
    views.append(view)
    if len(views) == 1:
        vars(model)["call"] = _viewing(model, views)
    model._seed_generators += [_Kept(variable) for variable in view.state]
    refresh(model)


def hide(model: Any, view: View) -> None:
    """Let a view be seen no longer; nothing of it stays with the model."""
    views = _views.get(model, [])
    if view not in views:
        return
    views.remove(view)
    if not views:
        del vars(model)["call"], _views[model]
    gone = {id(variable) for variable in view.state}
    model._seed_generators[:] = [g for g in model._seed_generators if id(g.state) not in gone]
    refresh(model)


@dataclass(frozen=True, eq=False)
class _Kept:
    """State of a model that is neither among its weights nor in its files, as that of seeds is."""

    state: keras.Variable


def _viewing(model: Any, views: list[View]) -> Callable:
    call = model.call
    signature = inspect.signature(call)

    @functools.wraps(call)
    def viewing(*args: Any, **kwargs: Any) -> Any:
        if not signature.bind(*args, **kwargs).arguments.get("training"):
            return call(*args, **kwargs)
        with contextlib.ExitStack() as shown:
            for view in views:
                with AutocastScope(None):
                    values = [*view.values()]
                shown.enter_context(showing(model, values))
            return call(*args, **kwargs)

    return viewing


@contextlib.contextmanager
def showing(model: Any, values: Shown) -> Iterator[None]:
    """Let variables of a model show other tensors of their shapes to what is computed within."""
    scope = _Showing(values)
    try:
        with scope:
            yield
    finally:
        if scope.original_scope is None:
            _hand_over(model, scope.losses)


def _hand_over(model: Any, losses: list) -> None:
    """Let layers have the losses that they added within a scope of no outer one."""
    for layer in all_layers(model) if losses else ():
        mine = [loss for loss in losses if id(loss) in layer._loss_ids]
        layer._losses.extend(mine)
        layer._loss_ids.difference_update(map(id, mine))


class _Showing(keras.StatelessScope):
    """A scope in which some variables show other tensors, and all else is as without it."""

    def __init__(self, values: Shown) -> None:
        super().__init__(initialize_variables=False)
        self._shown = {id(variable): value for variable, value in values}

    def __enter__(self) -> Any:
        super().__enter__()
        outer = self.original_scope
        self.collect_losses = outer is None or outer.collect_losses
        self.losses = [] if outer is None else outer.losses
        return self

    def get_current_value(self, variable: Any) -> Any:
        if id(variable) in self._shown:
            return self._shown[id(variable)]
        outer = self.original_scope
        # Keras hands what a scope returns to regularizers, None too.
        return variable._value if outer is None else outer.get_current_value(variable)

    def add_update(self, update: tuple[Any, Any]) -> None:
        variable, value = update
        if id(variable) in self._shown:
            raise ValueError(
                "A training call must not assign a variable that it sees in another way. "
                f"Received: an assignment to {variable.path!r}. Leave its layer out."
            )
        if self.original_scope is None:
            variable._direct_assign(value)
        else:
            self.original_scope.add_update(update)
