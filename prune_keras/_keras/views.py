"""Private Keras, views: what training calls of a model see in place of what its variables hold.

Nothing is written to the variables: within the call they show other tensors, which the backend
differentiates through, so that gradients and updates are those of the variables themselves. All
else, the optimizer, regularizers, `evaluate` and files among it, meets them as they are. A view may
also add to the loss of a training step, knowing its batch.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras
from keras.src.backend.common.variables import AutocastScope
from keras.src.losses.loss import scale_loss_for_distribution

from prune_keras._keras.carrying import carry_along
from prune_keras._keras.graphs import all_layers
from prune_keras._keras.training import refresh

Shown = Iterable[tuple[keras.Variable, Any]]


@dataclass(frozen=True, eq=False)
class View:
    """What training steps see of some variables, and what they pay for all.

    Both functions are called once in each training step, and compiled with it.

    Args:
        values: gives variables and the tensors that stand in their place, of the same shapes.
            Defaults to none.
        penalty: from inputs and targets to a scalar that is added to the loss. Defaults to None.
        state: variables that these read and update: compiled with the step too, and no part of the
            model's weights and files. Defaults to none.
    """

    values: Callable[[], Shown] = tuple
    penalty: Callable[[Any, Any], Any] | None = None
    state: tuple[keras.Variable, ...] = ()


_views: WeakKeyDictionary = WeakKeyDictionary()
"""Model -> view -> what lets go of its state, in the order in which they are shown."""

_paid: WeakKeyDictionary = WeakKeyDictionary()
"""Model -> thread -> what views added to the loss that was computed there last."""


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
    views = _views.setdefault(model, {})
    views[view] = carry_along(model, view.state)
    if len(views) == 1:
        vars(model).update(_methods(model, views))
    refresh(model)


def hide(model: Any, view: View) -> None:
    """Let a view be seen no longer; nothing of it stays with the model."""
    views = _views.get(model, {})
    if view not in views:
        return
    views.pop(view)()
    if not views:
        for name in _methods(model, views):
            del vars(model)[name]
        del _views[model], _paid[model]
    refresh(model)


def _methods(model: Any, views: Iterable[View]) -> dict[str, Callable]:
    """Return what a model with views does in other ways than its class."""
    trains = threading.local()  # replicas run in threads
    _paid[model] = trains
    methods = {
        "call": _viewing(model, views, trains),
        "compute_loss": _paying(model, views, trains),
    }
    for method in methods.values():
        method.is_surrounded = True  # type: ignore[attr-defined]
    return methods


def _viewing(model: Any, views: Iterable[View], trains: Any) -> Callable:
    call = model.call
    signature = inspect.signature(call)

    @functools.wraps(call)
    def viewing(*args: Any, **kwargs: Any) -> Any:
        if not signature.bind(*args, **kwargs).arguments.get("training"):
            return call(*args, **kwargs)
        trains.now = True
        with contextlib.ExitStack() as shown:
            for view in views:
                with AutocastScope(None):
                    values = [*view.values()]
                shown.enter_context(showing(model, values))
            return call(*args, **kwargs)

    return viewing


def _paying(model: Any, views: Iterable[View], trains: Any) -> Callable:
    """Return `compute_loss` with penalties behind a training call; others ask for the loss too."""
    compute_loss = model.compute_loss
    signature = inspect.signature(compute_loss)

    @functools.wraps(compute_loss)
    def paying(*args: Any, **kwargs: Any) -> Any:
        loss = compute_loss(*args, **kwargs)
        behind, trains.now, trains.paid = getattr(trains, "now", False), False, 0.0
        given = signature.bind(*args, **kwargs).arguments
        for view in views if behind else ():
            if view.penalty is not None:
                penalty = keras.ops.cast(view.penalty(given.get("x"), given.get("y")), loss.dtype)
                trains.paid += scale_loss_for_distribution(penalty)  # replicas' losses are summed
        return loss + trains.paid

    return paying


def paid(model: Any) -> Any:
    """Return what views added to the loss that a model computed last, in this thread."""
    return getattr(_paid.get(model), "paid", 0.0)


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
