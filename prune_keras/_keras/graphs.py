"""Private Keras, graphs: the calls of a functional model, and who else makes them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional


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


def function_of(operation: Any) -> Any:
    """Return the graph behind a functional or Sequential model, or None where `call` hides it."""
    if isinstance(operation, keras.Sequential):
        return operation._functional if type(operation).call is keras.Sequential.call else None
    if isinstance(operation, Functional):
        return operation if type(operation).call is Functional.call else None
    return None


def nodes_of(function: Functional) -> list:
    """Return the graph's calls, inputs first."""
    by_depth = function._nodes_by_depth
    ordered = (node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth])
    return [node for node in ordered if node.operation and not node.is_input]


def walk(
    model: Any,
    inputs: list,
    call: Callable[[Call], Any],
    see: Callable[[Any, Any], None] = lambda tensor, value: None,
    prefix: str = "",
) -> list:
    """Run `call` over the graph in place of its operations, nested models included.

    Args:
        model: functional or built Sequential model.
        inputs: flat list of what stands for each input tensor.
        call: receives a `Call`; returns what stands for the operation's outputs.
        see: receives every symbolic tensor and what stands for it.
        prefix: path of the model inside the outermost one.

    Returns:
        Flat list of what stands for each output tensor.
    """
    function = function_of(model)
    values: dict[int, Any] = {}

    def put(tensors: list, given: list) -> None:
        for tensor, value in zip(tensors, given, strict=True):
            values[id(tensor)] = value
            see(tensor, value)

    put(function.inputs, inputs)
    for node in nodes_of(function):
        args, kwargs = node.arguments.fill_in(values)
        path = f"{prefix}{node.operation.name}"
        if function_of(node.operation) is not None:
            given = walk(node.operation, tree.flatten(args[0]), call, see, f"{path}/")
        else:
            given = tree.flatten(call(Call(path, node, args, kwargs)))
        put(node.outputs, given)
    return [values[id(tensor)] for tensor in function.outputs]


def run(call: Call, training: bool = False) -> Any:
    """Run the operation of a call on real tensors."""
    if getattr(call.operation, "_call_has_training_arg", False):
        return call.operation(*call.args, **{**call.kwargs, "training": training})
    return call.operation(*call.args, **call.kwargs)


def models_in(model: Any) -> list:
    """Return the model and every model nested in it, the Sequential and its graph both."""
    found: dict[int, Any] = {}
    queue = [model]
    while queue:
        current = queue.pop()
        if id(current) in found:
            continue
        found[id(current)] = current
        function = function_of(current)
        if function is not None:
            queue += [function, *(op for op in function.operations if function_of(op) is not None)]
    return list(found.values())


def operations_in(model: Any) -> list:
    """Return all operations of the graph, nested ones included."""
    functions = [nested for nested in models_in(model) if isinstance(nested, Functional)]
    return [op for function in functions for op in function.operations]


def is_layer(operation: Any) -> bool:
    return isinstance(operation, keras.layers.Layer)


def all_layers(model: Any) -> list:
    return list(model._flatten_layers(include_self=True, recursive=True))


def output_structure(model: Any) -> Any:
    return function_of(model)._outputs_struct


def sample_inputs(model: Any) -> Any:
    """Return one random sample, in the structure that the model takes; open sizes become 96."""
    rng = np.random.default_rng(0)

    def sample(tensor: Any) -> Any:
        shape = (1, *(96 if size is None else size for size in tensor.shape[1:]))
        drawn = rng.uniform(size=shape) if "float" in tensor.dtype else np.zeros(shape)
        return keras.ops.convert_to_tensor(drawn, dtype=tensor.dtype)

    return tree.map_structure(sample, function_of(model)._inputs_struct)


def tolerance(model: Any) -> float:
    """Return how far equal computations may be apart, relative to the largest output."""
    half = {"bfloat16", "float16"} & {layer.compute_dtype for layer in all_layers(model)}
    return 1e-2 if half else 1e-5


def views_of(model: Any) -> list:
    """Return living models that show a part of this one's graph and add no call to it.

    They follow a change of shapes, as they share their layers and their symbolic tensors.
    """
    inside = {id(each) for each in models_in(model)}
    calls = _calls(model)
    return [x for x in _living_models() if id(x) not in inside and _is_view(x, calls)]


def _is_view(other: Any, calls: set[int]) -> bool:
    return (
        isinstance(other, Functional)
        and hasattr(other, "_nodes_by_depth")
        and function_of(other) is other
        and _calls(other) <= calls
        and not getattr(getattr(other, "optimizer", None), "built", False)
    )


def _calls(model: Any) -> set[int]:
    """Return the calls, by id, of layers in a functional or Sequential model."""
    functions = [nested for nested in models_in(model) if isinstance(nested, Functional)]
    return {id(node) for function in functions for node in nodes_of(function)}


def outside_users(model: Any) -> dict[str, str]:
    """Return layers of the model that a living model outside of it has as well, views aside.

    Returns:
        Name of the layer -> name of the other model.
    """
    users = _outside_users(model)
    if users:
        gc.collect()  # a deleted model is a cycle, which lives on until it is collected
        users = _outside_users(model)
    return users


def _outside_users(model: Any) -> dict[str, str]:
    # An input may be shared: it holds nothing that a cut changes.
    owned = [x for x in all_layers(model) if not isinstance(x, keras.layers.InputLayer)]
    names = {id(layer): layer.name for layer in owned if layer is not model}
    living, calls = _living_models(), _calls(model)
    inside = {id(x) for x in [*models_in(model), *_graphs_of_sequential(living)]}
    return {
        names[id(layer)]: other.name
        for other in living
        if id(other) not in inside and not _is_view(other, calls)
        for layer in all_layers(other)
        if id(layer) in names
    }


def _living_models() -> list:
    living = [x for x in gc.get_objects() if issubclass(type(x), keras.Model)]
    return [model for model in living if hasattr(model, "_layers")]


def _graphs_of_sequential(models: list) -> list:
    """Return the graph of each Sequential model, and the older ones that it never lets go."""
    sequential = [model for model in models if isinstance(model, keras.Sequential)]
    tracked = [held for model in sequential for held in model._tracker.config["layers"][1]]
    return [held for held in tracked if isinstance(held, Functional)]
