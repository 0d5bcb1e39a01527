"""Private Keras, walks: a graph that is run call by call, by whatever stands for its operations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree
from keras.src.backend.common.masking import get_keras_mask, set_keras_mask

from prune_keras._keras.graphs import function_of, graph_at, graph_of, nodes_of
from prune_keras._keras.masks import carried_mask, carry


@dataclass(frozen=True)
class Call:
    """One call of one operation in a model: where it stands and what it was given."""

    path: str
    node: Any
    args: tuple
    kwargs: dict

    @property
    def operation(self) -> Any:
        return self.node.operation


def walk(
    model: Any,
    inputs: list,
    call: Callable[[Call], Any],
    see: Callable[[Any, Any], None] = lambda tensor, value: None,
    prefix: str = "",
    into: Callable[[Any, str], Any] = lambda node, path: graph_at(node),
) -> list:
    """Run `call` over the graph in place of its operations, nested models included.

    What no operation reads any more is let go.

    Args:
        model: functional or built Sequential model.
        inputs: flat list of what stands for each input tensor.
        call: receives a `Call`; returns what stands for the operation's outputs.
        see: receives every symbolic tensor and what stands for it.
        prefix: path of the model inside the outermost one.
        into: receives a call in a graph and its path; returns the graph that is run in its place,
            or None. Defaults to `graph_at`.

    Returns:
        Flat list of what stands for each output tensor.
    """
    function = graph_of(model)
    nodes = nodes_of(function)
    left = Counter(id(tensor) for tensor in function.outputs)
    left.update(id(tensor) for node in nodes for tensor in node.arguments.keras_tensors)
    values: dict[int, Any] = {}

    def put(tensors: list, given: list) -> None:
        for tensor, value in zip(tensors, given, strict=True):
            values[id(tensor)] = value
            see(tensor, value)

    put(function.inputs, inputs)
    for node in nodes:
        args, kwargs = node.arguments.fill_in(values)
        for tensor in node.arguments.keras_tensors:
            left[id(tensor)] -= 1
            if not left[id(tensor)]:
                values.pop(id(tensor), None)
        path = f"{prefix}{node.operation.name}"
        graph = into(node, path)
        if graph is not None:
            inner = _adjusted(node, given_to(node, args, kwargs), call, path)
            given = walk(graph, inner, call, see, f"{path}/", into)
        else:
            given = tree.flatten(call(Call(path, node, args, kwargs)))
        put(node.outputs, given)
        del args, kwargs, given
    return [values[id(tensor)] for tensor in function.outputs]


def given_to(node: Any, args: tuple, kwargs: dict) -> list:
    """Return what stands for the inputs of a call's graph, of all that stands for its arguments."""
    if function_of(node.operation) is None:
        arguments = node.arguments
        pairs = zip(
            tree.flatten((arguments.args, arguments.kwargs)),
            tree.flatten((args, kwargs)),
            strict=True,
        )
        return [value for tensor, value in pairs if isinstance(tensor, keras.KerasTensor)]
    return _given(node.operation, args, kwargs)


def _given(model: Any, args: tuple, kwargs: dict) -> list:
    """Return what a nested model is called on, in the order of its inputs."""
    given, inputs = args[0] if args else kwargs["inputs"], function_of(model)._inputs_struct
    if not isinstance(given, dict) or isinstance(inputs, dict):
        return tree.flatten(given)
    return [given[tensor.name] for tensor in tree.flatten(inputs)]  # as Keras looks them up


def is_adjusted(node: Any) -> bool:
    """Tell whether a nested model is called on tensors of other ranks than its inputs have.

    Keras takes a last axis of one entry away, or adds it, before it runs the graph; the shapes that
    it tells of the call are those without.
    """
    if function_of(node.operation) is None:
        return False
    return any(
        isinstance(tensor, keras.KerasTensor) and len(tensor.shape) != len(like.shape)
        for tensor, like in _tensors_and_inputs(node)
    )


