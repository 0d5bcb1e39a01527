"""Private Keras, state: new values for variables, new counts for what remembers shapes."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import keras
from keras import tree
from keras.src.ops.symbolic_arguments import SymbolicArguments
from keras.src.saving.serialization_lib import SerializableDict

from prune_keras import _backend
from prune_keras._keras.graphs import function_of, graphs_in, nodes_of


def held_in(variable: keras.Variable) -> Any:
    """Return the backend's variable in a Keras variable, None where it is yet to be made."""
    return variable._value


def set_value(variable: keras.Variable, value: Any) -> None:
    """Give the variable a value of any shape; the object, its name and its flags stay."""
    held = variable._value
    # Where a step failed midway, it has another shape than the variable knows of, or is gone.
    known = tuple(variable.shape) == tuple(getattr(held, "shape", ())) and not is_lost(variable)
    if known and tuple(variable.shape) == tuple(value.shape):
        variable.assign(value)
        return
    value = keras.ops.convert_to_tensor(value, dtype=variable.dtype)
    made = _backend.renewed(held, value)
    with _scope_of(variable):
        variable._initialize(made)
    variable._shape = variable._validate_shape(tuple(value.shape))
    _backend.retire(held)


def is_lost(variable: keras.Variable) -> bool:
    """Tell whether a JAX training step took a variable's value, and failed before it gave another.

    Keras takes the values out of the model meanwhile; or the step was given their memory.
    """
    held = variable._value
    return held is None or bool(getattr(held, "is_deleted", bool)())


def parts_along(variable: keras.Variable) -> dict[int, int]:
    """Return the axes of a variable along which devices hold parts of it, and how many parts.

    That is so where a `keras.distribution.ModelParallel` lays it out on JAX.
    """
    layout = getattr(variable, "_layout", None)
    mesh = getattr(layout, "device_mesh", None)
    if layout is None or mesh is None:
        return {}
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
    return {axis: sizes[name] for axis, name in enumerate(layout.axes) if name is not None}


def _scope_of(variable: keras.Variable) -> contextlib.ExitStack:
    """Return the scope in which the backend's variable gets the name that it has now.

    On TensorFlow, what is excluded from weight decay by name is looked for in it.
    """
    name = getattr(variable._value, "name", None)
    scope = contextlib.ExitStack()
    for part in name.split("/")[:-1] if isinstance(name, str) else ():
        scope.enter_context(keras.name_scope(part))
    return scope


def set_value_on_exit(variable: keras.Variable, value: Any) -> None:
    """Let a variable made in a `keras.StatelessScope` start from `value` when the scope ends."""
    variable._shape = variable._validate_shape(tuple(value.shape))
    # Some backends would share the memory, and write to it or free it in a training step.
    variable._initializer = lambda shape, dtype: keras.ops.copy(keras.ops.cast(value, dtype))


@contextlib.contextmanager
def other_values(pairs: Sequence[tuple[keras.Variable, Any]]) -> Iterator[None]:
    """Let variables show other values, of any shape, to what is computed within."""
    scope = keras.StatelessScope()
    held = [(variable, variable._shape) for variable, _ in pairs]
    try:
        for variable, value in pairs:
            scope.add_update((variable, value))
            variable._shape = tuple(value.shape)
        with scope:
            yield
    finally:
        for variable, shape in held:
            variable._shape = shape


def set_attribute(owner: Any, name: str, value: Any) -> None:
    """Set an attribute, and the same constructor argument where Keras stored it for saving."""
    setattr(owner, name, value)
    stored = getattr(owner, "_auto_config", None)
    if stored is not None and name in stored.config:
        owner._auto_config = SerializableDict(**{**stored.config, name: value})


def with_argument(node: Any, position: int, name: str, value: Any) -> SymbolicArguments:
    """Return the node's arguments with one of them replaced, however it was passed."""
    args, kwargs = list(node.arguments.args), dict(node.arguments.kwargs)
    if position < len(args):
        args[position] = value
    else:
        kwargs[name] = value
    return SymbolicArguments(*args, **kwargs)


