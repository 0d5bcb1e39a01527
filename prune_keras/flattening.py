"""Flattening: functional models of the same layers, in one graph, by other keys, or as copies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras
from keras import tree

from prune_keras import _keras


def copied(model: Any) -> Any:
    """Return a copy of a functional model, with all that files would not tell of it.

    Raises:
        ValueError: if several layers hold a weight.
    """
    twin = _keras.clone_structure(model)
    _check_shared(model, twin)
    for old, new in zip(model.variables, twin.variables, strict=True):
        new.assign(keras.ops.copy(old.value))  # which JAX would share, and let one give away
    _keras.copy_own_state(model, twin)
    return twin


def _check_shared(nested: Any, twin: Any) -> None:
    if len(nested.variables) != len(twin.variables):
        raise ValueError(
            "A weight must belong to one layer to be unfolded. Received: "
            f"{len(nested.variables)} variables of {nested.name!r}, and {len(twin.variables)} in "
            "its copy. Let one layer hold it, and be called wherever it is used."
        )


def shares_layers(model: Any) -> bool:
    """Tell whether several of the graphs in a model have one layer."""
    held = Counter(
        id(operation)
        for function in _keras.graphs_in(model)
        for operation in {id(each): each for each in function.operations}.values()
        if _keras.is_layer(operation)
    )
    return max(held.values(), default=0) > 1


def flattened(model: Any) -> Any:
    """Return a model of the same layers in which those of nested models are its own."""
    names = {operation.name for operation in _keras.function_of(model).operations}
    named: set[int] = set()

    def call(visited: _keras.Call) -> Any:
        operation = visited.operation
        if "/" in visited.path and id(operation) not in named and operation.name not in names:
            operation.name = _unused(visited.path.replace("/", "_"), names)
            names.add(operation.name)
            named.add(id(operation))
        return operation(*visited.args, **visited.kwargs)

    function = _keras.function_of(model)
    inputs = tree.map_structure(_keras.input_like, function._inputs_struct)
    made = _keras.walk(model, tree.flatten(inputs), call)
    outputs = tree.pack_sequence_as(_keras.output_structure(model), made)
    return keras.Model(inputs, outputs, name=model.name)


def _unused(name: str, names: set[str]) -> str:
    number, found = 1, name
    while found in names:
        number += 1
        found = f"{name}_{number}"
    return found


def by_keys(model: Any, keys: list[str]) -> Any:
    """Return a model of the same layers that takes a dict; layers named like a key are renamed.

    Keras wants the inputs of a dict to be named after its keys.
    """
    function = _keras.function_of(model)
    for operation in function.operations:
        if operation.name in keys:
            operation.name = f"{operation.name}_layer"
    inputs = {
        key: keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=key)
        for key, tensor in zip(keys, function.inputs, strict=True)
    }

    def call(visited: _keras.Call) -> Any:
        return visited.operation(*visited.args, **visited.kwargs)

    flat = [inputs[key] for key in keys]
    # Nested models are called as they are.
    made = _keras.walk(model, flat, call, into=lambda node, path: None)
    outputs = tree.pack_sequence_as(_keras.output_structure(model), made)
    return keras.Model(inputs, outputs, name=model.name)
