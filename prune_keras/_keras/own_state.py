"""Private Keras, own state: what layers keep beside variables and arguments, and write into files.

These are tables of lookups, files, arrays: whatever `save_assets` and `save_own_variables` hold.
"""

from __future__ import annotations

import tempfile
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from prune_keras._keras.configs import same_layers

# Their hooks hold nothing else than variables, quantized ones too.
_VARIABLES_ONLY = {
    kind.load_own_variables
    for kind in (
        layers.Layer,
        layers.Dense,
        layers.EinsumDense,
        layers.Embedding,
        layers.Conv1D,
        layers.Conv2D,
        layers.Conv3D,
        layers.DepthwiseConv2D,
    )
}


def copy_own_state(model: Any, twin: Any) -> None:
    """Give a copy what its layers keep beside variables and arguments, as a file would.

    Args:
        model: the model or layer that was copied; it is not changed.
        twin: the copy, of the same layers in the same order, maybe thinner; its variables stay.
            Layers that it shares are left.
    """
    for old, new in same_layers(model, twin):
        if old is new:
            continue
        if type(old).load_own_variables not in _VARIABLES_ONLY:
            _copy_store(old, new)
        if hasattr(old, "save_assets") and hasattr(new, "load_assets"):
            with tempfile.TemporaryDirectory() as folder:
                old.save_assets(folder)
                new.load_assets(folder)


def _copy_store(old: Any, new: Any) -> None:
    """Let a layer load what another one of its kind saves; variables are those it has."""
    held = [(variable, ops.copy(variable.value)) for variable in new.variables]
    pairs = zip(old.variables, new.variables, strict=True)
    cut = [_array(before) for before, now in pairs if before.shape != now.shape]
    store = _saved(old)
    if cut:
        store |= {name: _own(value, _saved(new)[name], cut) for name, value in store.items()}
    new.load_own_variables(store)
    for variable, value in held:
        variable.assign(value)


def _saved(layer: Any) -> dict[str, Any]:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    return {name: _array(value) for name, value in store.items()}


def _own(value: Any, own: Any, cut: list[Any]) -> Any:
    """Return what a layer loads in place of a value: what it has, for a variable that was cut."""
    return own if any(np.array_equal(value, before) for before in cut) else value


def _array(value: Any) -> Any:
    tensor = isinstance(value, keras.Variable) or keras.ops.is_tensor(value)
    return ops.convert_to_numpy(value) if tensor else value
