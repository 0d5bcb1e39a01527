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
            del vars(model)["_get_jax_state"], vars(model)["jax_state_sync"]
            _carried.pop(model, None)

    return end


def _methods(model: Any, held: list[tuple[keras.Variable, ...]]) -> dict[str, Callable]:
    get, sync = model._get_jax_state, model.jax_state_sync

    @functools.wraps(get)
    def carrying(**asked: Any) -> Any:
        if asked.get("optimizer_variables"):
            _drop(model)
            model._seed_generators += [_Kept(v) for state in held for v in state]
        return get(**asked)

    @functools.wraps(sync)
    def syncing() -> None:
        sync()
        _drop(model)

    methods: dict[str, Callable] = {"_get_jax_state": carrying, "jax_state_sync": syncing}
    for method in methods.values():
        method.is_surrounded = True  # type: ignore[attr-defined]
    return methods


def _drop(model: Any) -> None:
    model._seed_generators[:] = [g for g in model._seed_generators if not isinstance(g, _Kept)]


@dataclass(frozen=True, eq=False)
class _Kept:
    """State of a model that is neither among its weights nor in its files, as that of seeds is."""

    state: keras.Variable
