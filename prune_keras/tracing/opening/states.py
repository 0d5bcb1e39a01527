"""States that recurrent layers start from, where a `call` makes them for its batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import KerasTensor, layers, ops, tree

from prune_keras.tracing.opening import own_weights
from prune_keras.tracing.opening.recording import tensors_in


def for_each_sample(operation: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Return what a layer is called with, so that states of one sample are there for each.

    A compiled loop must begin with states of the sizes that it ends with. Zeros are what it begins
    with by itself.

    Args:
        operation: the layer.
        args, kwargs: what it was called with, symbolic tensors among it.
    """
    positional = len(args) > 1
    given = args[1] if positional else kwargs.get("initial_state")
    if not isinstance(operation, layers.RNN | layers.Bidirectional) or given is None:
        return args, kwargs
    if not operation.stateful and all(map(_is_zero, tree.flatten(given))):
        states = None
    else:
        (first, *_) = tensors_in(args, kwargs)
        states = tree.map_structure(lambda state: _repeated(state, first), given)
    if positional:
        return (args[0], states, *args[2:]), kwargs
    return args, {**kwargs, "initial_state": states}


def _is_zero(state: Any) -> bool:
    return isinstance(state, np.ndarray) and len(state) == 1 and not state.any()


def _repeated(state: Any, tensor: Any) -> Any:
    """Return a constant of one sample for each sample of a tensor."""
    if isinstance(state, KerasTensor) or tuple(state.shape[:1]) != (1,):
        return state
    ones = own_weights.ones(tensor, str(state.dtype))
    return ops.multiply(ops.reshape(ones, (-1,) + (1,) * (len(state.shape) - 1)), state)
