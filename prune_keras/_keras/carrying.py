"""Private Keras, carrying: variables that training steps update and no model owns.

TensorFlow and PyTorch update them where they stand. On JAX a step has no state but what it is
given, so that Keras carries these from batch to batch as it does seeds. Between its epochs, and
wherever else the model can be looked at or copied, it has none of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import keras

_carried: WeakKeyDictionary = WeakKeyDictionary()


def carry_along(model: Any, state: Sequence[keras.Variable]) -> Callable[[], None]:
    """Let training steps of a model update variables that are not its own, from now on.

    Returns:
        A function that lets go of them; to call it twice is no error.
    """
    if not state or not hasattr(model, "jax_state_sync"):
        return lambda: None
    held, state = _carried.setdefault(model, []), tuple(state)
    if not held:
        vars(model).update(_methods(model, held))
    held.append(state)

    def end() -> None:
        found = [each for each in held if each is state]
        for each in found:
            held.remove(each)
            _drop(model)
        if found and not held:
            for name in _METHODS:
                del vars(model)[name]
            _carried.pop(model, None)

    return end


_METHODS = ("_get_jax_state", "jax_state_sync", "make_train_function")


def _methods(model: Any, held: list[tuple[keras.Variable, ...]]) -> dict[str, Callable]:
    get, sync, make = model._get_jax_state, model.jax_state_sync, model.make_train_function

    def take() -> None:
        _drop(model)
        model._seed_generators += [_Kept(v) for state in held for v in state]

    @functools.wraps(get)
    def carrying(**asked: Any) -> Any:
        if asked.get("optimizer_variables"):
            take()
        return get(**asked)

    @functools.wraps(sync)
    def syncing() -> None:
        sync()
        _drop(model)

    @functools.wraps(make)
    def making(*args: Any, **kwargs: Any) -> None:
        before = model._seed_generators[:]
        take()  # where devices share the work, Keras looks at how each variable lies on them
        try:
            make(*args, **kwargs)
        finally:
            model._seed_generators[:] = before

    methods: list[Callable] = [carrying, syncing, making]
    for method in methods:
        method.is_surrounded = True  # type: ignore[attr-defined]
    return dict(zip(_METHODS, methods, strict=True))


def _drop(model: Any) -> None:
    model._seed_generators[:] = [g for g in model._seed_generators if not isinstance(g, _Kept)]


@dataclass(frozen=True, eq=False)
class _Kept:
    """State of a model that is neither among its weights nor in its files, as that of seeds is."""

    state: keras.Variable