def _adjusted(node: Any, given: list, call: Callable[[Call], Any], path: str) -> list:
    """Return what stands for the inputs of a nested model, of their ranks; constants as tensors."""
    if function_of(node.operation) is None:
        return given
    steps = [_step_between(*pair) for pair in _tensors_and_inputs(node)]
    return [
        value if step is None else tree.flatten(call(Call(path, step, (value,), {})))[0]
        for value, step in zip(given, steps, strict=True)
    ]


def _tensors_and_inputs(node: Any) -> Iterator[tuple[Any, Any]]:
    given = _given(node.operation, node.arguments.args, node.arguments.kwargs)
    return zip(given, function_of(node.operation).inputs, strict=True)


def _step_between(tensor: Any, like: Any) -> Any:
    """Return a call that makes an input of what a nested model is given; None where it is one."""
    if tensor is None:
        return None
    fresh = keras.KerasTensor(tensor.shape, keras.backend.standardize_dtype(tensor.dtype))
    if len(tensor.shape) > len(like.shape):
        made = ops.squeeze(fresh, axis=-1)
    elif len(tensor.shape) < len(like.shape):
        made = ops.expand_dims(fresh, axis=-1)
    elif not isinstance(tensor, keras.KerasTensor):
        made = ops.convert_to_tensor(fresh)
    else:
        return None
    return made._keras_history.operation._inbound_nodes[0]


def rebuilt(
    function: Any,
    call: Callable[[Any, tuple, dict], Any],
    name: str | None = None,
    carry: Callable[[list, list], None] = carry,
) -> Any:
    """Return a functional model of the same graph, with something else in place of operations.

    Args:
        function: functional model; it gets no new nodes, the operations that are called do.
        call: receives an operation and its arguments, and returns what stands for its outputs.
        name: name of the model. Defaults to None: that of the function.
        carry: receives the inputs, and the masks that come with them or None for each.
    """
    values: dict[int, Any] = {}
    inputs = tree.map_structure(input_like, function._inputs_struct)
    values |= zip(map(id, function.inputs), tree.flatten(inputs), strict=True)
    masks = [carried_mask(tensor) for tensor in function.inputs]
    carry(tree.flatten(inputs), [values.get(id(mask)) for mask in masks])
    for node in nodes_of(function):
        given = call(node.operation, *node.arguments.fill_in(values))
        values |= zip(map(id, node.outputs), tree.flatten(given), strict=True)
    outputs = tree.map_structure(lambda tensor: values[id(tensor)], function._outputs_struct)
    return keras.Model(inputs, outputs, name=name or function.name)


def input_like(tensor: Any) -> Any:
    """Return another input of a graph like one of its own."""
    name = tensor._keras_history.operation.name
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=name)


def run(call: Call, training: bool = False) -> Any:
    """Run the operation of a call on real tensors."""
    if getattr(call.operation, "_call_has_training_arg", False):
        return call.operation(*call.args, **{**call.kwargs, "training": training})
    return call.operation(*call.args, **call.kwargs)


def mask_of(call: Call, tensor: Any) -> Any:
    """Return the mask that a call is given, or else that one of its inputs carries, or None."""
    given = call.kwargs.get("mask")
    return carried_mask(tensor) if given is None else given


def with_mask_of(source: Any, tensor: Any) -> Any:
    """Let a tensor carry the mask that another one carries, if that has one."""
    mask = get_keras_mask(source)
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def first_input(visited: Call) -> Any:
    """Return the first tensor that a call is given, by position or by name."""
    return tree.flatten((visited.args, visited.kwargs))[0]


def given_tensors(call: Call) -> dict[int, Any]:
    """Return what stands for each symbolic tensor that a call reads, by the tensor's id."""
    symbolic = tree.flatten((call.node.arguments.args, call.node.arguments.kwargs))
    given = tree.flatten((call.args, call.kwargs))
    pairs = zip(symbolic, given, strict=True)
    return {id(s): value for s, value in pairs if isinstance(s, keras.KerasTensor)}
