"""Private Keras, steps: what stands around the steps of a model for the time of a `fit`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from prune_keras import _backend

Around = Callable[[str, Any], contextlib.AbstractContextManager]
"""From the name of a step and its batch to a context in which the step is run, or traced.

What the context gives, if anything, takes the place of the batch.
"""

_COMPILED = {"train_step": "train_function", "test_step": "test_function"}
_around: WeakKeyDictionary = WeakKeyDictionary()


def surround(model: Any, names: Sequence[str], around: Around) -> Callable[[], None]:
    """Run steps of a model within a context from now on; several may stand around one step.

    Keras looks a step up on the model as it makes a function of it, so that a step set there takes
    part in what is compiled, on each backend, and in what is compiled anew after a cut.

    Args:
        model: a compiled model.
        names: which of `{"train_step", "test_step"}`.
        around: what the steps are run within.

    Returns:
        A function that takes the context away again; to call it twice is no error.

    Raises:
        ValueError: if the model is trained by several replicas, whose steps run side by side.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Steps that something stands around must be run by one replica. Received: "
            f"{model.name!r}, under a strategy of {strategy.num_replicas_in_sync}. "
            "Fit this model outside of the strategy's scope."
        )
    held = _around.setdefault(model, {})
    for name in names:
        if name not in held:
            vars(model)[name] = _surrounded(model, name, held.setdefault(name, []))
        held[name].append(around)
        _renew(model, name)

    def end() -> None:
        for name in names:
            if around in held.get(name, ()):
                held[name].remove(around)
                _tidy(model, name, held)
                _renew(model, name)

    return end


def is_surrounded(value: Any) -> bool:
    """Tell whether an attribute of a model is a step that `surround` set."""
    return getattr(value, "is_surrounded", False) is True


def _surrounded(model: Any, name: str, arounds: list[Around]) -> Callable:
    step = getattr(model, name)

    @functools.wraps(step)
    def surrounded(*args: Any) -> Any:
        *state, batch = args
        with contextlib.ExitStack() as held:
            for around in arounds:
                given = held.enter_context(around(name, batch))
                batch = batch if given is None else given
            return step(*state, batch)

    surrounded.is_surrounded = True  # type: ignore[attr-defined]
    return surrounded


def _tidy(model: Any, name: str, held: dict[str, list[Around]]) -> None:
    if not held[name]:
        del held[name]
        if is_surrounded(vars(model).get(name)):
            del vars(model)[name]


def _renew(model: Any, name: str) -> None:
    """Let the function that was compiled of a step be made anew, where there is one."""
    compiled = getattr(model, _COMPILED[name], None)
    if compiled is not None:
        _backend.dispose(compiled)
        setattr(model, _COMPILED[name], None)
        getattr(model, f"make_{_COMPILED[name]}")()