def with_arguments(node: Any, changes: dict[tuple, Any]) -> SymbolicArguments:
    """Return the node's arguments with some replaced.

    Args:
        node: the call.
        changes: new values; each key is a position or keyword, and places in the lists there.
    """

    def changed(value: Any, path: tuple) -> Any:
        if path in changes:
            return changes[path]
        if isinstance(value, list | tuple) and any(key[: len(path)] == path for key in changes):
            parts = [changed(part, (*path, place)) for place, part in enumerate(value)]
            return tuple(parts) if isinstance(value, tuple) else parts
        return value

    args = [changed(value, (place,)) for place, value in enumerate(node.arguments.args)]
    kwargs = {name: changed(value, (name,)) for name, value in node.arguments.kwargs.items()}
    return SymbolicArguments(*args, **kwargs)


def shape_attributes(
    model: Any,
    shapes: dict[int, tuple],
    arguments: Mapping[int, SymbolicArguments] = MappingProxyType({}),
) -> list[tuple[Any, str, Any]]:
    """Return every attribute by which the graph and its layers remember shapes of tensors.

    Args:
        model: functional or Sequential model.
        shapes: new shape of symbolic tensors, by their id.
        arguments: new arguments of calls that are given others, by the id of the node.

    Returns:
        (owner, name, value) triples.
    """
    attributes = []
    for function in graphs_in(model, in_training=True):
        # Layers do not know of the calls that were only recorded.
        recorded = [*nodes_of(function), *_known(function.operations)]
        calls: dict[int, dict[int, Any]] = defaultdict(dict)
        for node in recorded:
            calls[id(node.operation)][id(node)] = node
        for operation in function.operations:
            nodes = [*calls[id(operation)].values()]
            attributes += _operation_shapes(operation, nodes, shapes, arguments)
    return attributes


def _known(operations: Iterable[Any]) -> list:
    return [node for operation in operations for node in operation._inbound_nodes]


def _operation_shapes(
    operation: Any,
    nodes: list,
    shapes: dict[int, tuple],
    arguments: Mapping[int, SymbolicArguments],
) -> list[tuple[Any, str, Any]]:
    live = [node for node in nodes if id(node.outputs[0]) in shapes]
    if not live:
        return []
    found = [(t, "_shape", shapes[id(t)]) for node in live for t in node.outputs]
    # A Sequential model calls its layers anew whenever one is added; old calls linger.
    for stale in (node for node in nodes if node not in live):
        for old, now in zip(stale.outputs, live[0].outputs, strict=True):
            if old.shape == now.shape:
                found.append((old, "_shape", shapes[id(now)]))
    if isinstance(operation, keras.layers.InputLayer):
        return [*found, (operation, "_batch_shape", shapes[id(live[0].outputs[0])])]
    if isinstance(operation, keras.layers.Layer):
        given = arguments.get(id(live[0]), live[0].arguments)
        found += _input_shapes(operation, given, shapes)
    return found


def _input_shapes(
    layer: Any, arguments: SymbolicArguments, shapes: dict[int, tuple]
) -> list[tuple[Any, str, Any]]:
    """Return what a layer remembers of its inputs' shapes: where it was built, what it takes."""
    found = []
    bound = inspect.signature(layer.call).bind(*arguments.args, **arguments.kwargs).arguments
    given = {
        f"{name}_shape": tree.map_structure(lambda t: shapes.get(id(t), tuple(t.shape)), value)
        for name, value in bound.items()
        if all(hasattr(each, "shape") for each in tree.flatten(value))
    }
    if not given:
        return []
    taken = next(iter(given.values()))
    built = layer._build_shapes_dict
    if built is not None and len(built) == 1:
        found.append((layer, "_build_shapes_dict", {next(iter(built)): taken}))
    elif built is not None and built.keys() <= given.keys():
        found.append((layer, "_build_shapes_dict", {name: given[name] for name in built}))
    if getattr(layer, "_build_input_shape", None) is not None:
        found.append((layer, "_build_input_shape", taken))
    spec = layer.input_spec if function_of(layer) is None else None
    if isinstance(spec, keras.layers.InputSpec) and spec.axes:
        changed = copy.copy(spec)
        changed.axes = {axis: taken[axis] for axis in spec.axes}
        found.append((layer, "input_spec", changed))
    return found
